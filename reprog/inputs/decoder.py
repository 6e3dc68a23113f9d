"""An image made of every sample and added to it."""

from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor
from torch.nn import functional

from attacks.errors import InputError

from .image import AddedImage, check_blocks


@dataclass(frozen=True)
class Decoder(AddedImage):
    """A small decoder makes of what is seen of each sample the image that is added to it.

    What is seen are the sample's own colours, averaged over squares of ``patch`` x ``patch`` pixels, so that nothing
    but the program is needed and it runs where the samples are. Beside them stand learned features that are the same
    for all samples and tell the places apart, ``trigger``. One convolution with ReLU looks at a square and its eight
    neighbours; one picture for each of its channels, ``strokes``, paints the square.

    Source: the Coordinator of Oh et al., "BlackVIP: black-box visual prompting for robust transfer learning", CVPR
    2023. Its encoder is a second pretrained network, its decoder has five layers and starts anywhere; this one has two,
    and its strokes start at zero.

    Attributes:
        patch: side of the squares in pixels; at least two must fill ``size``.
        width: channels of the decoder; at least 1.
        triggers: learned features of each square; at least 0.
        epsilon: the most that it changes a pixel, by a ``tanh``; above 0, at most 1.

    Example:
        >>> program, x = Decoder(size=96), torch.rand(2, 1, 8, 8)
        >>> sum(tensor.numel() for tensor in program.start(x).values())
        5824
    """

    patch: int = 8
    width: int = 16
    triggers: int = 8
    epsilon: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_blocks(self.size, self.patch)
        if (
            not all(isinstance(count, int) for count in (self.width, self.triggers))
            or self.width < 1
            or self.triggers < 0
        ):
            raise InputError(
                f"width={self.width} and triggers={self.triggers} make no decoder: give whole numbers, the width at "
                "least 1, the triggers at least 0."
            )
        if not 0 < self.epsilon <= 1:
            raise InputError(f"epsilon={self.epsilon} must be above 0 and at most 1, the range of brightness.")

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The learned tensors' shapes, by name."""
        squares = self.size // self.patch
        return {
            "trigger": (1, self.triggers, squares, squares),
            "weight": (self.width, self.channels + self.triggers, 3, 3),
            "offset": (self.width,),
            "strokes": (self.width, self.channels, self.patch, self.patch),
        }

    def start(self, x: Tensor, *, seed: int = 0) -> dict[str, Tensor]:
        """Strokes and triggers of zero and a convolution drawn with the seed, on the device of the samples ``x``."""
        shape = self.shapes["weight"]
        drawn = 2 * torch.rand(shape, generator=torch.Generator().manual_seed(seed)) - 1
        return super().start(x) | {"weight": drawn.to(x) / sqrt(shape[1] * shape[2] * shape[3])}

    def picture(self, sample: Tensor, tensors: dict[str, Tensor]) -> Tensor:
        """What the decoder makes of each sample, shape ``[n, channels, size, size]``, at most ``epsilon``."""
        trigger = tensors["trigger"].expand(len(sample), -1, -1, -1)
        seen = torch.cat([functional.avg_pool2d(sample, self.patch), trigger], dim=1)
        hidden = functional.conv2d(seen, tensors["weight"], tensors["offset"], padding=1).relu()
        return self.epsilon * functional.conv_transpose2d(hidden, tensors["strokes"], stride=self.patch).tanh()
