"""A learned picture at a fixed place over every sample."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from attacks.engine import Parameters
from attacks.errors import InputError

from .image import ImageProgram, named, painted


@dataclass(frozen=True)
class Patch(ImageProgram):
    """The sample fills the canvas, and a learned square, ``sigmoid(canvas)``, covers it at one place.

    Source: the fixed patch of Bahng et al., "Exploring visual prompts for adapting large-scale models", 2022
    (arXiv:2203.17274), in the upper left corner. There it is added to the sample; here it covers it, as one that is
    printed and put before a camera would. It starts grey.

    Attributes:
        side: of the square, in pixels; at least 1.
        top: rows above it; at least 0. The square lies on the canvas as a whole.
        left: columns to its left; at least 0.

    Example:
        >>> import torch
        >>> program, x = Patch(size=3, side=1, top=1, left=2), torch.ones(1, 1, 3, 3)
        >>> program(x, program.start(x))[0, 0, 1]
        tensor([1.0000, 1.0000, 0.5000])
    """

    side: int = 16
    top: int = 0
    left: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        whole = all(isinstance(value, int) for value in (self.side, self.top, self.left))
        if (
            not whole
            or self.side < 1
            or min(self.top, self.left) < 0
            or max(self.top, self.left) > self.size - self.side
        ):
            raise InputError(
                f"A square of side={self.side} at top={self.top}, left={self.left} does not lie on a canvas of "
                f"{self.size} pixels: choose whole numbers, a side of at least 1, and a place with all of it inside."
            )

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The learned tensor's shape, by name."""
        return {"canvas": (1, self.channels, self.side, self.side)}

    def __call__(self, x: Tensor, parameters: Parameters) -> Tensor:
        """The canvases, shape ``[n, channels, size, size]``, in [0, 1]."""
        right, below = self.size - self.side - self.left, self.size - self.side - self.top
        around = (self.left, right, self.top, below)
        where = functional.pad(x.new_ones(self.side, self.side), around)
        return painted(self.fit_to(x, self.size), functional.pad(named(parameters)["canvas"], around), where)
