"""Hue, saturation, brightness and contrast: differentiable in the images and in one number for each of them.

Images lie in [0, 1], and what leaves it is cut off. Gray and black pixels have a finite gradient as well.
Source of the choice: Hsiung et al., "Towards compositional adversarial robustness", CVPR 2023.
"""

from math import pi

import torch
from torch import Tensor

from .constraints import per_sample

COLOURLESS = 1e-6
"""Pixels whose channels differ by less have no hue."""


def shift_hue(images: Tensor, angles: Tensor) -> Tensor:
    """Turn the hue of every pixel in HSV space; value and saturation stay.

    Args:
        images: RGB, shape ``[n, 3, height, width]``, in [0, 1].
        angles: in radians, one for each image, shape ``[n]`` or ``[n, 1]``; 0 and 2 pi change nothing.

    Example:
        >>> red = torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1)
        >>> shift_hue(red, torch.tensor([2 * pi / 3])).flatten().round(decimals=4).abs()
        tensor([0., 1., 0.])
    """
    red, green, blue = images.split(1, dim=1)
    value, chroma = _value_and_chroma(images)
    scale = torch.where(chroma > COLOURLESS, chroma, 1)
    sextant = torch.where(
        red == value,
        (green - blue) / scale,
        torch.where(green == value, (blue - red) / scale + 2, (red - green) / scale + 4),
    )
    # Each channel is highest within one sextant of its own colour and lowest from two on.
    own = torch.tensor([5.0, 3.0, 1.0], device=images.device, dtype=images.dtype).reshape(1, 3, 1, 1)
    place = (sextant + per_sample(angles, images) * (3 / pi) + own) % 6
    return value - chroma * (2 - (place - 2).abs()).clamp(0, 1)


def scale_saturation(images: Tensor, factors: Tensor) -> Tensor:
    """Multiply the saturation of every pixel in HSV space, up to 1; value and hue stay.

    Args:
        images: RGB, shape ``[n, 3, height, width]``, in [0, 1].
        factors: one for each image, at least 0, shape ``[n]`` or ``[n, 1]``; 0 makes it gray, 1 changes nothing.

    Example:
        >>> pale = torch.tensor([1.0, 0.5, 0.5]).reshape(1, 3, 1, 1)
        >>> scale_saturation(pale, torch.tensor([1.2])).flatten()
        tensor([1.0000, 0.4000, 0.4000])
    """
    value, chroma = _value_and_chroma(images)
    coloured = chroma > COLOURLESS
    most = torch.where(coloured, value / torch.where(coloured, chroma, 1), torch.inf)
    return value - (value - images) * torch.minimum(per_sample(factors, images), most)


def shift_brightness(images: Tensor, shifts: Tensor) -> Tensor:
    """Add a number to every entry.

    Args:
        images: shape ``[n, channels, height, width]``, in [0, 1].
        shifts: one for each image, shape ``[n]`` or ``[n, 1]``; -1 makes it black, 1 white.

    Example:
        >>> shift_brightness(torch.tensor([0.5, 0.9]).reshape(1, 1, 1, 2), torch.tensor([0.2])).flatten()
        tensor([0.7000, 1.0000])
    """
    return (images + per_sample(shifts, images)).clamp(0, 1)


def scale_contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Multiply every entry, and so its distance to black: not to the image's mean, as photo editors do.

    Args:
        images: shape ``[n, channels, height, width]``, in [0, 1].
        factors: one for each image, at least 0, shape ``[n]`` or ``[n, 1]``; 0 makes it black, 1 changes nothing.

    Example:
        >>> scale_contrast(torch.tensor([0.5, 0.9]).reshape(1, 1, 1, 2), torch.tensor([1.2])).flatten()
        tensor([0.6000, 1.0000])
    """
    return (images * per_sample(factors, images)).clamp(0, 1)


def _value_and_chroma(images: Tensor) -> tuple[Tensor, Tensor]:
    """The largest channel of each pixel and its distance to the smallest, shape ``[n, 1, height, width]``."""
    red, green, blue = images.split(1, dim=1)
    value = torch.maximum(torch.maximum(red, green), blue)
    return value, value - torch.minimum(torch.minimum(red, green), blue)
