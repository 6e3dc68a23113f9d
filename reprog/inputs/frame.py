"""A learned border around every sample."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from attacks.engine import Parameters
from attacks.errors import InputError

from .image import ImageProgram, named, painted


@dataclass(frozen=True)
class Frame(ImageProgram):
    """The sample stands untouched in the middle, and the border around it is learned: ``sigmoid(canvas)`` there.

    Source: Chen et al., "Understanding and improving visual prompting: a label-mapping perspective", CVPR 2023
    (ILM-VP), after Elsayed et al., "Adversarial reprogramming of neural networks", ICLR 2019. The border starts grey.

    Attributes:
        inner: the sample's height and width on the canvas, in pixels; from 1 to ``size - 1``.

    Example:
        >>> import torch
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
        """The canvases, shape ``[n, channels, size, size]``, in [0, 1]."""
        before = (self.size - self.inner + 1) // 2
        sides = 2 * (before, self.size - self.inner - before)
        border = functional.pad(x.new_zeros(self.inner, self.inner), sides, value=1)
        return painted(functional.pad(self.fit_to(x, self.inner), sides), named(parameters)["canvas"], border)
