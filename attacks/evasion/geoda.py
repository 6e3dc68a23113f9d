"""GeoDA: from the sample straight along the boundary's normal, which is estimated from decisions.

Rahmati, Moosavi-Dezfooli, Frossard and Dai, "GeoDA: a geometric framework for black-box adversarial attacks", CVPR
2020, algorithm 1. The estimates of all steps are added up here unless said otherwise.
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
    check_counts,
    check_plain_steps,
    per_sample,
)
from .boundary_search import DRAWS, BoundarySearch
from .decisions import QUERIES, check_frequencies, run_decisions

RATIO = 0.6
"""The share of what is left to gain that is left after a step: the paper's, from which the shares below follow."""

PER_STEP, SEARCH = 200, 15
"""Queries for a step, on average, where the number of steps is not said; and how many of these the search takes."""


def shares(samples: int, steps: int) -> list[int]:
    """How many of all decisions each step has: ever more, as is optimal where the boundary is flat.

    Example:
        >>> shares(1000, 3)
        [228, 321, 451]
    """
    weights = [RATIO ** (-2 * step / 3) for step in range(steps)]
    return [max(1, round(samples * weight / sum(weights))) for weight in weights]


def normals(
    x: Tensor,
    perturbation: Perturbation,
    *,
    generator: torch.Generator,
    norm: Norm,
    bounds: tuple[float, float],
    starts: Tensor | None,
    steps: int,
    samples: int,
    remember: bool,
    frequencies: float,
) -> Method[None]:
    """The method behind :func:`geoda`."""
    search = BoundarySearch(x, perturbation, norm, generator, bounds)
    directions = search.directions(frequencies)
    p, wanted = yield from search.start(starts)
    p = yield from search.to_boundary(p, wanted)
    known = torch.zeros_like(p)
    for drawn in shares(samples, steps):
        normal = yield from search.normal(p, samples=drawn, wanted=wanted, directions=directions)
        fresh = drawn**0.5 * normal  # the error of an estimate falls with the root of its decisions
        known = known + fresh if remember else fresh
        ray, length = partial(search.along, norm.steepest(known)), norm.size(p)
        answer = yield Ask(ray(length), wanted=wanted)
        nearer = wanted & answer.fooled
        found = yield from search.bisect(ray, length, nearer)
        p = torch.where(per_sample(nearer, p), found, p)


def geoda(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    norm: str = "l2",
    steps: int | None = None,
    samples: int | None = None,
    remember: bool = True,
    frequencies: float = 1.0,
    starts: Tensor | None = None,
    **options: Unpack[RunOptions],
) -> AttackResult:
    """Find a small perturbation of each sample from decisions alone, where boundaries are nearly flat.

    Every step estimates the boundary's normal at the nearest point so far, and looks for the boundary along it, from
    the sample itself; what it finds further away is left.

    Args:
        model: maps inputs to logits, shape ``[n, classes]``; only which of them is largest is read.
        x: clean samples, float32, shape ``[n, ...]``, inside ``bounds`` ([0, 1] unless said).
        labels: their classes, int64, shape ``[n]``.
        norm: "l2" or "linf".
        steps: at least 1; by default one for every 200 of the queries.
        samples: decisions that all estimates together are made of; by default what ``budget`` pays for, or 5000
            queries a sample.
        remember: go along the sum of all normals estimated so far, as those of neighbouring points hardly differ;
            otherwise along the latest (the paper), which needs more queries: after 2,500 the mean distance on 32 images
            was 5.0 instead of 3.1.
        frequencies: the share of the frequencies along height and width, or time, from the lowest, in which the normal
            is estimated, in (0, 1].
        starts: for each sample an input that meets the goal, such as one of the target class, float32, shape
            ``[n, ...]``; by default, and where it does not, random ones are tried.
        **options: the settings of :func:`attacks.run`: targets, bounds, restarts, budget, batch_size, levels, seed,
            generator, progress.

    Raises:
        InputError: when samples, labels or settings cannot be used as they are.

    Example:
        >>> x, labels = torch.tensor([[0.6, 0.5]]), torch.tensor([0])
        >>> geoda(nn.Identity(), x, labels, budget=1000).distance < 0.0708 * 1.01  # the boundary is 0.1 / sqrt(2) away
        tensor([True])
    """
    check_counts(steps=steps, samples=samples)
    check_plain_steps(norm)
    check_frequencies(frequencies)
    queries = options.get("budget") or QUERIES
    steps = steps or max(1, round(queries / PER_STEP))
    method = partial(
        normals,
        steps=steps,
        samples=samples or max(steps, queries - 2 * DRAWS - steps * SEARCH),
        remember=remember,
        frequencies=frequencies,
    )
    return run_decisions(method, model, x, labels, norm=norm, starts=starts, **options)
