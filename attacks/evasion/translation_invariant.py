"""Translation-invariant attack: the gradient is blurred, which is that of many shifted copies at the price of one.

Dong et al., "Evading defenses to transferable adversarial examples by translation-invariant attacks", CVPR 2019.
"""

from collections.abc import Sequence
from functools import partial
from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional

from attacks.errors import InputError

from ..engine import AttackResult, Loss, RunOptions, away_or_towards, cross_entropy, run
from ..engine.checks import check_images, refuse_restarts
from .momentum import transfer_method

SPREADS = 3.0
"""The kernel ends this many standard deviations from its middle, as the paper's does."""


def blurred(slope: Tensor, *, kernel_size: int) -> Tensor:
    """Convolved with a Gaussian, each channel alone.

    Args:
        slope: shape ``[n, channels, height, width]``.
        kernel_size: side of the Gaussian in pixels, odd.

    Example:
        >>> blurred(torch.eye(3)[None, None], kernel_size=1).equal(torch.eye(3)[None, None])
        True
    """
    places = torch.linspace(-SPREADS, SPREADS, kernel_size, device=slope.device, dtype=slope.dtype)
    bell = torch.exp(-places.square() / 2) if kernel_size > 1 else torch.ones_like(places)
    bell = (bell / bell.sum()).expand(slope.shape[1], 1, 1, -1)
    half, channels = kernel_size // 2, slope.shape[1]
    rows = functional.conv2d(slope, bell, padding=(0, half), groups=channels)
    return functional.conv2d(rows, bell.transpose(2, 3), padding=(half, 0), groups=channels)


def ti_fgsm(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    epsilon: float | Sequence[float],
    norm: str = "linf",
    steps: int = 10,
    step_size: float | None = None,
    decay: float = 1.0,
    kernel_size: int = 15,
    loss: Loss = cross_entropy,
    **options: Unpack[RunOptions],
) -> AttackResult:
    """Attack each image as :func:`~attacks.evasion.mi_fgsm` does, with a gradient that is blurred.

    Args:
        model: maps images to logits, shape ``[n, classes]``.
        x: clean images, float32, shape ``[n, channels, height, width]``, inside ``bounds`` ([0, 1] unless said).
        labels: their classes, int64, shape ``[n]``.
        epsilon: the radius of the ball, in the units of ``x``; several radii are tried in ascending order.
        norm: "linf" or "l2".
        steps: gradient steps, at least 1.
        step_size: length of a step in ``norm``; epsilon / steps unless given.
        decay: what is kept of the gradients before.
        kernel_size: side of the Gaussian in pixels, odd; 15 (the paper's) is for images of about 300 pixels.
        loss: what the attack raises at the labels, or lowers at the targets.
        **options: the settings of :func:`attacks.run`.

    Raises:
        InputError: when images, labels or settings cannot be used as they are; for restarts, as there is no chance.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        >>> x = torch.rand(2, 1, 4, 4)
        >>> ti_fgsm(model, x, model(x).argmax(1), epsilon=0.5, kernel_size=3).success
        tensor([True, True])
    """
    check_images(x, "Blurring")
    refuse_restarts("ti_fgsm", options)
    if not isinstance(kernel_size, int) or kernel_size < 1 or kernel_size % 2 == 0:
        raise InputError(f"kernel_size={kernel_size!r} has no middle: it must be an odd whole number of at least 1.")
    method = partial(
        transfer_method(norm, steps, step_size, decay, away_or_towards(loss, options.get("targets"))),
        smooth=partial(blurred, kernel_size=kernel_size),
    )
    return run(method, model, x, labels, norm=norm, epsilon=epsilon, **options)
