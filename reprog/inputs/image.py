"""What image programs share: the canvas that the source model sees, how a sample comes on it, and what is put there."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor
from torch.nn import functional

from attacks.engine import Parameters
from attacks.errors import InputError

Interpolation = Literal["nearest", "bilinear", "bicubic"]
LUMA = (0.299, 0.587, 0.114)
"""What red, green and blue give to a grey image (ITU-R BT.601), as image libraries have it."""


@dataclass(frozen=True)
class ImageProgram:
    """The canvas, and how a sample is fitted to it.

    Samples are float images in [0, 1], shape ``[n, 1 or 3, h, w]``, of any height and width. On a colour canvas grey
    ones are repeated on its three channels; on a grey one colours become their brightness.

    Attributes:
        size: the canvas's height and width in pixels, the source model's input size; at least 1.
        interpolation: how samples are resized: "nearest", "bilinear" or "bicubic" (its overshoot is clamped); the
            latter two average over what they shrink, as a model's own preprocessing does.
        channels: of the canvas, as the source model takes them: 3, or 1 for a model of grey images.
    """

    size: int
    interpolation: Interpolation = "bilinear"
    channels: int = 3
    shared: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or self.size < 1:
            raise InputError(f"size={self.size} is no canvas: it must be a whole number of at least 1 pixel.")
        if self.interpolation not in ("nearest", "bilinear", "bicubic"):
            raise InputError(
                f"interpolation={self.interpolation!r} is unknown: choose 'nearest', 'bilinear' or 'bicubic'."
            )
        if self.channels not in (1, 3):
            raise InputError(f"channels={self.channels} is no image's: choose 3 for colour or 1 for grey.")

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the canvas in pixels."""
        return self.size, self.size

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The learned tensors' shapes, by name: one picture of the canvas's size."""
        return {"canvas": (1, self.channels, self.size, self.size)}

    def start(self, x: Tensor, *, seed: int = 0) -> dict[str, Tensor]:
        """Zeros, on the device of the samples ``x``; nothing is drawn with the ``seed``."""
        return {name: x.new_zeros(shape) for name, shape in self.shapes.items()}

    def clip(self, x: Tensor, parameters: Parameters) -> dict[str, Tensor]:
        """As they are: whatever they hold, the canvases are valid images."""
        return {name: named(parameters)[name] for name in self.shapes}

    def fit_to(self, x: Tensor, size: int) -> Tensor:
        """The samples as images of ``size`` x ``size`` pixels with the canvas's channels, in [0, 1].

        Raises:
            InputError: when the samples are no images with one or three channels.
        """
        check_images(x)
        if x.shape[-2:] != (size, size):
            smooth = self.interpolation != "nearest"
            x = functional.interpolate(x, (size, size), mode=self.interpolation, antialias=smooth).clamp(0, 1)
        return self.coloured(x)

    def coloured(self, x: Tensor) -> Tensor:
        """The images with the canvas's channels."""
        if x.shape[1] > self.channels:
            return (x * x.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True).clamp(0, 1)
        return x.expand(-1, self.channels, -1, -1)


@dataclass(frozen=True)
class AddedImage(ImageProgram, ABC):
    """The sample fills the canvas, and a picture is added all over it; the sum is clamped to [0, 1].

    Attributes:
        contrast: the samples are shrunk towards mid-grey by this factor first; above 0, at most 1. Below 1 the picture
            has room on both sides, where clamping would stop its gradient.
    """

    contrast: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.contrast <= 1:
            raise InputError(f"contrast={self.contrast} must be above 0 and at most 1.")

    def __call__(self, x: Tensor, parameters: Parameters) -> Tensor:
        """The canvases, shape ``[n, channels, size, size]``, in [0, 1]."""
        middle = (1 - self.contrast) / 2
        sample = self.fit_to(x, self.size)
        return (self.contrast * sample + (self.picture(sample, named(parameters)) + middle)).clamp(0, 1)

    @abstractmethod
    def picture(self, sample: Tensor, tensors: dict[str, Tensor]) -> Tensor:
        """What is added to samples of the canvas's size; with a leading 1 where it is the same for all of them."""


def named(parameters: Parameters) -> dict[str, Tensor]:
    """Parameters known to be named tensors, as those of programs are."""
    return cast(dict[str, Tensor], parameters)


def painted(sample: Tensor, paint: Tensor, where: Tensor) -> Tensor:
    """The sample under a paint that any number makes, ``sigmoid(paint)``, as far as ``where``, in [0, 1], covers it.

    Example:
        >>> painted(torch.tensor([0.2, 0.2]), torch.zeros(2), torch.tensor([0.0, 1.0]))
        tensor([0.2000, 0.5000])
    """
    return (sample * (1 - where) + torch.sigmoid(paint) * where).clamp(0, 1)


def check_images(x: Tensor) -> None:
    """Refuse samples that are no images with one or three channels, shape ``[n, 1 or 3, h, w]``.

    Raises:
        InputError: with their shape.

    Example:
        >>> check_images(torch.zeros(2, 1, 8, 8))
    """
    if x.dim() != 4 or x.shape[1] not in (1, 3):
        raise InputError(
            f"The samples have shape {tuple(x.shape)} but an image program takes [n, 1 or 3, height, width]: "
            "put the channels second and add the missing axes with unsqueeze."
        )


def check_blocks(size: int, patch: int) -> None:
    """Refuse a canvas that squares of ``patch`` x ``patch`` pixels do not fill, at least two of them a side.

    Raises:
        InputError: naming both sizes.

    Example:
        >>> check_blocks(96, 8)
    """
    if not isinstance(patch, int) or patch < 1 or size % patch or size < 2 * patch:
        raise InputError(
            f"patch={patch} does not fit a canvas of {size} pixels: choose a whole number that divides {size}, and is "
            "at most half of it."
        )
