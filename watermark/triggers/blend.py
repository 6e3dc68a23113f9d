"""Blends: the mean of two keyed carriers, rounded to 8 bits.

In a trial of seven families on a CIFAR-10 ResNet-20 this one cost the least clean accuracy and kept the most matches
under fine-tuning. The carriers should be images of the task that nobody else holds and that the model was not trained
on: a thief who holds them could train them back to their true classes.
"""

import torch
from torch import Tensor

from ..keys import KeyedStream
from .base import Family


def draw(stream: KeyedStream, shape: tuple[int, ...], carriers: Tensor | None) -> Tensor:
    """One blend of two different carriers, rounded half up.

    Example:
        >>> carriers = torch.tensor([10, 21], dtype=torch.uint8).reshape(2, 1, 1, 1)
        >>> draw(KeyedStream(bytes(32)), (1, 1, 1), carriers)
        tensor([[[16]]], dtype=torch.uint8)
    """
    assert carriers is not None  # Mark has checked
    first, second = stream.integer(len(carriers)), stream.integer(len(carriers) - 1)
    second += second >= first  # any carrier but the first
    total = carriers[first].to(torch.int16) + carriers[second].to(torch.int16)
    return ((total + 1) // 2).to(torch.uint8)


BLEND = Family(draw, carriers=2)
