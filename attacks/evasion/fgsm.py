"""Fast gradient sign method. Goodfellow et al., "Explaining and harnessing adversarial examples", ICLR 2015."""

from collections.abc import Sequence
from functools import partial
from typing import Unpack

from torch import Tensor, nn

from ..engine import (
    AttackResult,
    Loss,
    RunOptions,
    away_or_towards,
    check_plain_steps,
    cross_entropy,
    get_norm,
    run,
)
from ..engine.checks import refuse_restarts
from .pgd import projected_descent


def fgsm(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    epsilon: float | Sequence[float],
    norm: str = "linf",
    loss: Loss = cross_entropy,
    **options: Unpack[RunOptions],
) -> AttackResult:
    """Attack each sample with one steepest step of length ``epsilon``; in l-inf that is the sign of the gradient.

    Args:
        model: maps inputs to logits, shape ``[n, classes]``.
        x: clean samples, float32, shape ``[n, ...]``, inside ``bounds`` ([0, 1] unless said).
        labels: their classes, int64, shape ``[n]``.
        epsilon: the length of the step, in the units of ``x``; several radii are tried in ascending order.
        norm: "linf" or "l2".
        loss: what the attack raises at the labels, or lowers at the targets.
        **options: the settings of :func:`attacks.run`.

    Raises:
        InputError: when samples, labels or settings cannot be used as they are; for restarts, as there is no chance.

    Example:
        >>> import torch
        >>> x, labels = torch.tensor([[0.6, 0.5]]), torch.tensor([0])
        >>> fgsm(nn.Identity(), x, labels, epsilon=0.06).adversarial
        tensor([[0.5400, 0.5600]])
    """
    refuse_restarts("fgsm", options)
    check_plain_steps(norm)
    method = partial(
        projected_descent,
        objective=away_or_towards(loss, options.get("targets")),
        norm=get_norm(norm),
        steps=1,
        step_size=None,
        pace=1.0,
        random_start=False,
    )
    return run(method, model, x, labels, norm=norm, epsilon=epsilon, **options)
