"""Auto-PGD in l1: sparse steps inside the joint of ball and box.

Croce and Hein, "Mind the box: l1-APGD for sparse adversarial attacks on image classifiers", ICML 2021, algorithm 1.

Two departures from the authors' code: the first start lies inside the ball of the wanted radius, and each of the three
phases begins with a fifth of the entries, where the code carries the share over from the phase before. On a small
robust network neither changed the robust accuracy by more than 2 of 96 images, at radii of 8 and 12.
"""

import torch
from torch import Tensor

from ..engine import Ask, Method, Objective, Perturbation, as_tensor, feasible, get_norm, per_sample

START_SHARE = 0.2
"""The share of the entries that the first steps move."""
SPARSER = 1.5
"""Later steps move this many times fewer entries than the best point differs in, and shrink by it as well."""
STALLED = 0.95
"""A sparsity that is at least this share of the one before has settled: then the step size shrinks."""
PHASES = ((3.0, 0.3), (2.0, 0.3), (1.0, 0.4))
"""Radii, as multiples of epsilon, and the shares of the steps that are spent in each: the search comes from outside."""


def sparsest(slope: Tensor, share: Tensor) -> Tensor:
    """The steepest step of unit l1 norm that moves a share of the entries by the same amount each.

    Example:
        >>> sparsest(torch.tensor([[3.0, -1.0, 2.0, 0.5]]), torch.tensor([0.5]))
        tensor([[0.5000, 0.0000, 0.5000, 0.0000]])
    """
    flat = slope.flatten(1)
    kept = (share * flat.shape[1]).long().clamp(1, flat.shape[1])
    least = flat.abs().sort(dim=1, descending=True).values.gather(1, kept[:, None] - 1)
    signs = torch.where(flat.abs() >= least, flat.sign(), 0)
    return (signs / signs.abs().sum(1, keepdim=True).clamp_min(1)).reshape(slope.shape)


def sparse_descent(
    x: Tensor,
    perturbation: Perturbation,
    *,
    generator: torch.Generator,
    objective: Objective,
    epsilon: float,
    steps: int,
) -> Method[None]:
    """The descent behind :func:`~attacks.evasion.auto_pgd` in l1: three runs in shrinking balls, each from the last."""
    p = get_norm("l1").random(as_tensor(perturbation.start(x)), epsilon, generator)
    left = steps
    for multiple, share in PHASES:
        these = left if multiple == 1 else min(int(share * steps), left - 1)
        if these:
            p = yield from _phase(x, perturbation, p, objective=objective, epsilon=multiple * epsilon, steps=these)
        left -= these


def _phase(
    x: Tensor, perturbation: Perturbation, p: Tensor, *, objective: Objective, epsilon: float, steps: int
) -> Method[Tensor]:
    """One run of the paper's algorithm 1 in a ball: a gradient for each step, and a look at where the last one led.

    Returns the best point.
    """
    move, entries = feasible(x, perturbation, get_norm("l1"), epsilon), x[0].numel()
    p = move(p)
    answer = yield Ask(p, objective, gradient=True)
    slope, best, best_loss, best_slope = answer.slope(), p, answer.loss, answer.slope()
    size = torch.full_like(best_loss, epsilon)
    share = torch.full_like(size, START_SHARE)
    changed = share * entries
    window = max(int(0.04 * steps), 1)
    for i in range(1, steps + 1):
        p = move(p - per_sample(size, p) * sparsest(slope, share))
        answer = yield Ask(p, objective, gradient=i < steps)
        better = answer.loss < best_loss
        best = torch.where(per_sample(better, p), p, best)
        if i == steps:
            break
        slope, best_loss = answer.slope(), torch.where(better, answer.loss, best_loss)
        best_slope = torch.where(per_sample(better, p), slope, best_slope)
        if i % window == 0:
            before, changed = changed, get_norm("l0").size(best)
            sparser = changed < STALLED * before
            share = changed / entries / SPARSER
            size = torch.where(sparser, epsilon, (size / SPARSER).clamp_min(epsilon / 10))
            p, slope = (torch.where(per_sample(sparser, p), new, old) for new, old in ((best, p), (best_slope, slope)))
    return best
