"""SimBA: one random orthonormal direction after another, up or down, wherever the model grows less sure.

Guo et al., "Simple black-box adversarial attacks", ICML 2019.
"""

from functools import partial
from math import prod
from typing import Unpack

import numpy as np
import torch
from torch import Tensor, nn

from attacks.errors import InputError

from ..engine import (
    Ask,
    AttackResult,
    Loss,
    Method,
    Objective,
    Perturbation,
    RunOptions,
    as_tensor,
    away_or_towards,
    check_amounts,
    check_counts,
    per_sample,
    run,
)
from .search import span


def log_odds(logits: Tensor, classes: Tensor) -> Tensor:
    """The log-odds against a class, shape ``[n]``: they order points as its probability does, but never round to one.

    Example:
        >>> log_odds(torch.tensor([[0.0, 40.0]]), torch.tensor([1]))
        tensor([-40.])
    """
    others = logits.scatter(1, classes[:, None], -torch.inf)
    return others.logsumexp(1) - logits.gather(1, classes[:, None]).squeeze(1)


def waves(length: int, count: int) -> Tensor:
    """The lowest of the orthonormal cosine waves along a line, one a row, shape ``[count, length]``.

    Example:
        >>> waves(2, 2)
        tensor([[ 0.7071,  0.7071],
                [ 0.7071, -0.7071]])
    """
    from scipy.fft import idct  # a third of a second that help and other attacks need not wait for

    return torch.from_numpy(idct(np.eye(length), norm="ortho", axis=1)[:count]).float()


class Basis:
    """Orthonormal vectors of the shape of a sample, each in one of its planes: what two lines span there.

    Args:
        like: samples, shape ``[n, ...]``; their last two axes are the planes, a single one is a plane of height 1.
        share: of the cosine waves along each axis, the lowest; None: single entries instead.
    """

    def __init__(self, like: Tensor, share: float | None) -> None:
        height, width = (1, *like.shape[1:])[-2:]
        self.down, self.across = (
            (torch.eye(length) if share is None else waves(length, max(round(share * length), 1))).to(like)
            for length in (height, width)
        )
        self.shape, self.planes, self.each = like.shape[1:], prod(like.shape[1:-2]), len(self.down) * len(self.across)

    def __len__(self) -> int:
        return self.planes * self.each

    def __getitem__(self, places: Tensor) -> Tensor:
        """The vectors at these places, int64, shape ``[n]``, as ``[n, ...]``."""
        plane, place = places // self.each, places % self.each
        down, across = self.down[place // len(self.across)], self.across[place % len(self.across)]
        vectors = down.new_zeros(len(places), self.planes, down.shape[1], across.shape[1])
        vectors[torch.arange(len(places), device=places.device), plane] = down[:, :, None] * across[:, None]
        return vectors.reshape(-1, *self.shape)


def random_directions(
    x: Tensor,
    perturbation: Perturbation,
    *,
    generator: torch.Generator,
    objective: Objective,
    frequencies: float | None,
    steps: int,
    step_size: float,
) -> Method[None]:
    """The method behind :func:`simba`."""
    basis = Basis(x, frequencies)
    p = as_tensor(perturbation.start(x))
    loss = (yield Ask(p, objective)).loss
    for i in range(steps):
        place = i % len(basis)
        if place == 0:
            order = torch.rand(len(x), len(basis), generator=generator, device=x.device).argsort(1)
        vector, stuck = step_size * basis[order[:, place]], torch.ones_like(loss, dtype=torch.bool)
        for move in (vector, -vector):
            moved = as_tensor(perturbation.clip(x, p + move))
            answer = yield Ask(moved, objective, wanted=stuck)
            better = stuck & (answer.loss < loss)
            p, loss = torch.where(per_sample(better, p), moved, p), torch.where(better, answer.loss, loss)
            stuck = stuck & ~better


def simba(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    steps: int = 10_000,
    step_size: float | None = None,
    basis: str = "dct",
    frequencies: float = 0.125,
    loss: Loss = log_odds,
    **options: Unpack[RunOptions],
) -> AttackResult:
    """Attack each sample along one random orthonormal direction after another. Needs scores only.

    A step tries a direction up and, where that does not help, down: one query or two. A sample is left alone as soon as
    it succeeds. While no direction has come twice, ``k`` steps change it by at most ``step_size * sqrt(k)`` in l2.

    Args:
        model: maps inputs to scores, shape ``[n, classes]``; they need no gradient.
        x: clean samples, float32, shape ``[n, ...]``, inside ``bounds`` ([0, 1] unless said).
        labels: their classes, int64, shape ``[n]``.
        steps: directions tried, at least 1; once all have been, they come again in another order.
        step_size: by how much a direction changes a sample, in l2 and the units of ``x``, above 0; 0.2 times the width
            of the bounds unless given.
        basis: "pixel", one entry after another, or "dct", the cosine waves over the last two axes of a sample.
        frequencies: of the cosine waves along an axis, the share that is used, the lowest, above 0 and at most 1; an
            eighth in the paper, for images of 224 pixels.
        loss: what the attack raises at the labels, or lowers at the targets; by default it follows the probability.
        **options: the settings of :func:`attacks.run`: targets, bounds, stop, restarts, budget, batch_size, levels,
            seed, generator, progress.

    Returns:
        What was found, with l2 distances; :meth:`AttackResult.at` says what of it counts within a radius.

    Raises:
        InputError: when samples, labels or settings cannot be used as they are.

    Example:
        >>> x, labels = torch.tensor([[0.6, 0.5]]), torch.tensor([0])
        >>> result = simba(nn.Identity(), x, labels, basis="pixel", step_size=0.06)
        >>> result.success, result.distance
        (tensor([True]), tensor([0.0849]))
    """
    step_size = 0.2 * span(options) if step_size is None else step_size
    check_counts(steps=steps)
    check_amounts(step_size=step_size, frequencies=frequencies)
    if basis not in ("pixel", "dct"):
        raise InputError(f"basis={basis!r} is not known: use 'pixel' or 'dct'.")
    if step_size == 0 or not 0 < frequencies <= 1:
        raise InputError(
            f"step_size={step_size} and frequencies={frequencies}: both must be above 0, frequencies at most 1."
        )
    method = partial(
        random_directions,
        objective=away_or_towards(loss, options.get("targets")),
        frequencies=frequencies if basis == "dct" else None,
        steps=steps,
        step_size=step_size,
    )
    return run(method, model, x, labels, norm="l2", **options)
