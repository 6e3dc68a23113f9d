"""Diverse inputs: the gradient is taken at randomly shrunk and shifted images, so that it fits more models than one.

Xie et al., "Improving transferability of adversarial examples with input diversity", CVPR 2019.
"""

from collections.abc import Sequence
from functools import partial
from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional

from attacks.errors import InputError

from ..engine import AttackResult, Loss, RunOptions, away_or_towards, cross_entropy, per_sample, run
from ..engine.checks import check_images
from .momentum import transfer_method


def shrunk_and_placed(images: Tensor, generator: torch.Generator, *, probability: float, smallest: float) -> Tensor:
    """Each image, with a probability, at a random smaller size in a random place on black.

    Args:
        images: shape ``[n, channels, height, width]``.
        generator: draws size, place and whether.
        probability: that an image is changed.
        smallest: of the sizes, as a share of the image's side; in (0, 1].

    Example:
        >>> images = torch.ones(1, 1, 10, 10)
        >>> float(shrunk_and_placed(images, torch.Generator().manual_seed(0), probability=1, smallest=0.5).mean()) < 1
        True
    """
    n = len(images)
    size, down, right, chance = torch.rand(4, n, generator=generator, device=images.device).unbind(0)
    zoom = 1 / (smallest + (1 - smallest) * size)
    slack = zoom - 1  # how far the grid may move, in half sides, before the image would leave the frame
    warp = torch.zeros(n, 2, 3, device=images.device, dtype=images.dtype)
    warp[:, 0, 0], warp[:, 1, 1] = zoom, zoom
    warp[:, 0, 2], warp[:, 1, 2] = slack * (2 * right - 1), slack * (2 * down - 1)
    grid = functional.affine_grid(warp, list(images.shape), align_corners=False)
    changed = functional.grid_sample(images, grid, align_corners=False)
    return torch.where(per_sample(chance < probability, images), changed, images)


def di_fgsm(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    epsilon: float | Sequence[float],
    norm: str = "linf",
    steps: int = 10,
    step_size: float | None = None,
    decay: float = 1.0,
    probability: float = 0.5,
    smallest: float = 0.9,
    loss: Loss = cross_entropy,
    **options: Unpack[RunOptions],
) -> AttackResult:
    """Attack each image as :func:`~attacks.evasion.mi_fgsm` does, with the gradient of a randomly shrunk copy.

    Args:
        model: maps images to logits, shape ``[n, classes]``.
        x: clean images, float32, shape ``[n, channels, height, width]``, inside ``bounds`` ([0, 1] unless said).
        labels: their classes, int64, shape ``[n]``.
        epsilon: the radius of the ball, in the units of ``x``; several radii are tried in ascending order.
        norm: "linf" or "l2".
        steps: gradient steps, at least 1.
        step_size: length of a step in ``norm``; epsilon / steps unless given.
        decay: what is kept of the gradients before.
        probability: that an image is changed in a step; 0 is mi_fgsm.
        smallest: size to which an image may shrink, as a share of its side; in (0, 1].
        loss: what the attack raises at the labels, or lowers at the targets.
        **options: the settings of :func:`attacks.run`.

    Raises:
        InputError: when images, labels or settings cannot be used as they are.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        >>> x = torch.rand(2, 1, 4, 4)
        >>> di_fgsm(model, x, model(x).argmax(1), epsilon=0.5).success
        tensor([True, True])
    """
    check_images(x, "Input diversity")
    if not (0 <= probability <= 1 and 0 < smallest <= 1):
        raise InputError(
            f"probability={probability} and smallest={smallest} cannot be used: the first must lie in [0, 1], the "
            "second in (0, 1]."
        )
    method = partial(
        transfer_method(norm, steps, step_size, decay, away_or_towards(loss, options.get("targets"))),
        view=partial(shrunk_and_placed, probability=probability, smallest=smallest),
    )
    return run(method, model, x, labels, norm=norm, epsilon=epsilon, **options)
