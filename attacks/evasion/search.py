"""What attacks share that search a constant per sample: Carlini-Wagner, EAD and ZOO.

Carlini and Wagner, "Towards evaluating the robustness of neural networks", S&P 2017, section V; the end of an attempt
is that of the authors' code.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from attacks.errors import InputError

from ..engine import Answer, Ask, Method, RunOptions, View, away_or_towards, check_amounts, check_counts, margin
from ..engine.checks import check_bounds

PATIENCE = 0.9999


def standing(start: Tensor, confidence: float = 0.0) -> Method[Tensor]:
    """Which samples need an attack, bool, shape ``[n]``: not those that are misclassified as they are."""
    if confidence:
        return torch.ones(len(start), dtype=torch.bool, device=start.device)
    answer = yield Ask(start)
    return ~answer.fooled


def span(options: RunOptions) -> float:
    """The width of the bounds: default lengths are a share of it, so that no scale of the samples matters.

    Example:
        >>> span({"bounds": (-1.0, 1.0)}), span({})
        (2.0, 1.0)
    """
    low, high = bounds = options.get("bounds", (0.0, 1.0))
    check_bounds(bounds)
    return high - low


def check_search(*, search_steps: int, steps: int, step_size: float | None, initial_c: float | None) -> None:
    """Refuse settings with which no constant could be searched for.

    Raises:
        InputError: naming the setting, its value and what is allowed.
    """
    check_counts(search_steps=search_steps, steps=steps)
    check_amounts(step_size=step_size, initial_c=initial_c)
    if initial_c == 0:
        raise InputError("initial_c=0 would stay 0 however often it grows tenfold: give a number above 0, 0.001 say.")


def search_constant(attempt: Callable[[Tensor], Method[Tensor]], constant: Tensor, *, steps: int) -> Method[None]:
    """Try constants: ten times larger until an attempt succeeds, then bisect for the smallest that does.

    In searches of ten or more attempts the last one takes the smallest constant that is known to work, as in the
    authors' code.

    Args:
        attempt: a method that minimises with these constants and returns where it succeeded, bool, shape ``[n]``.
        constant: the first constants, above 0, shape ``[n]``.
        steps: attempts, at least 1.
    """
    low, high = torch.zeros_like(constant), torch.full_like(constant, torch.inf)
    for i in range(steps):
        if steps >= 10 and i == steps - 1:
            constant = torch.where(high.isfinite(), high, constant)
        found = yield from attempt(constant)
        low, high = torch.where(found, low, constant), torch.where(found, constant, high)
        constant = torch.where(high.isfinite(), (low + high) / 2, constant * 10)


class Shortfall:
    """By how many logits the goal is missed, ``max(margin + confidence, 0)`` (the paper's f6): an objective.

    Args:
        targets: of the run; None when it is untargeted.
        confidence: the logits by which the wrong class must lead, at least 0.
        x: the samples, shape ``[n, ...]``.
    """

    def __init__(self, targets: Tensor | None, confidence: float, x: Tensor) -> None:
        self.goal, self.confidence = away_or_towards(margin, targets), confidence
        self.seen = x.new_zeros(len(x))

    def __call__(self, view: View) -> Tensor:
        """The shortfall of each sample, shape ``[n]``, remembered for :meth:`put`."""
        short = (self.goal(view) + self.confidence).clamp_min(0)
        self.seen[view.batch.rows] = short.detach()
        return short

    def put(self, ask: Ask) -> Method[tuple[Answer, Tensor]]:
        """Put an ask whose objective reads this shortfall; returns the answer, and who reached the goal, bool, [n].

        With a confidence, only points that have it may count as found: these are looked at once more, as candidates.
        """
        if not self.confidence:
            answer = yield ask
            return answer, answer.fooled
        answer = yield replace(ask, probe=True)
        reached = answer.fooled & (self.seen == 0)
        yield Ask(ask.parameters, wanted=reached)
        return answer, reached


class Review:
    """Ends an attempt for the samples whose loss no longer falls: by less than 0.01 % in a tenth of the steps.

    Args:
        wanted: the samples in the attempt, bool, shape ``[n]``.
        steps: of the attempt.

    Attributes:
        wanted: the samples that are still in the attempt.

    Example:
        >>> review = Review(torch.tensor([True, True]), steps=20)  # looks at every second loss
        >>> [review.over(i, torch.tensor([5.0 - i, 5.0])) for i in range(3)], review.wanted
        ([False, False, False], tensor([ True, False]))
    """

    def __init__(self, wanted: Tensor, steps: int) -> None:
        self.wanted, self.every = wanted, max(steps // 10, 1)
        self.before = torch.full(wanted.shape, torch.inf, device=wanted.device)

    def over(self, i: int, loss: Tensor, *, stay: Tensor | None = None) -> bool:
        """Whether the attempt is over for all samples, seen their losses at step ``i``, shape ``[n]``.

        Those in ``stay``, bool, shape ``[n]``, go on whatever their loss.
        """
        if i % self.every:
            return False
        falling = loss <= PATIENCE * self.before
        self.wanted, self.before = self.wanted & (falling if stay is None else falling | stay), loss
        return not bool(self.wanted.any())
