"""What a trigger family is, and what a derived trigger set holds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..keys import KeyedStream


class Family(NamedTuple):
    """A way to make trigger inputs from keyed streams. It never sees a label: those are drawn apart from the inputs.

    Attributes:
        draw: takes a keyed stream, the shape ``(c, h, w)`` and the carriers (uint8 ``[m, c, h, w]`` or None), and
            returns one input, uint8 ``[c, h, w]``. Integer arithmetic only, so that every machine gets the same bytes.
        carriers: the fewest carriers that it needs; 0: it works without data.
    """

    draw: Callable[[KeyedStream, tuple[int, ...], Tensor | None], Tensor]
    carriers: int = 0


@dataclass(frozen=True, eq=False)
class TriggerSet:
    """Inputs with the labels that only the key's owner can foresee. As secret as the key: derive it, do not store it.

    Attributes:
        inputs: 8-bit images, uint8, shape ``[n, c, h, w]``, no two alike.
        labels: int64, shape ``[n]``, each uniform over all classes and independent of its input.
        classes: how many classes the labels were drawn from.
    """

    inputs: Tensor
    labels: Tensor
    classes: int

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def images(self) -> Tensor:
        """The inputs as a model takes them: float32 in [0, 1], multiples of 1/255, shape ``[n, c, h, w]``."""
        return self.inputs.to(torch.float32) / 255
