"""One learned image of low rank added all over every sample."""

from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from attacks.errors import InputError

from .image import AddedImage


@dataclass(frozen=True)
class LowRank(AddedImage):
    """The image that is added to every sample is, in each channel, a product of a tall and a wide matrix.

    ``down @ across`` shares what it learns along rows and columns, and has ``2 * rank / size`` times the numbers of a
    :class:`~reprog.FullImage`.

    Source: Jin et al., "LoR-VP: low-rank visual prompting for efficient vision model adaptation", ICLR 2025. As there,
    one factor starts at zero and the other is drawn from a normal distribution, so that the product starts at zero and
    learns. Its spread, 0.01 there, is ``1 / sqrt(rank)`` here: then a first step of Adam changes the image by as much
    as it would change a FullImage.

    Attributes:
        rank: columns of the one matrix and rows of the other; from 1 to ``size``.

    Example:
        >>> program, x = LowRank(size=8, rank=2), torch.rand(2, 1, 8, 8)
        >>> {name: tuple(tensor.shape) for name, tensor in program.start(x).items()}
        {'down': (3, 8, 2), 'across': (3, 2, 8)}
    """

    rank: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.rank, int) or not 1 <= self.rank <= self.size:
            raise InputError(
                f"rank={self.rank} is none of a canvas of {self.size} pixels: choose a whole number, 1 to {self.size}."
            )

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The learned tensors' shapes, by name."""
        return {"down": (self.channels, self.size, self.rank), "across": (self.channels, self.rank, self.size)}

    def start(self, x: Tensor, *, seed: int = 0) -> dict[str, Tensor]:
        """A product of zero, on the device of the samples ``x``; ``across`` is drawn with the seed."""
        drawn = torch.randn(self.shapes["across"], generator=torch.Generator().manual_seed(seed))
        return super().start(x) | {"across": drawn.to(x) / sqrt(self.rank)}

    def picture(self, sample: Tensor, tensors: dict[str, Tensor]) -> Tensor:
        """The product, shape ``[1, channels, size, size]``."""
        return (tensors["down"] @ tensors["across"])[None]
