"""What decision-based attacks share: where they start, how they reach the boundary, which way it faces there.

They read nothing of an answer but whether the goal is met, so a model that shows only its label is enough.
"""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from math import sqrt

import torch
from torch import Tensor

from ..engine import Ask, Method, Norm, Perturbation, as_tensor, get_norm, per_sample
from .simba import waves

PROBE = 0.01
"""How far from a point of the boundary its surroundings are asked about, as a share of the point's distance."""

TRIES = 100
"""Random inputs that are tried as a start."""

DRAWS, SHRINK = 30, 0.95
"""Queries for a nearer start, and the share of the distance at which it has to lie."""

HALVINGS = 40
"""The most queries for one search along a path: more than float32 resolves."""

TOGETHER = 256
"""Probes of all samples that are asked about at once, about: as many inputs as a run sends at once."""


@dataclass(frozen=True)
class BoundarySearch:
    """The samples under attack, and the moves of which decision-based attacks are made.

    Attributes:
        x: the clean samples, shape ``[n, ...]``.
        perturbation: what a point does to them.
        norm: the distance that is to become small.
        generator: all chance comes from it.
        bounds: the smallest and largest valid entry.
    """

    x: Tensor
    perturbation: Perturbation
    norm: Norm
    generator: torch.Generator
    bounds: tuple[float, float]

    def clip(self, p: Tensor) -> Tensor:
        """The nearest points that make valid inputs; ``p`` has shape ``[n, ...]``, or ``[n, m, ...]`` for several."""
        x = self.x if p.dim() == self.x.dim() else self.x.unsqueeze(1)
        return as_tensor(self.perturbation.clip(x, p))

    def along(self, way: Tensor, lengths: Tensor) -> Tensor:
        """Points so many times a way from the samples, ``lengths`` of shape ``[n]``, and inside the bounds."""
        return self.clip(per_sample(lengths, way) * way)

    def start(self, starts: Tensor | None) -> Method[tuple[Tensor, Tensor]]:
        """A point for each sample at which the goal is met: from the input given, or else the nearest of random ones.

        Returns:
            The points and the samples to search, as :meth:`find`.
        """
        given = [] if starts is None else [starts.to(self.x.device)]
        p, wanted = yield from self.find(chain(given, (self._noise() for _ in range(TRIES))))
        p = yield from self._nearer(p, wanted)
        return p, wanted

    def find(self, candidates: Iterable[Tensor]) -> Method[tuple[Tensor, Tensor]]:
        """The first of several inputs, each of shape ``[n, ...]``, at which the goal is met.

        Returns:
            The points that make them, shape ``[n, ...]``, and the samples to search, bool, shape ``[n]``: not those
            that are misclassified as they are, nor those of which no candidate met the goal.
        """
        p = as_tensor(self.perturbation.start(self.x))
        answer = yield Ask(p)
        wanted = missing = ~answer.fooled
        for inputs in candidates:
            if not bool(missing.any()):
                break
            q = self.clip(inputs - self.x)
            answer = yield Ask(q, wanted=missing)
            p, missing = torch.where(per_sample(answer.fooled, p), q, p), missing & ~answer.fooled
        if bool(missing.any()):
            warnings.warn(
                f"No start was found for {int(missing.sum())} of {len(missing)} samples, which count as failures: none "
                "of the inputs tried met the goal, or the budget is spent. Hand over inputs that do as starts=.",
                stacklevel=2,
            )
        return p, wanted & ~missing

    def _noise(self) -> Tensor:
        low, high = self.bounds
        share = torch.rand(self.x.shape, generator=self.generator, device=self.x.device, dtype=self.x.dtype)
        return low + (high - low) * share

    def _nearer(self, p: Tensor, wanted: Tensor) -> Method[Tensor]:
        """Follow each way towards the sample for as long as the goal is met, then try another one at that distance."""
        way = p
        for _ in range(DRAWS):
            q = self.norm.project(way, SHRINK * self.norm.size(p))
            answer = yield Ask(q, wanted=wanted)
            p = torch.where(per_sample(answer.fooled, p), q, p)
            way = torch.where(per_sample(answer.fooled, p), way, self.clip(self._noise() - self.x))
        return p

    def to_boundary(self, p: Tensor, wanted: Tensor) -> Method[Tensor]:
        """From points that meet the goal towards the samples, for as long as it is met.

        The way is a straight line in l2; in l-inf it leads over the nearest points of ever smaller balls.
        """
        return (yield from self.bisect(partial(self.norm.project, p), self.norm.size(p), wanted))

    def bisect(self, path: Callable[[Tensor], Tensor], inside: Tensor, wanted: Tensor) -> Method[Tensor]:
        """The points of paths from the samples that are next to the boundary, the goal still met, shape ``[n, ...]``.

        How near, as a share of their distance, is as far as the probes of :meth:`normal` reach across the boundary, so
        that these find both sides of it.

        Args:
            path: from places, shape ``[n]``, to points, shape ``[n, ...]``; place 0 is the sample.
            inside: places at which the goal is met.
            wanted: the samples to ask about, bool, shape ``[n]``.
        """
        tolerance = PROBE / sqrt(self.x[0].numel())
        outside = torch.zeros_like(inside)
        near, far = path(inside), path(outside)
        for _ in range(HALVINGS):
            open_ = wanted & (self.norm.size(near - far) > tolerance * self.norm.size(near))
            if not bool(open_.any()):
                break
            middle = (inside + outside) / 2
            point = path(middle)
            answer = yield Ask(point, wanted=open_)
            met, missed = answer.fooled, open_ & ~answer.fooled
            inside, outside = torch.where(met, middle, inside), torch.where(missed, middle, outside)
            near = torch.where(per_sample(met, near), point, near)
            far = torch.where(per_sample(missed, far), point, far)
        return near

    def normal(self, p: Tensor, *, samples: int, wanted: Tensor, directions: Callable[[int], Tensor]) -> Method[Tensor]:
        """Which way the goal lies from points of the boundary, estimated from decisions around them.

        Random directions are added up, each with the sign of the decision at ``PROBE`` of the distance. The mean sign
        is taken off before, which lowers the variance where a point is not quite on the boundary, except where all
        decisions agree; what the bounds cut off a direction is not added.

        Source: Chen et al., "HopSkipJumpAttack", S&P 2020, equation 16. There the distance is divided by the number of
        entries, which for images is too short for single precision.

        Args:
            p: points of the boundary, shape ``[n, ...]``.
            samples: how many directions.
            wanted: the samples to ask about, bool, shape ``[n]``.
            directions: draws so many of them, see :meth:`directions`.

        Returns:
            The normals at l2 length 1, shape ``[n, ...]``.
        """
        n, at, l2 = len(p), p.unsqueeze(1), get_norm("l2")
        radius = per_sample(PROBE * l2.size(p), at)
        sums, votes = p.new_zeros(n, 2, p[0].numel()), p.new_zeros(n)
        together = max(1, TOGETHER // n)
        for asked in range(0, samples, together):
            points = self.clip(torch.addcmul(at, radius, directions(min(together, samples - asked))))
            answer = yield Ask(points, several=True, wanted=wanted)
            signs = torch.where(answer.fooled, 1.0, -1.0)
            sums += torch.stack((signs, torch.ones_like(signs)), 1) @ (points - at).flatten(2)
            votes += signs.sum(1)
        mean = torch.where(votes.abs() == samples, 0, votes / samples)
        return l2.steepest((sums[:, 0] - mean[:, None] * sums[:, 1]).reshape(p.shape))

    def directions(self, frequencies: float) -> Callable[[int], Tensor]:
        """Draws random directions of l2 length 1: a function from ``m`` to ``[m, ...]``, for all samples alike.

        Args:
            frequencies: the share of the frequencies, from the lowest, that the directions are made of along each axis
                in space or time, which are all axes but the first one of several; 1: all.
        """
        leading, axes = (self.x.shape[1:2], self.x.shape[2:]) if self.x.dim() > 2 else ((), self.x.shape[1:])
        counts = [max(round(frequencies * length), 1) for length in axes]
        slow = [waves(*sizes).to(self.x) for sizes in zip(axes, counts, strict=True)] if frequencies < 1 else []

        def draw(m: int) -> Tensor:
            drawn = torch.randn(
                (m, *leading, *counts), generator=self.generator, device=self.x.device, dtype=self.x.dtype
            )
            for axis, basis in enumerate(slow, start=-len(slow)):
                drawn = (drawn.movedim(axis, -1) @ basis).movedim(-1, axis)
            return get_norm("l2").steepest(drawn)

        return draw


def aside(way: Tensor, p: Tensor) -> Tensor:
    """The part of a way that is across ``p``, at l2 length 1.

    Example:
        >>> aside(torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0, 0.0]]))
        tensor([[0., 1.]])
    """
    l2 = get_norm("l2")
    heading = l2.steepest(p)
    return l2.steepest(way - per_sample((way * heading).flatten(1).sum(1), p) * heading)
