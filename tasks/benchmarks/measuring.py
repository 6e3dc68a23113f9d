"""Measuring one library on one case, in this process: time against the floor, passes, and what came of it."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import numpy as np
import torch
from torch import Tensor

from attacks.engine import AttackResult

from .bare import Floor, clock, floor
from .counting import Counted
from .judge import judge
from .methods import Case, Method

SHORT = 10.0
"""Seconds: a first run that took less only warms up, and a longer one counts, since warmth no longer matters."""
LONG = 60.0
"""Seconds after which a case is not repeated any more."""
FLOOR = 0.2, 3.0
"""Seconds for which the floor is measured before and after a run, at least and at most; otherwise half as long."""


@dataclass(frozen=True)
class Measured:
    """What one library did on one case.

    Attributes:
        seconds: of processor time, the median of the repeats.
        floor_ratio: over the floor of the nominal passes, or of the passes made where the settings only bound them;
            median of the repeats, each paired with the floor measured just before and after it.
        forward_passes: a sample, mean.
        backward_passes: likewise.
        robust_accuracy: share of the samples that withstood.
        mean_distance: of the others; None where there are none.
        interval: 95 % Wilson interval of the robust accuracy.
        samples: how many.
        repeats: how often it was timed.
        cost: seconds in units of one bare forward and backward pass, paired likewise: what ratios between libraries
            are taken of, because what slows the whole machine down cancels in it.
        remark: what a reader should know of this figure; None usually.
    """

    seconds: float
    floor_ratio: float
    forward_passes: float
    backward_passes: float
    robust_accuracy: float
    mean_distance: float | None
    interval: tuple[float, float]
    samples: int
    repeats: int
    cost: float
    remark: str | None = None


def measure(attack: Callable[[Case], Tensor | AttackResult], case: Case, method: Method, *, repeats: int) -> Measured:
    """Run an attack on a case several times, each time between two measurements of the floor.

    Args:
        attack: a library's adaptor.
        case: its model is any module; it is counted here.
        method: the nominal passes, and whether the radius counts.
        repeats: how often it is timed; less often where that takes too long.

    Returns:
        The figures; passes and results are those of the last run, which are those of every run, since all are seeded
        alike.
    """
    counted = Counted(case.model)
    bare = partial(floor, case.model, case.x, case.labels)
    told = replace(case, model=counted)
    runs: list[tuple[float, Floor]] = []
    warming, span = 1, FLOOR[0]
    while len(runs) < repeats + warming and sum(seconds for seconds, _ in runs) < LONG:
        before = bare(span)
        seconds, attacked = _timed(attack, told)
        span = min(max(seconds / 2, FLOOR[0]), FLOOR[1])
        after = bare(span)
        runs.append((seconds, Floor((before.forward + after.forward) / 2, (before.both + after.both) / 2)))
        warming = int(runs[0][0] < SHORT)
    del runs[:warming]
    passes = counted.forward_passes / len(case.x), counted.backward_passes / len(case.x)
    found = attacked.adversarial if isinstance(attacked, AttackResult) else attacked
    within = case.epsilon if method.fixed else None
    rate, distance = judge(case.model, case.x, case.labels, found, norm=method.norm, epsilon=within)
    return Measured(
        seconds=median(seconds for seconds, _ in runs),
        floor_ratio=median(seconds / paired.of(*(method.nominal or passes)) for seconds, paired in runs),
        forward_passes=passes[0],
        backward_passes=passes[1],
        robust_accuracy=rate.value,
        mean_distance=distance,
        interval=rate.interval,
        samples=len(case.x),
        repeats=len(runs),
        cost=median(seconds / paired.both for seconds, paired in runs),
        remark=_checked(attacked, counted),
    )


def _timed(attack: Callable[[Case], Tensor | AttackResult], case: Case) -> tuple[float, Tensor | AttackResult]:
    assert isinstance(case.model, Counted)
    case.model.reset()
    random.seed(case.seed)
    np.random.seed(case.seed)
    torch.manual_seed(case.seed)
    clean = replace(case, x=case.x.clone(), labels=case.labels.clone())  # some write into what they are given
    began = clock()
    attacked = attack(clean)
    return clock() - began, attacked


def _checked(attacked: Tensor | AttackResult, counted: Counted) -> str | None:
    """What is wrong with the passes that a result reports of itself, if anything."""
    if not isinstance(attacked, AttackResult):
        return None
    said = int(attacked.forward_passes.sum()), int(attacked.backward_passes.sum())
    seen = counted.forward_passes, counted.backward_passes
    if said == seen:
        return None
    return f"reports {said[0]} forward and {said[1]} backward passes, but {seen[0]} and {seen[1]} were made"
