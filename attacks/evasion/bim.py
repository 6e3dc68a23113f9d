"""Basic iterative method. Kurakin et al., "Adversarial examples in the physical world", ICLR workshop 2017."""

from collections.abc import Sequence
from functools import partial
from typing import Unpack

from torch import Tensor, nn

from ..engine import (
    AttackResult,
    Loss,
    RunOptions,
    away_or_towards,
    check_amounts,
    check_counts,
    check_plain_steps,
    cross_entropy,
    get_norm,
    run,
)
from ..engine.checks import refuse_restarts
from .pgd import projected_descent


def bim(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    epsilon: float | Sequence[float],
    norm: str = "linf",
    steps: int = 10,
    step_size: float | None = None,
    loss: Loss = cross_entropy,
    **options: Unpack[RunOptions],
) -> AttackResult:
    """Attack each sample with iterated steps from the sample itself: PGD without its random start.

    Args:
        model: maps inputs to logits, shape ``[n, classes]``.
        x: clean samples, float32, shape ``[n, ...]``, inside ``bounds`` ([0, 1] unless said).
        labels: their classes, int64, shape ``[n]``.
        epsilon: the radius of the ball, in the units of ``x``; several radii are tried in ascending order.
        norm: "linf" or "l2".
        steps: gradient steps, at least 1.
        step_size: length of a step in ``norm``; epsilon / steps unless given, so that the steps just reach the ball.
        loss: what the attack raises at the labels, or lowers at the targets.
        **options: the settings of :func:`attacks.run`.

    Raises:
        InputError: when samples, labels or settings cannot be used as they are; for restarts, as there is no chance.

    Example:
        >>> import torch
        >>> x, labels = torch.tensor([[0.6, 0.5]]), torch.tensor([0])
        >>> bim(nn.Identity(), x, labels, epsilon=0.1, steps=5).backward_passes
        tensor([4])
    """
    refuse_restarts("bim", options)
    check_counts(steps=steps)
    check_amounts(step_size=step_size)
    check_plain_steps(norm)
    method = partial(
        projected_descent,
        objective=away_or_towards(loss, options.get("targets")),
        norm=get_norm(norm),
        steps=steps,
        step_size=step_size,
        pace=1.0,
        random_start=False,
    )
    return run(method, model, x, labels, norm=norm, epsilon=epsilon, **options)
