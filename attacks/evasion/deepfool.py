"""DeepFool: steps to the nearest boundary of the linearised model.

Moosavi-Dezfooli et al., "DeepFool: a simple and accurate method to fool deep neural networks", CVPR 2016, algorithm 2.
"""

from functools import partial
from typing import Unpack

import torch
from torch import Tensor, nn

from ..engine import (
    Ask,
    AttackResult,
    Method,
    Norm,
    Objective,
    Perturbation,
    RunOptions,
    as_tensor,
    check_amounts,
    check_counts,
    check_plain_steps,
    get_norm,
    margin,
    per_sample,
    run,
    targeted,
)
from ..engine.constraints import TINY
from .fab import nearest_others

NUDGE = 1e-6
"""Added to the length of every step, so that a sample on the boundary moves as well."""


def one_boundary(logits: Tensor, targets: Tensor) -> Tensor:
    """The best other logit minus the target's, shape ``[n, 1]``: all that a targeted run has to lower."""
    return margin(logits, targets)[:, None]


def linearised_steps(
    x: Tensor,
    perturbation: Perturbation,
    *,
    generator: torch.Generator,
    boundaries: Objective,
    norm: Norm,
    steps: int,
    overshoot: float,
) -> Method[None]:
    """The method behind :func:`deepfool`; there is a boundary where one of the values of ``boundaries`` is 0."""
    p = total = as_tensor(perturbation.start(x))
    for _ in range(steps):
        answer = yield Ask(p, boundaries, gradient=True)
        slopes = answer.slope()
        steepness = norm.dual_size(slopes.flatten(0, 1)).reshape(answer.loss.shape)
        distance, nearest = (answer.loss.abs() / steepness.clamp_min(TINY)).min(1)
        slope = slopes[torch.arange(len(x), device=x.device), nearest]
        total = total - per_sample(distance + NUDGE, slope) * norm.steepest(slope)
        p = as_tensor(perturbation.clip(x, (1 + overshoot) * total))
    yield Ask(p)


def deepfool(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    norm: str = "l2",
    steps: int = 50,
    overshoot: float = 0.02,
    candidates: int = 10,
    **options: Unpack[RunOptions],
) -> AttackResult:
    """Move each sample over the nearest boundary of the linearised model, again and again until it is misclassified.

    Fast, but the first crossing is rarely the nearest: see :func:`attacks.evasion.fmn` for smaller changes.

    Args:
        model: maps inputs to logits, shape ``[n, classes]``.
        x: clean samples, float32, shape ``[n, ...]``, inside ``bounds`` ([0, 1] unless said).
        labels: their classes, int64, shape ``[n]``.
        norm: "l2" or "linf".
        steps: linearisations, at least 1; each costs a backward pass for every candidate but the own class.
        overshoot: the change is stretched by this share, to get clear of the boundary.
        candidates: how many classes are considered, the own one and those with the largest logits; at least 2. With
            targets only the target is.
        **options: the settings of :func:`attacks.run`: targets, bounds, stop, restarts, budget, batch_size, levels,
            seed, generator, progress.

    Raises:
        InputError: when samples, labels or settings cannot be used as they are.

    Example:
        >>> x, labels = torch.tensor([[0.6, 0.5]]), torch.tensor([0])
        >>> deepfool(nn.Identity(), x, labels).distance  # the boundary is 0.1 / sqrt(2) = 0.0707 away
        tensor([0.0721])
    """
    check_counts(steps=steps)
    check_counts(least=2, candidates=candidates)
    check_amounts(overshoot=overshoot)
    check_plain_steps(norm)
    method = partial(
        linearised_steps,
        boundaries=nearest_others(candidates - 1) if options.get("targets") is None else targeted(one_boundary),
        norm=get_norm(norm),
        steps=steps,
        overshoot=overshoot,
    )
    return run(method, model, x, labels, norm=norm, **options)
