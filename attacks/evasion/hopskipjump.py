"""HopSkipJump: steps along the boundary's normal, which is estimated from decisions.

Chen, Jordan and Wainwright, "HopSkipJumpAttack: a query-efficient decision-based attack", S&P 2020, algorithm 2.
"""

from functools import partial
from itertools import accumulate, count, takewhile
from math import sqrt
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
from .boundary_search import BoundarySearch
from .decisions import QUERIES, check_frequencies, run_decisions

HALVINGS = 16
"""How often a step that loses the goal is halved before the point stays where it is."""


def samples_at(step: int, initial: int, most: int) -> int:
    """How many decisions the estimate of a step, counted from 1, is made of.

    Example:
        >>> [samples_at(step, 100, 150) for step in (1, 2, 4)]
        [100, 141, 150]
    """
    return min(int(initial * sqrt(step)), most)


def steps_for(queries: int, initial: int, most: int) -> int:
    """How many steps' estimates so many queries pay for, at least 1.

    Example:
        >>> steps_for(300, 100, 10_000)
        2
    """
    costs = accumulate(samples_at(step, initial, most) for step in count(1))
    return max(1, sum(1 for _ in takewhile(lambda spent: spent <= queries, costs)))


def jump(search: BoundarySearch, p: Tensor, way: Tensor, length: Tensor, wanted: Tensor) -> Method[Tensor]:
    """Go from ``p`` along ``way`` by ``length``, shape ``[n]``, or by half of it, and so on, until the goal is met."""
    landed, missing = p, wanted
    for _ in range(HALVINGS):
        there = search.clip(p + per_sample(length, p) * way)
        answer = yield Ask(there, wanted=missing)
        landed, missing = torch.where(per_sample(answer.fooled, p), there, landed), missing & ~answer.fooled
        if not bool(missing.any()):
            break
        length = length / 2
    return landed


def hops(
    x: Tensor,
    perturbation: Perturbation,
    *,
    generator: torch.Generator,
    norm: Norm,
    bounds: tuple[float, float],
    starts: Tensor | None,
    steps: int,
    initial_samples: int,
    max_samples: int,
    frequencies: float,
) -> Method[None]:
    """The method behind :func:`hopskipjump`."""
    search = BoundarySearch(x, perturbation, norm, generator, bounds)
    directions = search.directions(frequencies)
    p, wanted = yield from search.start(starts)
    p = yield from search.to_boundary(p, wanted)
    for step in range(1, steps + 1):
        samples = samples_at(step, initial_samples, max_samples)
        normal = yield from search.normal(p, samples=samples, wanted=wanted, directions=directions)
        p = yield from jump(search, p, norm.steepest(normal), norm.size(p) / sqrt(step), wanted)
        p = yield from search.to_boundary(p, wanted)


def hopskipjump(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    norm: str = "l2",
    steps: int | None = None,
    initial_samples: int = 100,
    max_samples: int = 10_000,
    frequencies: float = 1.0,
    starts: Tensor | None = None,
    **options: Unpack[RunOptions],
) -> AttackResult:
    """Find a small perturbation of each sample from the model's decisions alone.

    Every step estimates which way the boundary faces, jumps that way, and goes back to the boundary.

    Args:
        model: maps inputs to logits, shape ``[n, classes]``; only which of them is largest is read.
        x: clean samples, float32, shape ``[n, ...]``, inside ``bounds`` ([0, 1] unless said).
        labels: their classes, int64, shape ``[n]``.
        norm: "l2" or "linf".
        steps: at least 1; by default as many as ``budget`` pays for, or 5000 queries a sample.
        initial_samples: decisions that the first estimate is made of; in step t it is sqrt(t) times as many,
        max_samples: but at most so many.
        frequencies: the share of the frequencies along height and width, or time, from the lowest, in which the normal
            is estimated, in (0, 1]. For images half of them is often better; 1 is the paper's.
        starts: for each sample an input that meets the goal, such as one of the target class, float32, shape
            ``[n, ...]``; by default, and where it does not, random ones are tried.
        **options: the settings of :func:`attacks.run`: targets, bounds, restarts, budget, batch_size, levels, seed,
            generator, progress.

    Raises:
        InputError: when samples, labels or settings cannot be used as they are.

    Example:
        >>> x, labels = torch.tensor([[0.6, 0.5]]), torch.tensor([0])
        >>> result = hopskipjump(nn.Identity(), x, labels, budget=500)
        >>> result.distance < 0.0708 * 1.01  # the boundary is 0.1 / sqrt(2) away
        tensor([True])
    """
    check_counts(steps=steps, initial_samples=initial_samples, max_samples=max_samples)
    check_plain_steps(norm)
    check_frequencies(frequencies)
    method = partial(
        hops,
        steps=steps or steps_for(options.get("budget") or QUERIES, initial_samples, max_samples),
        initial_samples=initial_samples,
        max_samples=max_samples,
        frequencies=frequencies,
    )
    return run_decisions(method, model, x, labels, norm=norm, starts=starts, **options)
