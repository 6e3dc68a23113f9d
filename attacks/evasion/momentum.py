"""Momentum iterative method, and what makes its samples transfer to models that were never asked.

Dong et al., "Boosting adversarial attacks with momentum", CVPR 2018. :mod:`attacks.evasion.diverse_inputs` and
:mod:`attacks.evasion.translation_invariant` change one line of it each.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Unpack

import torch
from torch import Tensor, nn

from ..engine import (
    Ask,
    AttackResult,
    Loss,
    Method,
    Norm,
    Objective,
    Perturbation,
    RunOptions,
    as_tensor,
    away_or_towards,
    check_amounts,
    check_counts,
    check_plain_steps,
    cross_entropy,
    feasible,
    get_norm,
    per_sample,
    run,
)
from ..engine.checks import refuse_restarts

View = Callable[[Tensor, torch.Generator], Tensor]
"""``view(inputs, generator)``: what the model is shown instead of the inputs while a gradient is taken."""


def momentum_descent(
    x: Tensor,
    perturbation: Perturbation,
    *,
    generator: torch.Generator,
    epsilon: float,
    objective: Objective,
    norm: Norm,
    steps: int,
    step_size: float | None,
    decay: float,
    view: View | None = None,
    smooth: Callable[[Tensor], Tensor] | None = None,
) -> Method[None]:
    """The method behind :func:`mi_fgsm`: every step is taken, since what transfers is not what succeeds first.

    ``view`` makes the gradient one of diverse inputs; ``smooth`` is applied to it, shape ``[n, ...]``.
    """
    length = epsilon / steps if step_size is None else step_size
    move, p = feasible(x, perturbation, norm, epsilon), as_tensor(perturbation.start(x))
    heading = torch.zeros_like(p)
    yield Ask(p)
    for _ in range(steps):
        through = None if view is None else lambda inputs: view(inputs, generator)
        answer = yield Ask(p, objective, gradient=True, probe=True, through=through)
        slope = answer.slope() if smooth is None else smooth(answer.slope())
        heading = decay * heading + slope / per_sample(slope.flatten(1).abs().sum(1).clamp_min(1e-30), slope)
        p = move(norm.step(p, heading, length))
    yield Ask(p)


def mi_fgsm(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    epsilon: float | Sequence[float],
    norm: str = "linf",
    steps: int = 10,
    step_size: float | None = None,
    decay: float = 1.0,
    loss: Loss = cross_entropy,
    **options: Unpack[RunOptions],
) -> AttackResult:
    """Attack each sample with iterated steps along an accumulated gradient, for samples that fool other models as well.

    All steps are taken, also once the model is fooled: only the clean sample and the last point are candidates.

    Args:
        model: maps inputs to logits, shape ``[n, classes]``.
        x: clean samples, float32, shape ``[n, ...]``, inside ``bounds`` ([0, 1] unless said).
        labels: their classes, int64, shape ``[n]``.
        epsilon: the radius of the ball, in the units of ``x``; several radii are tried in ascending order.
        norm: "linf" or "l2".
        steps: gradient steps, at least 1.
        step_size: length of a step in ``norm``; epsilon / steps unless given.
        decay: what is kept of the gradients before: 0 is BIM, 1 (the paper's) adds them all up, each at unit l1 norm.
        loss: what the attack raises at the labels, or lowers at the targets.
        **options: the settings of :func:`attacks.run`.

    Raises:
        InputError: when samples, labels or settings cannot be used as they are; for restarts, as there is no chance.

    Example:
        >>> x, labels = torch.tensor([[0.6, 0.5]]), torch.tensor([0])
        >>> mi_fgsm(nn.Identity(), x, labels, epsilon=0.06).adversarial
        tensor([[0.5400, 0.5600]])
    """
    refuse_restarts("mi_fgsm", options)
    method = transfer_method(norm, steps, step_size, decay, away_or_towards(loss, options.get("targets")))
    return run(method, model, x, labels, norm=norm, epsilon=epsilon, **options)


def transfer_method(
    norm: str, steps: int, step_size: float | None, decay: float, objective: Objective
) -> "partial[Method[None]]":
    """:func:`momentum_descent` with these settings, once they are checked."""
    check_counts(steps=steps)
    check_amounts(step_size=step_size, decay=decay)
    check_plain_steps(norm)
    return partial(
        momentum_descent, objective=objective, norm=get_norm(norm), steps=steps, step_size=step_size, decay=decay
    )
