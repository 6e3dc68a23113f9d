"""What a classifier does to an image before its first layer, differentiable: resize, centre crop, normalise."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ..errors import InputError

Size = tuple[int, int]
LARGEST_SIDE = 4096
"""Height and width in pixels."""

INTERPOLATIONS = {"nearest": "nearest-exact", "bilinear": "bilinear", "bicubic": "bicubic"}
"""Pillow's names of the filters that torch has too, and torch's names; with antialias their pixels are Pillow's."""


class Preprocessing(nn.Module):
    """Images in [0, 1] at their natural size to the numbers that a network takes; gradients reach the images.

    In this order: resize, centre crop, ``(image - mean) / std``. **Images that already have the network's input size
    are neither resized nor cropped**: a program's border or a patch at the edge arrives whole, also where the
    pipeline would have enlarged the image and cut its margins off.

    Args:
        mean: per channel, on the [0, 1] scale. Its length is the number of channels that the images must have.
        std: per channel, on the [0, 1] scale; not zero.
        resize: None, a height and width, or one number for the shorter side (the shape is kept).
        crop: None, or the height and width that are cut from the middle.
        interpolation: ``"nearest"``, ``"bilinear"`` or ``"bicubic"``; the last two average when they shrink.
        reverse_channels: hand the channels over in reverse (BGR).

    Raises:
        InputError: an unknown filter, sizes below 1, a crop larger than what is left to cut from, or a mean and std
            that do not fit together.

    Example:
        >>> prepare = Preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3, resize=40, crop=(32, 32))
        >>> prepare(torch.ones(1, 3, 50, 80)).shape, prepare.input_size
        (torch.Size([1, 3, 32, 32]), (32, 32))
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
        resize: int | Size | None = None,
        crop: Size | None = None,
        interpolation: str = "bicubic",
        reverse_channels: bool = False,
    ) -> None:
        super().__init__()
        if len(mean) != len(std) or len(mean) == 0 or 0.0 in std:
            raise InputError(
                f"mean={list(mean)} and std={list(std)} do not fit: each needs one number per channel, std none of 0."
            )
        if interpolation not in INTERPOLATIONS:
            raise InputError(f"interpolation={interpolation!r} is unknown: choose one of {', '.join(INTERPOLATIONS)}.")
        if resize is not None and crop is not None and not _covers(resize, crop):
            raise InputError(f"The crop {crop} is larger than the resized image ({resize}): make it smaller.")
        # Not in the state dict: they describe the pipeline and are no weights.
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        self.resize = resize
        self.crop = crop
        self.interpolation = interpolation
        self.reverse_channels = reverse_channels

    @property
    def channels(self) -> int:
        """How many channels the images must have."""
        return len(self.mean)

    @property
    def input_size(self) -> Size | None:
        """Height and width that reach the network; None when they depend on the image."""
        return self.crop or (self.resize if isinstance(self.resize, tuple) else None)

    def forward(self, images: Tensor) -> Tensor:
        """Prepare images.

        Args:
            images: in [0, 1], shape ``[n, channels, h, w]``, floating point.

        Returns:
            What the network takes, shape ``[n, channels, *input_size]``, in the images' dtype.

        Raises:
            InputError: images smaller than a crop that no resize comes before.
        """
        if images.shape[-2:] != self.input_size:
            images = self._cropped(self._resized(images))
        if self.reverse_channels:
            images = images.flip(1)
        return (images - self.mean.to(images.dtype)) / self.std.to(images.dtype)

    def _resized(self, images: Tensor) -> Tensor:
        if self.resize is None:
            return images
        size = self.resize if isinstance(self.resize, tuple) else _shorter_side(images, self.resize)
        smooth = self.interpolation != "nearest"
        images = interpolate(images, size, mode=INTERPOLATIONS[self.interpolation], antialias=smooth)
        # Bicubic overshoots at edges; an image file could not. The margin keeps the gradient of pixels at 0 or 1,
        # which rounding puts now on this side of the bound and now on the other.
        return images.clamp(-1e-5, 1 + 1e-5) if self.interpolation == "bicubic" else images

    def _cropped(self, images: Tensor) -> Tensor:
        if self.crop is None:
            return images
        (height, width), (rows, columns) = images.shape[-2:], self.crop
        if height < rows or width < columns:
            raise InputError(
                f"The images are {height} x {width} pixels, but this model cuts {rows} x {columns} from their middle "
                "and does not resize: send larger ones."
            )
        top, left = (height - rows) // 2, (width - columns) // 2
        return images[..., top : top + rows, left : left + columns]

    def at(self, size: Size) -> "Preprocessing":
        """The same pipeline for another input size: a resize before a crop grows or shrinks with it.

        Example:
            >>> small = Preprocessing(resize=256, crop=(224, 224)).at((128, 128))
            >>> small.resize, small.crop
            (146, (128, 128))
        """
        resize: int | Size = size
        if self.crop is not None and self.resize is not None:
            ratios = (size[0] / self.crop[0], size[1] / self.crop[1])
            if isinstance(self.resize, tuple):
                resize = (round(self.resize[0] * ratios[0]), round(self.resize[1] * ratios[1]))
            else:
                resize = max(round(self.resize * max(ratios)), *size)
        return Preprocessing(
            mean=self.mean.flatten().tolist(),
            std=self.std.flatten().tolist(),
            resize=resize,
            crop=None if self.crop is None else size,
            interpolation=self.interpolation,
            reverse_channels=self.reverse_channels,
        )

    def describe(self) -> dict[str, Any]:
        """The pipeline as plain values that JSON can hold."""
        return {
            "resize": self.resize,
            "crop": self.crop,
            "interpolation": self.interpolation,
            "mean": [round(value, 6) for value in self.mean.flatten().tolist()],
            "std": [round(value, 6) for value in self.std.flatten().tolist()],
            "reverse_channels": self.reverse_channels,
        }


def as_size(image_size: int | Sequence[int]) -> Size:
    """One number (a square) or height and width as a pair.

    Raises:
        InputError: anything else, or numbers below 1 or above 4096.

    Example:
        >>> as_size(128), as_size([96, 128])
        ((128, 128), (96, 128))
    """
    pair = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(pair) != 2 or not all(isinstance(side, int) and side >= 1 for side in pair):
        raise InputError(f"image_size={image_size!r} is no size: give pixels as one number, or as (height, width).")
    if max(pair) > LARGEST_SIDE:
        raise InputError(
            f"image_size={image_size!r} is beyond {LARGEST_SIDE} pixels: images of that side would fill the memory."
        )
    return pair


def _shorter_side(images: Tensor, side: int) -> Size:
    height, width = images.shape[-2:]
    # Rounded down, as Pillow-based pipelines do.
    return (side, int(side * width / height)) if height <= width else (int(side * height / width), side)


def _covers(resize: int | Size, crop: Size) -> bool:
    height, width = (resize, resize) if isinstance(resize, int) else resize
    return height >= crop[0] and width >= crop[1]
