"""The boundary attack: a random walk along the boundary, towards the sample.

Brendel, Rauber and Bethge, "Decision-based adversarial attacks: reliable attacks against black-box machine learning
models", ICLR 2018, algorithm 1.
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

EVERY = 10
"""In one of so many steps the part of it that leads around the sample is asked about alone."""


def adapted(size: Tensor, fooled: Tensor, *, share: float, rate: float) -> Tensor:
    """Step sizes that grow at a success and shrink at a miss, so that in the long run ``share`` of the steps succeed.

    Example:
        >>> adapted(torch.ones(2), torch.tensor([True, False]), share=0.25, rate=0.2)
        tensor([1.1618, 0.9512])
    """
    return size * (rate * (fooled.to(size.dtype) - share)).exp()


def walk(
    x: Tensor,
    perturbation: Perturbation,
    *,
    generator: torch.Generator,
    norm: Norm,
    bounds: tuple[float, float],
    starts: Tensor | None,
    steps: int,
    step_around: float,
    step_towards: float,
    frequencies: float,
) -> Method[None]:
    """The method behind :func:`boundary`."""
    search = BoundarySearch(x, perturbation, norm, generator, bounds)
    directions = search.directions(frequencies)
    p, wanted = yield from search.start(starts)
    p = yield from search.to_boundary(p, wanted)
    around, towards = torch.full_like(norm.size(p), step_around), torch.full_like(norm.size(p), step_towards)
    for step in range(steps):
        distance = norm.size(p)
        beside = per_sample(around * distance, p) * aside(directions(len(x)), p)
        turned = norm.steepest(p + beside) * per_sample(distance, p)
        if step % EVERY == 0:
            answer = yield Ask(search.clip(turned), probe=True, wanted=wanted)
            around = adapted(around, answer.fooled, share=0.5, rate=0.5)
        nearer = search.clip(turned * per_sample(1 - towards, p))
        answer = yield Ask(nearer, wanted=wanted)
        p = torch.where(per_sample(answer.fooled, p), nearer, p)
        towards = adapted(towards, answer.fooled, share=0.25, rate=0.2)


def boundary(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    steps: int | None = None,
    step_around: float = 0.1,
    step_towards: float = 0.01,
    frequencies: float = 1.0,
    starts: Tensor | None = None,
    **options: Unpack[RunOptions],
) -> AttackResult:
    """Find a small l2 perturbation of each sample from decisions alone, by a random walk.

    Every step goes around the sample in a random direction, then a little towards it, and stands if the goal is still
    met. Both lengths adapt: half of the steps around shall succeed, and a quarter of the whole steps.

    Args:
        model: maps inputs to logits, shape ``[n, classes]``; only which of them is largest is read.
        x: clean samples, float32, shape ``[n, ...]``, inside ``bounds`` ([0, 1] unless said).
        labels: their classes, int64, shape ``[n]``.
        steps: at least 1; by default as many as ``budget`` pays for, or 5000.
        step_around: length of the first step around the sample, as a share of the distance.
        step_towards: length of the first step towards it, as a share of the distance; below 1.
        frequencies: the share of the frequencies along height and width, or time, from the lowest, that the steps
            around the sample are made of, in (0, 1]; 1 is the paper's.
        starts: for each sample an input that meets the goal, such as one of the target class, float32, shape
            ``[n, ...]``; by default, and where it does not, random ones are tried.
        **options: the settings of :func:`attacks.run`: targets, bounds, restarts, budget, batch_size, levels, seed,
            generator, progress.

    Raises:
        InputError: when samples, labels or settings cannot be used as they are.

    Example:
        >>> x, labels = torch.tensor([[0.6, 0.5]]), torch.tensor([0])
        >>> boundary(nn.Identity(), x, labels, steps=300).distance < 0.0708 * 1.01  # the boundary is 0.1 / sqrt(2) away
        tensor([True])
    """
    check_counts(steps=steps)
    check_amounts(step_around=step_around, step_towards=step_towards)
    check_frequencies(frequencies)
    method = partial(
        walk,
        steps=steps or options.get("budget") or QUERIES,
        step_around=step_around,
        step_towards=step_towards,
        frequencies=frequencies,
    )
    return run_decisions(method, model, x, labels, norm="l2", starts=starts, **options)
