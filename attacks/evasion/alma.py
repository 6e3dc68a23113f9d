"""Augmented Lagrangian attack: distance as the aim, misclassification as a constraint with a multiplier of its own.

Rony et al., "Augmented Lagrangian adversarial attacks", ICCV 2021, algorithm 1, with their penalty P2 (Birgin et al.,
"Numerical comparison of augmented Lagrangian algorithms for nonconvex problems", 2005). Unlike there, the constraint is
in units of its value at the clean sample and the distance in estimates of the boundary's, so that no scale matters.
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
    dlr,
    get_norm,
    margin,
    per_sample,
    run,
)
from ..engine.checks import refuse_restarts
from ..engine.constraints import TINY
from .ddn import cosine

SLACK = 1e-4
"""By how much the constraint is tightened, as a share of its first value: on the boundary itself nobody is fooled."""
REVIEW, PROGRESS, GROWTH = 10, 0.95, 1.2
"""Every so many steps, the penalty grows where the constraint was never met and is not broken by this much less."""
MULTIPLIERS = (1e-6, 1e12)
"""The smallest and the largest multiplier."""
LAST = 0.01
"""The last step's length in lengths of the first."""


def logit_ratio(logits: Tensor, classes: Tensor) -> Tensor:
    """The DLR loss; the margin where there are two classes only, which have no third logit."""
    return dlr(logits, classes) if logits.shape[1] > 2 else margin(logits, classes)


def pressure(broken: Tensor, penalty: Tensor, multiplier: Tensor) -> Tensor:
    """The slope of the penalty P2: the weight that the constraint's gradient has, shape ``[n]``.

    Args:
        broken: by how much the constraint is broken; below 0 where it is met.
        penalty: how fast the weight grows with that.
        multiplier: the weight where the constraint is just met.

    Example:
        >>> pressure(torch.tensor([-1.0, 0.0, 1.0]), torch.ones(3), torch.ones(3))
        tensor([0.2500, 1.0000, 3.5000])
    """
    outside = multiplier * (1 + 2 * penalty * broken) + (penalty * broken).square() / 2
    return torch.where(broken > 0, outside, multiplier / (1 - penalty * broken.clamp_max(0)).square())


def augmented_descent(
    x: Tensor,
    perturbation: Perturbation,
    *,
    generator: torch.Generator,
    objective: Objective,
    norm: Norm,
    steps: int,
    initial_step: float,
    memory: float,
) -> Method[None]:
    """The method behind :func:`alma`. The objective is above 0 until the goal of the run is met."""
    p = as_tensor(perturbation.start(x))
    answer = yield Ask(p, objective, gradient=True)
    wanted, met, unit = ~answer.fooled, answer.fooled, answer.loss.clamp_min(TINY)
    steepness = (get_norm(which).size(answer.slope()).clamp_min(TINY) for which in (norm.dual, "l2"))
    distance, stride = (unit / steep for steep in steepness)
    rate = _reaching(x, perturbation, answer.slope().sign(), initial_step * stride)
    multiplier = penalty = torch.ones_like(unit)
    mean, square, before = torch.zeros_like(p), torch.zeros_like(p), torch.full_like(unit, torch.inf)
    for i in range(steps):
        broken, met = answer.loss / unit + SLACK, met | answer.fooled
        if i % REVIEW == 0:
            penalty = torch.where(met | (broken <= PROGRESS * before), penalty, GROWTH * penalty)
            met, before = torch.zeros_like(met), broken
        multiplier = torch.lerp(pressure(broken, penalty, multiplier), multiplier, memory).clamp(*MULTIPLIERS)
        weight = pressure(broken, penalty, multiplier) / unit
        slope = torch.addcmul(_away(p, norm), per_sample(weight * distance, p), answer.slope())
        square.mul_(memory).addcmul_(slope, slope, value=1 - memory)
        mean.lerp_(slope / (square / (1 - memory ** (i + 1))).sqrt().add_(1e-8), 1 - memory)
        moved = torch.addcmul(p, per_sample(rate, p), mean, value=-cosine(1.0, LAST, i / steps))
        p = as_tensor(perturbation.clip(x, moved))
        answer = yield Ask(p, objective, gradient=i < steps - 1, wanted=wanted)


def _away(p: Tensor, norm: Norm) -> Tensor:
    """The gradient of the distance."""
    return p.sign() if norm.name == "l1" else p / per_sample(norm.size(p).clamp_min(TINY), p)


def _reaching(x: Tensor, perturbation: Perturbation, direction: Tensor, distance: Tensor) -> Tensor:
    """How far to go against a direction so that about this l2 distance is left once clipped, both of shape ``[n]``."""
    size = get_norm("l2").size
    rate = distance / size(direction).clamp_min(TINY)
    for _ in range(3):
        left = size(as_tensor(perturbation.clip(x, -per_sample(rate, x) * direction)))
        rate = rate * (distance / left.clamp_min(TINY)).clamp_max(10)
    return rate


def alma(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    norm: str = "l2",
    steps: int = 1000,
    initial_step: float = 2.0,
    memory: float | None = None,
    **options: Unpack[RunOptions],
) -> AttackResult:
    """Find a small perturbation of each sample: lower its size, with a constraint that the sample is misclassified.

    Args:
        model: maps inputs to logits, shape ``[n, classes]``.
        x: clean samples, float32, shape ``[n, ...]``, inside ``bounds`` ([0, 1] unless said).
        labels: their classes, int64, shape ``[n]``.
        norm: what is kept small: "l2" or "l1".
        steps: gradient steps, at least 1.
        initial_step: length of a full step at first, in estimates of the distance to the boundary, which are made to
            first order at the clean sample; later steps are shorter, down to a hundredth.
        memory: how much of the running means of multiplier, gradient and squared gradient a step keeps, in [0, 1);
            steps / (steps + 100) unless given, which agrees with the paper's 0.5 for 100 and 0.9 for 1000 steps.
        **options: the settings of :func:`attacks.run`: targets, bounds, stop, budget, batch_size, levels,
            estimator, diagnose, seed, generator, progress.

    Raises:
        InputError: when samples, labels or settings cannot be used as they are; for restarts, as there is no chance.

    Example:
        >>> x, labels = torch.tensor([[0.6, 0.5]]), torch.tensor([0])
        >>> alma(nn.Identity(), x, labels, steps=100).distance < 0.0708 * 1.01  # the boundary is 0.1 / sqrt(2) away
        tensor([True])
    """
    if get_norm(norm).name not in ("l2", "l1"):
        raise InputError(f"norm={norm!r} has no slope that this attack could follow: use 'l2' or 'l1'.")
    check_counts(steps=steps)
    check_amounts(initial_step=initial_step, memory=memory)
    if memory is not None and memory >= 1:
        raise InputError(f"memory={memory} would forget nothing and learn nothing: it must be below 1.")
    refuse_restarts("alma", options)
    method = partial(
        augmented_descent,
        objective=away_or_towards(logit_ratio, options.get("targets")),
        norm=get_norm(norm),
        steps=steps,
        initial_step=initial_step,
        memory=steps / (steps + 100) if memory is None else memory,
    )
    return run(method, model, x, labels, norm=norm, rank=get_norm(norm).size, **options)
