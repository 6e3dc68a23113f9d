"""Jacobian-based saliency map attack: push the two entries that help a target most, pair after pair.

Papernot et al., "The limitations of deep learning in adversarial settings", EuroS&P 2016, algorithms 1 and 2.
"""

from functools import partial
from math import isfinite
from numbers import Real
from typing import Unpack

import torch
from torch import Tensor, nn

from attacks.errors import InputError

from ..engine import (
    Ask,
    AttackResult,
    Method,
    Objective,
    Perturbation,
    RunOptions,
    View,
    as_tensor,
    check_amounts,
    check_samples,
    per_sample,
    run,
)
from ..engine.checks import refuse_restarts
from .search import span


def towards(likeliest: Tensor) -> Objective:
    """Two losses for each sample: minus the target's logit, and the sum of the others; shape ``[n, 2]``.

    Of two classes the one loss is the other's lead over the target, shape ``[n, 1]``: models with one logit to tell
    them by have a second one that never moves.

    Args:
        likeliest: the targets where the run has none, int64, shape ``[n]``.
    """

    def objective(view: View) -> Tensor:
        targets = likeliest[view.batch.rows] if view.batch.targets is None else view.batch.targets
        target = view.logits.gather(1, targets[:, None]).squeeze(1)
        others = view.logits.sum(1) - target
        return (others - target)[:, None] if view.logits.shape[1] == 2 else torch.stack((-target, others), 1)

    return objective


def saliency_pairs(
    x: Tensor,
    perturbation: Perturbation,
    *,
    generator: torch.Generator,
    step_size: float,
    pairs: int,
) -> Method[None]:
    """The method behind :func:`jsma`."""
    p = as_tensor(perturbation.start(x))
    answer = yield Ask(p)
    # The paper wants a target; without one it is the class that comes after the own one, at the sample.
    objective = towards(answer.logits.topk(2).indices[:, 1])
    lowest, highest = (as_tensor(perturbation.clip(x, torch.full_like(p, far))) for far in (-torch.inf, torch.inf))
    edge = highest if step_size > 0 else lowest
    going = ~answer.fooled
    for _ in range(pairs):
        answer = yield Ask(p, objective, gradient=True, wanted=going)
        if answer.loss.dim() < 2:  # none of those that could go on is still open
            return
        slopes = (-answer.slope() if step_size > 0 else answer.slope()).flatten(2)
        gains, drops = slopes[:, 0], slopes[:, -1]
        movable = (p != edge).flatten(1)
        pair, helps = best_pair(gains.where(movable, -torch.inf), drops.where(movable, -torch.inf))
        going = going & helps
        push = torch.zeros_like(gains).scatter(1, pair, step_size).reshape(p.shape)
        p = torch.where(per_sample(going, p), as_tensor(perturbation.clip(x, p + push)), p)
    yield Ask(p, wanted=going)


def best_pair(gains: Tensor, drops: Tensor) -> tuple[Tensor, Tensor]:
    """The two entries with the largest product of summed gains and summed drops, where both sums are positive.

    Exact, without comparing all pairs: an entry that two others beat in both respects is in no pair that could not be
    bettered, and few entries are not beaten so.

    Args:
        gains: how much each entry raises the target, shape ``[n, entries]``; -inf for one that cannot be moved.
        drops: how much each lowers the others, shape ``[n, entries]``.

    Returns:
        The places of the two, int64, shape ``[n, 2]``, and whether there is such a pair, bool, shape ``[n]``.

    Example:
        >>> best_pair(torch.tensor([[3.0, 0.0, 1.5, 1.0]]), torch.tensor([[-0.5, 1.8, 1.2, 0.1]]))
        (tensor([[1, 2]]), tensor([True]))
    """
    gains, order = gains.sort(dim=1, descending=True)
    drops = drops.gather(1, order)
    # Of the entries with a larger gain, the largest drop and the second largest.
    first = _before(drops.cummax(1).values)
    second = _before(drops.minimum(first).cummax(1).values)
    contenders = drops > second
    kept = contenders.byte().topk(int(contenders.sum(1).amax().clamp_min(2)), dim=1).indices
    gains, drops, order = (values.gather(1, kept) for values in (gains, drops, order))
    best, pair = torch.zeros_like(gains[:, 0]), order[:, :2]
    for apart in range(1, gains.shape[1]):
        gain, drop = (values[:, apart:] + values[:, :-apart] for values in (gains, drops))
        score, place = (gain.clamp_min(0) * drop.clamp_min(0)).max(1)
        here = torch.stack((place, place + apart), 1)
        pair = torch.where((score > best)[:, None], order.gather(1, here), pair)
        best = best.maximum(score)
    return pair.sort(dim=1).values, best > 0


def _before(running: Tensor) -> Tensor:
    """A running value as it was one entry earlier."""
    return torch.cat((torch.full_like(running[:, :1], -torch.inf), running[:, :-1]), 1)


def jsma(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    step_size: float | None = None,
    share: float = 0.145,
    **options: Unpack[RunOptions],
) -> AttackResult:
    """Change few entries of each sample, by much, until it is taken for a target.

    A step costs one forward and two backward passes, and moves two entries. Without ``targets`` it makes for the class
    that comes second at the sample, and any misclassification on the way counts; ``labels`` are the true classes in
    every case. Its l0 distances are those of a greedy search: :func:`sigma_zero` finds far smaller ones.

    Of two classes the entries that raise the target's lead are moved, at one backward pass a step: the paper's rule
    wants the other logit to fall, and sees nothing where it is constant.

    Args:
        model: maps inputs to logits, shape ``[n, classes]``.
        x: clean samples, float32, shape ``[n, ...]``, inside ``bounds`` ([0, 1] unless said).
        labels: their classes, int64, shape ``[n]``.
        step_size: by how much an entry moves in a step, in the units of ``x``, up or (below 0) down; an entry at the
            edge of the box moves no further (the paper's theta). The width of the bounds unless given.
        share: the largest share of the entries that may be moved, in (0, 1] (the paper's gamma).
        **options: the settings of :func:`attacks.run`: targets, bounds, stop, budget, batch_size, levels,
            estimator, diagnose, seed, generator, progress.

    Raises:
        InputError: when samples, labels or settings cannot be used as they are; for restarts, as there is no chance.

    Example:
        >>> model = nn.Linear(4, 2, bias=False)
        >>> _ = model.weight.data.copy_(torch.tensor([[1.0, -1.0, 0.0, 0.0], [-1.0, 1.0, 1.0, 0.5]]))
        >>> jsma(model, torch.tensor([[0.9, 0.1, 0.2, 0.3]]), torch.tensor([0]), share=0.5).adversarial
        tensor([[0.9000, 1.0000, 1.0000, 0.3000]])
    """
    width = span(options)
    check_samples(x, labels, options.get("targets"), options.get("bounds", (0.0, 1.0)))
    check_amounts(share=share)
    refuse_restarts("jsma", options)
    step_size = width if step_size is None else step_size
    if not isinstance(step_size, Real) or step_size == 0 or not isfinite(step_size):
        raise InputError(
            f"step_size={step_size!r} moves nothing: give a length above 0 to move entries up, or below 0 to move them "
            "down."
        )
    pairs = int(share * x[0].numel() / 2)
    if share > 1 or pairs < 1:
        raise InputError(
            f"share={share} allows {pairs} pairs of the {x[0].numel()} entries: give a share up to 1 that allows one."
        )
    method = partial(saliency_pairs, step_size=step_size, pairs=pairs)
    return run(method, model, x, labels, norm="l0", **options)
