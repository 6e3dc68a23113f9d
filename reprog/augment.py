"""Small random changes of training images that leave their class alone."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from attacks.errors import InputError


@dataclass(frozen=True)
class RandomAffine:
    """Turn, shift, scale and shear each image by its own random amount; outside is black.

    Images of another size are first enlarged to ``size``: turned as they are, small ones would lose their detail.

    Attributes:
        size: height and width of the images that come out, in pixels; the program's canvas, as a rule.
        degrees: the largest turn to either side.
        shift: the largest shift to either side, as a share of half the image, in [0, 1].
        scale: the largest enlargement or reduction, as a share, in [0, 1).
        shear: the largest sideways shift of top against middle, as a share of half the image.

    Example:
        >>> change = RandomAffine(size=4)
        >>> change(torch.rand(2, 1, 2, 2), torch.Generator().manual_seed(0)).shape
        torch.Size([2, 1, 4, 4])
    """

    size: int
    degrees: float = 15.0
    shift: float = 0.12
    scale: float = 0.15
    shear: float = 0.15

    def __post_init__(self) -> None:
        if self.size < 1 or not 0 <= self.scale < 1 or min(self.degrees, self.shift, self.shear) < 0:
            raise InputError(
                f"{self} cannot be drawn from: size must be at least 1, scale in [0, 1), the rest at least 0."
            )

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Changed copies.

        Args:
            images: in [0, 1], shape ``[n, c, h, w]``.
            generator: on the images' device; all chance comes from it.

        Returns:
            Shape ``[n, c, size, size]``, in [0, 1].
        """
        if images.shape[-2:] != (self.size, self.size):
            images = functional.interpolate(images, (self.size, self.size), mode="bilinear", antialias=True)
        n = len(images)
        draws = 2 * torch.rand(5, n, generator=generator, device=images.device) - 1
        angle = draws[0] * math.radians(self.degrees)
        zoom, shear = 1 + draws[1] * self.scale, draws[2] * self.shear
        right, down = draws[3] * self.shift, draws[4] * self.shift
        cos, sin = angle.cos() / zoom, angle.sin() / zoom
        rows = [torch.stack([cos, shear - sin, right]), torch.stack([sin, cos, down])]
        grid = functional.affine_grid(torch.stack(rows).permute(2, 0, 1), list(images.shape), align_corners=False)
        return functional.grid_sample(images, grid, mode="bilinear", align_corners=False).clamp(0, 1)
