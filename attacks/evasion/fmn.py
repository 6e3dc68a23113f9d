"""Fast minimum-norm attack.

Pintor et al., "Fast minimum-norm adversarial attacks through adaptive norm constraints", NeurIPS 2021, algorithm 1.
"""

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
    get_norm,
    margin,
    per_sample,
    run,
)
from ..engine.checks import refuse_restarts
from .ddn import check_factor, cosine
from .search import span, standing


def adaptive_norm(
    x: Tensor,
    perturbation: Perturbation,
    *,
    generator: torch.Generator,
    objective: Objective,
    norm: Norm,
    steps: int,
    step_size: float,
    factor: float,
) -> Method[None]:
    """The method behind :func:`fmn`."""
    p = as_tensor(perturbation.start(x))
    wanted = yield from standing(p)
    nearest = x.new_full((len(x),), torch.inf)
    epsilon = torch.ones_like(nearest) if norm.name == "l0" else nearest
    for i in range(steps):
        answer = yield Ask(p, objective, gradient=True, wanted=wanted)
        slope, size, share = answer.slope(), norm.size(p), cosine(factor, 0.001, i / steps)
        nearest = torch.where(answer.fooled, torch.minimum(size, nearest), nearest)
        # Until the boundary is crossed, its distance is estimated to first order, and a little more than that, or a
        # step on a linear model would only touch it; then the radius shrinks and grows.
        estimate = size + answer.loss.abs() / norm.dual_size(slope).clamp_min(1e-12)
        crossed = nearest.isfinite() | (norm.name == "l0")
        outside = norm.grown(torch.where(crossed, epsilon, estimate), share)
        epsilon = torch.where(answer.fooled, torch.minimum(norm.shrunk(epsilon, share), nearest), outside)
        moved = p - cosine(step_size, 0.01 * step_size, i / steps) * get_norm("l2").steepest(slope)
        p = as_tensor(perturbation.clip(x, place(moved, epsilon, norm)))
    yield Ask(p, wanted=wanted)


def place(moved: Tensor, epsilon: Tensor, norm: Norm) -> Tensor:
    """Into the ball; in l2 onto its sphere, where nearer points are found."""
    if norm.name == "l2":
        return norm.steepest(moved) * per_sample(epsilon, moved)
    return norm.project(moved, epsilon)


def fmn(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    norm: str = "l2",
    steps: int = 100,
    step_size: float | None = None,
    factor: float = 0.05,
    loss: Loss = margin,
    **options: Unpack[RunOptions],
) -> AttackResult:
    """Find a small change of each sample in a norm: projected descent in a ball whose radius adapts.

    The radius is the distance of the linearised boundary until a sample has crossed it; then it shrinks in every step
    inside a wrong class and grows in every step outside.

    Args:
        model: maps inputs to logits, shape ``[n, classes]``.
        x: clean samples, float32, shape ``[n, ...]``, inside ``bounds`` ([0, 1] unless said).
        labels: their classes, int64, shape ``[n]``.
        norm: "linf", "l2", "l1" or "l0".
        steps: gradient steps, at least 1.
        step_size: l2 length of the first step, in the units of ``x``; it falls to a hundredth, along half a cosine. The
            width of the bounds unless given.
        factor: by which share of itself the radius shrinks or grows in the first step, in (0, 1); it falls to 0.001.
            In l0 by at least one entry.
        loss: what the attack raises at the labels, or lowers at the targets. The estimate of the boundary's distance
            wants one that is 0 there, as the margin is.
        **options: the settings of :func:`attacks.run`: targets, bounds, stop, budget, batch_size, levels,
            estimator, diagnose, seed, generator, progress.

    Raises:
        InputError: when samples, labels or settings cannot be used as they are; for restarts, as there is no chance.

    Example:
        >>> x, labels = torch.tensor([[0.6, 0.5]]), torch.tensor([0])
        >>> fmn(nn.Identity(), x, labels, norm="linf").distance < 0.05 * 1.02  # the boundary is 0.1 / 2 away
        tensor([True])
    """
    check_counts(steps=steps)
    check_amounts(step_size=step_size)
    check_factor(factor)
    refuse_restarts("fmn", options)
    method = partial(
        adaptive_norm,
        objective=away_or_towards(loss, options.get("targets")),
        norm=get_norm(norm),
        steps=steps,
        step_size=span(options) if step_size is None else step_size,
        factor=factor,
    )
    return run(method, model, x, labels, norm=norm, rank=get_norm(norm).size, **options)
