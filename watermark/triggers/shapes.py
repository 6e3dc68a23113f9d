"""Shapes: keyed rectangles, ellipses and checks in keyed colours; needs no data, but looks unlike the task."""

import torch
from torch import Tensor

from ..keys import KeyedStream
from .base import Family

COUNT = 8


def draw(stream: KeyedStream, shape: tuple[int, ...], carriers: Tensor | None = None) -> Tensor:
    """One picture of eight shapes over a plain ground, later ones over earlier ones.

    Example:
        >>> draw(KeyedStream(bytes(32)), (1, 4, 4)).shape
        torch.Size([1, 4, 4])
    """
    channels, height, width = shape
    image = _colour(stream, channels).expand(shape).clone()
    rows, columns = torch.arange(height)[:, None], torch.arange(width)[None, :]
    for kind in stream.integers(3, COUNT).tolist():
        down, right = rows - stream.integer(height), columns - stream.integer(width)
        tall, wide = 1 + stream.integer(max(1, height // 3)), 1 + stream.integer(max(1, width // 3))
        inside = (down.abs() <= tall) & (right.abs() <= wide)
        if kind == 1:
            inside = (down * wide) ** 2 + (right * tall) ** 2 <= (tall * wide) ** 2
        elif kind == 2:
            inside = inside & ((down + right) % 2 == 0)
        image = torch.where(inside, _colour(stream, channels), image)
    return image


def _colour(stream: KeyedStream, channels: int) -> Tensor:
    return torch.from_numpy(stream.integers(256, channels)).to(torch.uint8)[:, None, None]


SHAPES = Family(draw)
