"""Projections of the sample onto the linearised boundary, its normal averaged over the steps. A method of our own.

Fast adaptive boundary attacks (Croce and Hein, "Minimally distorted adversarial examples with a fast adaptive boundary
attack", ICML 2020) project onto the boundary of one class at a time, as it is linearised at one point. Averaged over
the steps, as in momentum methods (Dong et al., "Boosting adversarial attacks with momentum", CVPR 2018), the normal is
that of the corner at which several boundaries, or the many faces of one, meet.
"""

from functools import partial
from typing import Unpack

import torch
from torch import Tensor, nn

from attacks.errors import InputError

from ..engine import (
    Ask,
    AttackResult,
    Method,
    Norm,
    Objective,
    Perturbation,
    RunOptions,
    as_tensor,
    away_or_towards,
    check_amounts,
    check_counts,
    get_norm,
    margin,
    per_sample,
    run,
)
from ..engine.checks import refuse_restarts
from ..engine.constraints import TINY
from ..engine.projections import shortest_step
from .ddn import cosine
from .search import standing


def averaged_projections(
    x: Tensor,
    perturbation: Perturbation,
    *,
    generator: torch.Generator,
    objective: Objective,
    norm: Norm,
    steps: int,
    momentum: float,
    overshoot: float,
) -> Method[None]:
    """The method behind :func:`boundary_projection`; the objective is 0 on the boundary, negative beyond it."""
    p = as_tensor(perturbation.start(x))
    wanted = yield from standing(p)
    far = torch.full_like(p, torch.inf)
    low, high = as_tensor(perturbation.clip(x, -far)), as_tensor(perturbation.clip(x, far))
    normal = torch.zeros_like(p)
    for i in range(steps):
        answer = yield Ask(p, objective, gradient=True, wanted=wanted)
        steepness = get_norm("l2").size(answer.slope()).clamp_min(TINY)
        # The average begins at zero, so it is short at first: the first steps go too far, and that way look around.
        normal = momentum * normal + (1 - momentum) * answer.slope() / per_sample(steepness, p)
        amount = (normal * p).flatten(1).sum(1) - answer.loss / steepness
        nearest = shortest_step(norm.name, normal, (1 + overshoot) * amount, low, high)
        p = as_tensor(perturbation.clip(x, p + cosine(1.0, 0.01, i / steps) * (nearest - p)))
    yield Ask(p, wanted=wanted)


def boundary_projection(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    norm: str = "l2",
    steps: int = 100,
    momentum: float = 0.85,
    overshoot: float = 0.001,
    **options: Unpack[RunOptions],
) -> AttackResult:
    """Find a small change of each sample: walk along the boundary to the point of it that is nearest to the sample.

    Each step goes a share of the way, 1 at first and 0.01 at last, to the point nearest to the clean sample, in the
    norm and inside the bounds, of the hyperplane that the boundary looks like. The boundary is where the model's lead
    in the label, over the best other class, is 0.

    Args:
        model: maps inputs to logits, shape ``[n, classes]``.
        x: clean samples, float32, shape ``[n, ...]``, inside ``bounds`` ([0, 1] unless said).
        labels: their classes, int64, shape ``[n]``.
        norm: "linf", "l2" or "l1".
        steps: gradient steps, at least 1; 30 are often enough.
        momentum: how much of the earlier normals lives on in each step, in [0, 1).
        overshoot: by which share of its distance the hyperplane is crossed, at least 0.
        **options: the settings of :func:`attacks.run`: targets, bounds, stop, budget, batch_size, levels,
            estimator, diagnose, seed, generator, progress.

    Raises:
        InputError: when samples, labels or settings cannot be used as they are; for restarts, as there is no chance.

    Example:
        >>> x, labels = torch.tensor([[0.6, 0.5]]), torch.tensor([0])
        >>> boundary_projection(nn.Identity(), x, labels).distance  # the boundary is 0.1 / sqrt(2) = 0.0707 away
        tensor([0.0708])
    """
    check_counts(steps=steps)
    check_amounts(momentum=momentum, overshoot=overshoot)
    if momentum >= 1:
        raise InputError(f"momentum={momentum} would never let a new normal in: it must be below 1.")
    if norm not in ("linf", "l2", "l1"):
        raise InputError(f"norm={norm!r} has no nearest point of a hyperplane here: use 'linf', 'l2' or 'l1'.")
    refuse_restarts("boundary_projection", options)
    method = partial(
        averaged_projections,
        objective=away_or_towards(margin, options.get("targets")),
        norm=get_norm(norm),
        steps=steps,
        momentum=momentum,
        overshoot=overshoot,
    )
    return run(method, model, x, labels, norm=norm, rank=get_norm(norm).size, **options)
