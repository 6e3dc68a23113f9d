"""A picture pasted into images, somewhere else each time.

Sources: Brown et al., "Adversarial patch", 2017 (arXiv:1712.09665), and for the expectation over what may happen to it
Athalye et al., "Synthesizing robust adversarial examples", ICML 2018.
"""

from dataclasses import dataclass
from math import pi
from typing import NamedTuple

import torch
from torch import Tensor

from attacks.errors import InputError

from .asks import Parameters
from .checks import check_amounts
from .constraints import per_sample
from .perturbations import as_tensor
from .spatial import placed


class Landing(NamedTuple):
    """How one picture lands in each of n images, every entry of shape ``[n]``.

    Attributes:
        degrees: by how much it is turned, anticlockwise.
        zoom: its size, in sizes of the picture.
        right: how far its middle is from the image's, in pixels.
        down: the same, downwards.
        light: what is added to its entries.
    """

    degrees: Tensor
    zoom: Tensor
    right: Tensor
    down: Tensor
    light: Tensor


@dataclass(frozen=True)
class Places:
    """Where a picture may land, and in what light.

    Attributes:
        circle: whether it is cut to a circle; a square otherwise.
        rotation: the largest turn to either side, in degrees.
        zoom: the smallest and largest size, in sizes of the picture.
        brightness: the most that is added to all its entries or taken from them, in the images' units.

    Raises:
        InputError: for ranges that are none.

    Example:
        >>> where = Places(rotation=10).draw(3, 8, (32, 32), torch.Generator().manual_seed(0))
        >>> bool((where.degrees.abs() <= 10).all()), where.right.shape
        (True, torch.Size([3]))
    """

    circle: bool = True
    rotation: float = 22.5
    zoom: tuple[float, float] = (0.8, 1.2)
    brightness: float = 0.1

    def __post_init__(self) -> None:
        check_amounts(rotation=self.rotation, brightness=self.brightness)
        if not 0 < self.zoom[0] <= self.zoom[1] < float("inf"):
            raise InputError(f"zoom={self.zoom} cannot be used: give the smallest and the largest size, above 0.")

    def mask(self, picture: Tensor) -> Tensor:
        """1 where the picture is, 0 elsewhere, shape ``[1, 1, side, side]``."""
        side = picture.shape[-1]
        along = torch.arange(side, device=picture.device, dtype=picture.dtype) - (side - 1) / 2
        inside = along[:, None] ** 2 + along**2 <= (side / 2) ** 2
        return (inside if self.circle else torch.ones_like(inside)).to(picture.dtype)[None, None]

    def draw(self, n: int, side: int, size: tuple[int, int], generator: torch.Generator) -> Landing:
        """Landings in n images of this height and width, uniform over where the whole picture is inside, if it fits."""
        share = torch.rand(5, n, generator=generator, device=generator.device)
        turn, across, along, light = (2 * share[1:] - 1).unbind(0)
        degrees, (least, most) = self.rotation * turn, self.zoom
        zoom, angle = least + (most - least) * share[0], degrees * (pi / 180)
        reach = side / 2 * zoom * (1 if self.circle else angle.cos().abs() + angle.sin().abs())
        high, wide = ((length / 2 - reach).clamp_min(0) for length in size)
        return Landing(degrees, zoom, wide * across, high * along, self.brightness * light)


def pasted(
    images: Tensor, picture: Tensor, places: Places, where: Landing, bounds: tuple[float, float] = (0.0, 1.0)
) -> Tensor:
    """Images with a picture in them; differentiable in both.

    Args:
        images: shape ``[n, channels, height, width]``.
        picture: shape ``[1, channels, side, side]``.
        places: says whether it is a circle.
        where: how it lands.
        bounds: the smallest and largest valid entry.

    Example:
        >>> where = Landing(*torch.tensor([[0.0], [1.0], [1.0], [0.0], [0.0]]))
        >>> pasted(torch.zeros(1, 1, 1, 3), torch.ones(1, 1, 1, 1), Places(), where).flatten()
        tensor([0., 0., 1.])
    """
    mask = places.mask(picture)
    lit = (picture + per_sample(where.light, images)).clamp(*bounds)
    layers = torch.cat([lit * mask, mask.expand(len(images), -1, -1, -1)], dim=1)
    canvas = placed(layers, (images.shape[2], images.shape[3]), *where[:4])
    return images * (1 - canvas[:, -1:]) + canvas[:, :-1]


@dataclass(frozen=True)
class RandomPatch:
    """One picture in all images, somewhere else each time: a shared perturbation, shape ``[1, channels, side, side]``.

    Attributes:
        side: of the picture, in pixels.
        places: where it may land.
        generator: draws the landings, on the images' device.
        bounds: the smallest and largest valid entry.

    Example:
        >>> places = Places(circle=False, rotation=0, zoom=(1, 1), brightness=0)
        >>> patch, x = RandomPatch(3, places, torch.Generator().manual_seed(0)), torch.zeros(2, 1, 8, 9)
        >>> patch(x, torch.ones(1, 1, 3, 3)).sum((1, 2, 3)).round()
        tensor([9., 9.])
    """

    side: int
    places: Places
    generator: torch.Generator
    bounds: tuple[float, float] = (0.0, 1.0)
    shared: bool = True

    def start(self, x: Tensor) -> Tensor:
        """Plain gray."""
        return x.new_full((1, x.shape[1], self.side, self.side), sum(self.bounds) / 2)

    def __call__(self, x: Tensor, parameters: Parameters) -> Tensor:
        """The images with the picture in new random places."""
        where = self.places.draw(len(x), self.side, (x.shape[2], x.shape[3]), self.generator)
        return pasted(x, as_tensor(parameters), self.places, where, self.bounds)

    def clip(self, x: Tensor, parameters: Parameters) -> Tensor:
        """The nearest picture inside the bounds."""
        return as_tensor(parameters).clamp(*self.bounds)
