"""Sigma-zero: gradient descent on a smooth count of the changed entries, small changes cut away.

Cinà et al., "sigma-zero: gradient-based optimization of l0-norm adversarial examples", ICLR 2025, algorithm 1.
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
    Objective,
    Perturbation,
    RunOptions,
    View,
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
from .ddn import cosine
from .search import span, standing

MEMORY, SQUARED_MEMORY, FLOOR = 0.9, 0.999, 1e-8
"""Adam's usual decays, and what keeps its division finite."""


def hinge(objective: Objective) -> Objective:
    """An objective that is 0 beyond the boundary, so that nothing pulls there but the count of changes."""

    def floored(view: View) -> Tensor:
        return objective(view).clamp_min(0)

    return floored


def sparse_descent(
    x: Tensor,
    perturbation: Perturbation,
    *,
    generator: torch.Generator,
    objective: Objective,
    steps: int,
    step_size: float,
    smoothing: float,
    threshold: float,
    pace: float,
) -> Method[None]:
    """The method behind :func:`sigma_zero`."""
    p = as_tensor(perturbation.start(x))
    wanted = yield from standing(p)
    mean, square, cut = torch.zeros_like(p), torch.zeros_like(p), x.new_full((len(x),), threshold)
    for i in range(steps):
        answer = yield Ask(p, objective, gradient=True, wanted=wanted)
        slope = answer.slope() + _count_slope(p, smoothing)
        slope = slope / per_sample(get_norm("linf").size(slope).clamp_min(TINY), slope)
        mean, square = torch.lerp(slope, mean, MEMORY), torch.lerp(slope.square(), square, SQUARED_MEMORY)
        size = cosine(1.0, 0.0, i / steps)
        descent = mean / (1 - MEMORY ** (i + 1)) / ((square / (1 - SQUARED_MEMORY ** (i + 1))).sqrt() + FLOOR)
        p = as_tensor(perturbation.clip(x, p - step_size * size * descent))
        # Fooled samples afford a higher cut, the others a lower one.
        cut = (cut + torch.where(answer.fooled, pace, -pace) * size).clamp_min(0)
        p = torch.where(p.abs() < per_sample(cut, p), 0, p)
    yield Ask(p, wanted=wanted)


def _count_slope(p: Tensor, smoothing: float) -> Tensor:
    """The gradient of the mean of ``p^2 / (p^2 + smoothing)``, which counts entries that are not 0."""
    return 2 * smoothing * p / (p.square() + smoothing).square() / p[0].numel()


def sigma_zero(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    steps: int = 1000,
    step_size: float | None = None,
    smoothing: float | None = None,
    threshold: float | None = None,
    pace: float | None = None,
    **options: Unpack[RunOptions],
) -> AttackResult:
    """Change as few entries of each sample as possible.

    The defaults of ``step_size``, ``threshold`` and ``pace`` are 1, 0.3 and 0.01 times the width of the bounds, that of
    ``smoothing`` is 0.001 times its square.

    Args:
        model: maps inputs to logits, shape ``[n, classes]``.
        x: clean samples, float32, shape ``[n, ...]``, inside ``bounds`` ([0, 1] unless said).
        labels: their classes, int64, shape ``[n]``.
        steps: gradient steps, at least 1.
        step_size: the first step's length in each entry, in the units of ``x``; it falls to 0 along half a cosine.
        smoothing: the square at which a change counts half, in squared units of ``x``, above 0 (the paper's sigma).
        threshold: changes below it are cut away at first, in the units of ``x`` (the paper's tau).
        pace: by how much the threshold rises in a step of a misclassified sample, and falls otherwise; less and less,
            like the step (the paper's t).
        **options: the settings of :func:`attacks.run`: targets, bounds, stop, budget, batch_size, levels,
            estimator, diagnose, seed, generator, progress.

    Raises:
        InputError: when samples, labels or settings cannot be used as they are; for restarts, as there is no chance.

    Example:
        >>> x, labels = torch.tensor([[0.6, 0.5, 0.1]]), torch.tensor([0])
        >>> result = sigma_zero(nn.Identity(), x, labels, steps=50)
        >>> result.success, result.distance
        (tensor([True]), tensor([1.]))
    """
    check_counts(steps=steps)
    check_amounts(step_size=step_size, smoothing=smoothing, threshold=threshold, pace=pace)
    refuse_restarts("sigma_zero", options)
    width = span(options)
    if smoothing == 0:
        raise InputError("smoothing=0 leaves a count without a slope: it must be above 0, 0.001 say.")
    method = partial(
        sparse_descent,
        objective=hinge(away_or_towards(margin, options.get("targets"))),
        steps=steps,
        step_size=width if step_size is None else step_size,
        smoothing=1e-3 * width**2 if smoothing is None else smoothing,
        threshold=0.3 * width if threshold is None else threshold,
        pace=0.01 * width if pace is None else pace,
    )
    return run(method, model, x, labels, norm="l0", rank=get_norm("l0").size, **options)
