"""A learned border around every sample, whose size inside it is learned too."""

from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.engine import Parameters
from attacks.errors import InputError

from .image import ImageProgram, check_images, named, painted


@dataclass(frozen=True)
class ScaledFrame(ImageProgram):
    """Like :class:`~reprog.Frame`, but how large the samples are inside it is learned as well, one size for all.

    ``share`` is the sample's side as a share of the canvas's. A sample's pixels reach the canvas by two matrices of
    bilinear weights, one down and one across, that follow it smoothly and average over what they shrink; so does the
    part of each pixel that the border covers.

    Source: Tsao et al., "AutoVP: an automated visual prompting framework", ICLR 2024. There only the sample follows the
    learned size, and where the border begins is rounded; here the loss also sees the border give way.

    Attributes:
        inner: the sample's side at the start, in pixels, as of a Frame; inside the interval.
        least: the smallest share that can be learned; above 0.
        most: the largest; above 1 the samples' edges may be cut off.

    Example:
        >>> program, x = ScaledFrame(size=4, inner=2), torch.ones(1, 1, 2, 2)
        >>> program(x, program.start(x) | {"share": torch.tensor([0.75])})[0, 0, 1]
        tensor([0.7500, 1.0000, 1.0000, 0.7500])
    """

    inner: int = 0
    least: float = 0.25
    most: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.interpolation != "bilinear":
            raise InputError(
                f"interpolation={self.interpolation!r} has no gradient in the size: a learned one takes 'bilinear'."
            )
        if not 0 < self.least <= self.most < float("inf"):
            raise InputError(
                f"The interval from least={self.least} to most={self.most} is none: least must be above 0."
            )
        if not isinstance(self.inner, int) or not self.least <= self.inner / self.size <= self.most:
            raise InputError(
                f"inner={self.inner} on a canvas of {self.size} pixels is outside the interval of shares from "
                f"least={self.least} to most={self.most}: choose {self.least * self.size:g} to "
                f"{self.most * self.size:g} pixels."
            )

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The learned tensors' shapes, by name."""
        return super().shapes | {"share": (1,)}

    def start(self, x: Tensor, *, seed: int = 0) -> dict[str, Tensor]:
        """A grey border and the size ``inner``, on the device of the samples ``x``."""
        return super().start(x) | {"share": x.new_tensor([self.inner / self.size])}

    def __call__(self, x: Tensor, parameters: Parameters) -> Tensor:
        """The canvases, shape ``[n, channels, size, size]``, in [0, 1]."""
        check_images(x)
        side = named(parameters)["share"] * self.size
        sample = self._weights(side, x.shape[2]) @ x @ self._weights(side, x.shape[3]).T
        covered = (side / 2 + 0.5 - self._places(side).abs()).clamp(0, 1)
        return painted(self.coloured(sample), named(parameters)["canvas"], 1 - covered[:, None] * covered)

    def clip(self, x: Tensor, parameters: Parameters) -> dict[str, Tensor]:
        """The share inside its interval; any canvas is a valid border."""
        tensors = super().clip(x, parameters)
        return tensors | {"share": tensors["share"].clamp(self.least, self.most)}

    def _places(self, side: Tensor) -> Tensor:
        """How far the middle of each of the canvas's pixels is from the canvas's, in pixels, shape ``[size]``."""
        return torch.arange(self.size, dtype=side.dtype, device=side.device) + (1 - self.size) / 2

    def _weights(self, side: Tensor, length: int) -> Tensor:
        """What each of ``length`` pixels of a sample gives to each of the canvas, shape ``[size, length]``."""
        step = length / side
        seen = (self._places(side) * step + (length - 1) / 2).clamp(-0.5, length - 0.5)
        pixels = torch.arange(length, dtype=side.dtype, device=side.device)
        near = (1 - (seen[:, None] - pixels).abs() / step.clamp_min(1)).clamp_min(0)
        return near / near.sum(1, keepdim=True)
