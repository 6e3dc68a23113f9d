"""Images turned, zoomed and moved, differentiable in the images and in how."""

from math import pi

import torch
from torch import Tensor
from torch.nn import functional


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Turn images about their middle, black where nothing was; bilinear.

    Args:
        images: shape ``[n, channels, height, width]``.
        degrees: anticlockwise, one for each image, shape ``[n]`` or ``[n, 1]``.

    Example:
        >>> image = torch.arange(4.0).reshape(1, 1, 2, 2)
        >>> rotate(image, torch.tensor([90.0])).flatten().round(decimals=4)
        tensor([1., 3., 0., 2.])
    """
    still = torch.zeros_like(degrees)
    return placed(images, (images.shape[2], images.shape[3]), degrees, still + 1, still, still)


def placed(images: Tensor, size: tuple[int, int], degrees: Tensor, zoom: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """Images on black canvases, turned and zoomed about their own middle; bilinear.

    Args:
        images: shape ``[n, channels, height, width]``.
        size: height and width of the canvases.
        degrees: by how much each is turned, anticlockwise; this and the rest of shape ``[n]`` or ``[n, 1]``.
        zoom: by how much each is enlarged; above 0.
        right: how far its middle is from the canvas's, in pixels.
        down: the same, downwards.

    Example:
        >>> one, none = torch.ones(1), torch.zeros(1)
        >>> placed(torch.ones(1, 1, 1, 1), (1, 3), none, one, one, none).flatten()
        tensor([0., 0., 1.])
    """
    angle, zoom, right, down = (amount.reshape(-1) for amount in (degrees * (pi / 180), zoom, right, down))
    cos, sin = angle.cos() / zoom, angle.sin() / zoom
    # From a canvas's pixel to the image's, both seen from the middle, rows first to x and then to y.
    turn = torch.stack([cos, -sin, -(cos * right - sin * down), sin, cos, -(sin * right + cos * down)], dim=1)
    (height, width), (high, wide) = images.shape[2:], size
    units = turn.new_tensor([[wide / width, high / width, 2 / width], [wide / height, high / height, 2 / height]])
    grid = functional.affine_grid(turn.reshape(-1, 2, 3) * units, [len(images), 1, high, wide], align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)
