"""Sign-OPT: descent on the boundary's distance, as a function of the direction in which it is sought.

Cheng, Singh, Chen, Chen, Liu and Hsieh, "Sign-OPT: a query-efficient hard-label adversarial attack", ICLR 2020,
algorithm 1.
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
    Perturbation,
    RunOptions,
    check_amounts,
    check_counts,
    per_sample,
)
from .boundary_search import BoundarySearch, aside
from .decisions import QUERIES, check_frequencies, run_decisions

TRIALS = 10
"""The most step sizes that are tried in a step."""


def line_search(
    search: BoundarySearch, p: Tensor, slope: Tensor, size: Tensor, wanted: Tensor
) -> Method[tuple[Tensor, Tensor]]:
    """Steps of growing size for as long as they bring the boundary nearer, or of shrinking size until one does.

    One decision, at the distance reached so far, says whether a direction is better.

    Returns:
        The nearest points of the boundary and the sizes of the steps that led there.
    """
    heading, trial, trying = search.norm.steepest(p), size, wanted
    grows: Tensor | None = None
    for _ in range(TRIALS):
        ray = partial(search.along, search.norm.steepest(heading - per_sample(trial, p) * slope))
        length = search.norm.size(p)
        answer = yield Ask(ray(length), wanted=trying)
        nearer = trying & answer.fooled
        if bool(nearer.any()):
            found = yield from search.bisect(ray, length, nearer)
            p, size = torch.where(per_sample(nearer, p), found, p), torch.where(nearer, trial, size)
        grows = nearer if grows is None else grows
        trying = trying & (nearer == grows)
        if not bool(trying.any()):
            break
        trial = torch.where(grows, trial * 2, trial / 4)
    return p, size


def descent(
    x: Tensor,
    perturbation: Perturbation,
    *,
    generator: torch.Generator,
    norm: Norm,
    bounds: tuple[float, float],
    starts: Tensor | None,
    steps: int,
    samples: int,
    step_size: float,
    frequencies: float,
) -> Method[None]:
    """The method behind :func:`sign_opt`.

    Whether the boundary is nearer in a direction beside that of a point of it, one decision beside the point says: the
    distance's slope is the part of the normal, turned round, that is across that direction.
    """
    search = BoundarySearch(x, perturbation, norm, generator, bounds)
    directions = search.directions(frequencies)
    p, wanted = yield from search.start(starts)
    p = yield from search.to_boundary(p, wanted)
    size = torch.full_like(norm.size(p), step_size)
    for _ in range(steps):
        normal = yield from search.normal(p, samples=samples, wanted=wanted, directions=directions)
        p, size = yield from line_search(search, p, -aside(normal, p), size, wanted)


def sign_opt(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    steps: int | None = None,
    samples: int = 200,
    step_size: float = 0.2,
    frequencies: float = 1.0,
    starts: Tensor | None = None,
    **options: Unpack[RunOptions],
) -> AttackResult:
    """Find a small l2 perturbation of each sample from decisions alone: turn to where the boundary is nearer.

    Args:
        model: maps inputs to logits, shape ``[n, classes]``; only which of them is largest is read.
        x: clean samples, float32, shape ``[n, ...]``, inside ``bounds`` ([0, 1] unless said).
        labels: their classes, int64, shape ``[n]``.
        steps: at least 1; by default as many as ``budget`` pays for, or 5000 queries a sample.
        samples: decisions that the slope is estimated from in each step.
        step_size: how far the first step turns, as the tangent of the angle; a step then tries twice as much for as
            long as it helps, or a quarter until it does.
        frequencies: the share of the frequencies along height and width, or time, from the lowest, in which the slope
            is estimated, in (0, 1]; 1 is the paper's.
        starts: for each sample an input that meets the goal, such as one of the target class, float32, shape
            ``[n, ...]``; by default, and where it does not, random ones are tried.
        **options: the settings of :func:`attacks.run`: targets, bounds, restarts, budget, batch_size, levels, seed,
            generator, progress.

    Raises:
        InputError: when samples, labels or settings cannot be used as they are.

    Example:
        >>> x, labels = torch.tensor([[0.6, 0.5]]), torch.tensor([0])
        >>> sign_opt(nn.Identity(), x, labels, samples=20, budget=500).distance < 0.0708 * 1.01  # 0.1 / sqrt(2) away
        tensor([True])
    """
    check_counts(steps=steps, samples=samples)
    check_amounts(step_size=step_size)
    check_frequencies(frequencies)
    method = partial(
        descent,
        steps=steps or max(1, (options.get("budget") or QUERIES) // samples),
        samples=samples,
        step_size=step_size,
        frequencies=frequencies,
    )
    return run_decisions(method, model, x, labels, norm="l2", starts=starts, **options)
