"""RayS: towards which corner of the box the boundary is nearest, found by flipping ever smaller blocks of signs.

Chen and Gu, "RayS: a ray searching method for hard-label adversarial attack", KDD 2020, algorithm 3.
"""

from collections.abc import Iterator
from functools import partial
from typing import Unpack

import torch
from torch import Tensor, nn

from ..engine import Ask, AttackResult, Method, Norm, Perturbation, RunOptions, check_counts
from .boundary_search import TRIES, BoundarySearch
from .decisions import QUERIES, run_decisions

GAIN = 2.0**-10
"""The share by which a flip has to shorten the way, and to which the length is known."""


def corners(search: BoundarySearch, starts: Tensor | None) -> Iterator[Tensor]:
    """Corners of the box: towards the inputs given, all entries at their largest, at their smallest, then random."""
    low, high = (torch.full_like(search.x, bound) for bound in search.bounds)
    if starts is not None:
        yield torch.where(starts.to(search.x.device) > search.x, high, low)
    yield high
    yield low
    for _ in range(TRIES):
        up = torch.rand(search.x.shape, generator=search.generator, device=search.x.device) < 0.5
        yield torch.where(up, high, low)


def flipped(signs: Tensor, blocks: Tensor, place: Tensor) -> Tensor:
    """Signs, shape ``[n, entries]``, with one block turned round: of each row cut into ``blocks`` that at ``place``.

    Example:
        >>> flipped(torch.ones(2, 6), torch.tensor([2, 3]), torch.tensor([0, 2]))
        tensor([[-1., -1., -1.,  1.,  1.,  1.],
                [ 1.,  1.,  1.,  1., -1., -1.]])
    """
    entries = torch.arange(signs.shape[1], device=signs.device)
    first, last = place * len(entries) // blocks, (place + 1) * len(entries) // blocks
    return torch.where((entries >= first[:, None]) & (entries < last[:, None]), -signs, signs)


def flips(
    x: Tensor,
    perturbation: Perturbation,
    *,
    generator: torch.Generator,
    norm: Norm,
    bounds: tuple[float, float],
    starts: Tensor | None,
    steps: int,
) -> Method[None]:
    """The method behind :func:`rays`: every sample is at a flip and at a length of its own.

    A flip is tried at the length less a gain, which doubles until the first miss and is halved from there on.
    """
    search = BoundarySearch(x, perturbation, norm, generator, bounds)
    p, wanted = yield from search.find(corners(search, starts))
    signs = torch.where(x + p > sum(bounds) / 2, 1.0, -1.0).flatten(1)
    length = torch.full_like(signs[:, 0], bounds[1] - bounds[0])
    gain, growing, tried = length / 2, wanted, signs
    blocks, place = torch.ones_like(wanted, dtype=torch.int64), torch.full_like(wanted, -1, dtype=torch.int64)
    for _ in range(steps):
        answer = yield Ask(search.along(tried.reshape(x.shape), length - gain), wanted=wanted)
        length = torch.where(answer.fooled, length - gain, length)
        signs = torch.where(answer.fooled[:, None], tried, signs)
        growing = growing & answer.fooled
        gain = torch.where(growing, torch.minimum(2 * gain, length / 2), gain / 2)
        known = gain < GAIN * length  # on to the next flip, at first with the least gain that makes it worth it
        gain, growing, place = torch.where(known, GAIN * length, gain), growing | known, place + known
        finer = torch.where(blocks < signs.shape[1], (2 * blocks).clamp_max(signs.shape[1]), 1)
        place, blocks = torch.where(place < blocks, place, 0), torch.where(place < blocks, blocks, finer)
        tried = torch.where(known[:, None], flipped(signs, blocks, place), tried)


def rays(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    steps: int | None = None,
    starts: Tensor | None = None,
    **options: Unpack[RunOptions],
) -> AttackResult:
    """Find a small l-inf perturbation of each sample from decisions alone.

    All entries change by one amount, up or down. First all signs are turned round, then each half of the entries, each
    quarter, and so on; a flip stands if the boundary is nearer with it, which one decision says.

    Args:
        model: maps inputs to logits, shape ``[n, classes]``; only which of them is largest is read.
        x: clean samples, float32, shape ``[n, ...]``, inside ``bounds`` ([0, 1] unless said).
        labels: their classes, int64, shape ``[n]``.
        steps: decisions, at least 1; by default as many as ``budget`` pays for, or 5000.
        starts: for each sample an input towards which the goal is met in the corner of the box, float32, shape
            ``[n, ...]``; by default, and where it is not, other corners are tried.
        **options: the settings of :func:`attacks.run`: targets, bounds, restarts, budget, batch_size, levels, seed,
            generator, progress.

    Raises:
        InputError: when samples, labels or settings cannot be used as they are.

    Example:
        >>> x, labels = torch.tensor([[0.6, 0.5]]), torch.tensor([0])
        >>> rays(nn.Identity(), x, labels, steps=50).distance < 0.05 * 1.01  # the boundary is 0.05 away
        tensor([True])
    """
    check_counts(steps=steps)
    method = partial(flips, steps=steps or options.get("budget") or QUERIES)
    return run_decisions(method, model, x, labels, norm="linf", starts=starts, **options)
