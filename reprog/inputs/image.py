"""Image programs: pixels that are the same for every sample, around it or all over it."""

from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor
from torch.nn import functional

from attacks.engine import Parameters
from attacks.errors import InputError

Interpolation = Literal["nearest", "bilinear", "bicubic"]
CHANNELS = 3


@dataclass(frozen=True)
class ImageProgram:
    """What both image programs share: the canvas that the source model sees, and how a sample is fitted to it.

    Samples are float images in [0, 1], shape ``[n, 1 or 3, h, w]``, of any height and width; grey ones are repeated on
    three channels. The learned pixels are one tensor, ``canvas``, shape ``[1, 3, size, size]``.

    Attributes:
        size: the canvas's height and width in pixels, the source model's input size; at least 1.
        interpolation: how samples are resized: "nearest", "bilinear" or "bicubic" (its overshoot is clamped); the
            latter two average over what they shrink, as a model's own preprocessing does.
    """

    size: int
    interpolation: Interpolation = "bilinear"
    shared: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or self.size < 1:
            raise InputError(f"size={self.size} is no canvas: it must be a whole number of at least 1 pixel.")
        if self.interpolation not in ("nearest", "bilinear", "bicubic"):
            raise InputError(
                f"interpolation={self.interpolation!r} is unknown: choose 'nearest', 'bilinear' or 'bicubic'."
            )

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the canvas in pixels."""
        return self.size, self.size

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The learned tensors' shapes, by name."""
        return {"canvas": (1, CHANNELS, self.size, self.size)}

    def start(self, x: Tensor) -> dict[str, Tensor]:
        """Zeros for the learned pixels, on the device of the samples ``x``."""
        return {name: x.new_zeros(shape) for name, shape in self.shapes.items()}

    def fit_to(self, x: Tensor, size: int) -> Tensor:
        """The samples as colour images of ``size`` x ``size`` pixels, in [0, 1].

        Raises:
            InputError: when the samples are no images with one or three channels.
        """
        if x.dim() != 4 or x.shape[1] not in (1, CHANNELS):
            raise InputError(
                f"The samples have shape {tuple(x.shape)} but an image program takes [n, 1 or 3, height, width]: "
                "put the channels second and add the missing axes with unsqueeze."
            )
        if x.shape[-2:] != (size, size):
            smooth = self.interpolation != "nearest"
            x = functional.interpolate(x, (size, size), mode=self.interpolation, antialias=smooth).clamp(0, 1)
        return x.expand(-1, CHANNELS, -1, -1)


@dataclass(frozen=True)
class FullImage(ImageProgram):
    """The sample fills the canvas, and one learned image is added all over it, clamped to [0, 1].

    Source: the full watermark of Cai et al., "Sample-specific masks for visual reprogramming-based prompting", ICML
    2024. There it is added after normalisation and never clamped. Here every input is a valid image; a lower
    ``contrast`` of the samples gives the learned image room on both sides, where clamping would stop its gradient.

    Attributes:
        contrast: the samples are shrunk towards mid-grey by this factor first; above 0, at most 1.

    Example:
        >>> program = FullImage(size=4)
        >>> x = torch.full((2, 1, 2, 2), 0.25)
        >>> program(x, program.start(x)).shape
        torch.Size([2, 3, 4, 4])
        >>> program(x, {"canvas": torch.ones(1, 3, 4, 4)}).unique()
        tensor([1.])
    """

    contrast: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.contrast <= 1:
            raise InputError(f"contrast={self.contrast} must be above 0 and at most 1.")

    def __call__(self, x: Tensor, parameters: Parameters) -> Tensor:
        """The canvases, shape ``[n, 3, size, size]``, in [0, 1]."""
        middle = (1 - self.contrast) / 2
        return (self.contrast * self.fit_to(x, self.size) + (_canvas(parameters) + middle)).clamp(0, 1)

    def clip(self, x: Tensor, parameters: Parameters) -> dict[str, Tensor]:
        """Within one full range of brightness: beyond it no sample would change any further."""
        return {"canvas": _canvas(parameters).clamp(-1, 1)}


@dataclass(frozen=True)
class Frame(ImageProgram):
    """The sample stands untouched in the middle, and the border around it is learned: ``sigmoid(canvas)`` there.

    Source: Chen et al., "Understanding and improving visual prompting: a label-mapping perspective", CVPR 2023
    (ILM-VP), after Elsayed et al., "Adversarial reprogramming of neural networks", ICLR 2019. The border starts grey.

    Attributes:
        inner: the sample's height and width on the canvas, in pixels; from 1 to ``size - 1``.

    Example:
        >>> program = Frame(size=4, inner=2)
        >>> x = torch.ones(1, 1, 2, 2)
        >>> program(x, program.start(x))[0, 0]
        tensor([[0.5000, 0.5000, 0.5000, 0.5000],
                [0.5000, 1.0000, 1.0000, 0.5000],
                [0.5000, 1.0000, 1.0000, 0.5000],
                [0.5000, 0.5000, 0.5000, 0.5000]])
    """

    inner: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.inner, int) or not 1 <= self.inner < self.size:
            raise InputError(
                f"inner={self.inner} leaves no frame on a canvas of {self.size} pixels: choose 1 to {self.size - 1}."
            )

    def __call__(self, x: Tensor, parameters: Parameters) -> Tensor:
        """The canvases, shape ``[n, 3, size, size]``, in [0, 1]."""
        before = (self.size - self.inner + 1) // 2
        after = self.size - self.inner - before
        border = torch.ones(self.inner, self.inner, dtype=torch.bool, device=x.device)
        border = functional.pad(~border, (before, after, before, after), value=True)
        placed = functional.pad(self.fit_to(x, self.inner), (before, after, before, after))
        return placed + torch.sigmoid(_canvas(parameters)) * border

    def clip(self, x: Tensor, parameters: Parameters) -> dict[str, Tensor]:
        """As they are: the sigmoid makes a valid border of any."""
        return {"canvas": _canvas(parameters)}


def _canvas(parameters: Parameters) -> Tensor:
    return cast(dict[str, Tensor], parameters)["canvas"]
