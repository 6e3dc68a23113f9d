"""Fast adaptive boundary attack: steps along the linearised boundary, drawn towards the clean sample.

Croce and Hein, "Minimally distorted adversarial examples with a fast adaptive boundary attack", ICML 2020, algorithm 1.
Its targeted form is from Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks", ICML 2020: one class after the other, with one gradient a step however many there are.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Unpack

import torch
from torch import Tensor, nn

from attacks.errors import InputError

from ..engine import (
    Ask,
    AttackResult,
    Method,
    Norm,
    Objective,
    Perturbation,
    RunOptions,
    View,
    as_tensor,
    away_or_towards,
    check_amounts,
    check_counts,
    get_norm,
    margin,
    per_sample,
    run,
    untargeted,
)
from ..engine.constraints import TINY
from ..engine.projections import shortest_step


def nearest_others(classes: int) -> Objective:
    """The own logit minus each of the largest others, shape ``[n, classes]``: where one is 0, there is a boundary."""

    def objective(view: View) -> Tensor:
        own = view.batch.labels[:, None]
        others = view.logits.scatter(1, own, -torch.inf).topk(min(classes, view.logits.shape[1] - 1)).values
        return view.logits.gather(1, own) - others

    return objective


def one_other(others: Tensor) -> Objective:
    """The own logit minus that of one other class for each sample, int64, shape ``[n]``."""

    def objective(view: View) -> Tensor:
        pair = torch.stack((view.batch.labels, others[view.batch.rows]), 1)
        own, other = view.logits.gather(1, pair).unbind(1)
        return own - other

    return objective


def adaptive_boundary(
    x: Tensor,
    perturbation: Perturbation,
    *,
    generator: torch.Generator,
    epsilon: float | None = None,
    boundaries: Objective,
    goal: Objective,
    norm: Norm,
    steps: int,
    starts: int,
    bias: float,
    overshoot: float,
    shrink: float,
) -> Method[None]:
    """The method behind :func:`fab`.

    The boundaries are where one of their values is 0; ``goal`` is negative once a sample is on the side that counts.
    """
    clean = as_tensor(perturbation.start(x))
    low, high = (as_tensor(perturbation.clip(x, torch.full_like(clean, far))) for far in (-torch.inf, torch.inf))
    answer = yield Ask(clean, goal)
    outside, wanted = answer.loss, ~answer.fooled
    p, best, inside, reach = clean, clean, outside, torch.full_like(outside, torch.inf)
    for start in range(starts):
        if start > 0:
            p = _around(x, perturbation, p, reach, epsilon, norm, generator)
        for _ in range(steps):
            answer = yield Ask(p, boundaries, gradient=True, wanted=wanted)
            gap, slope = _nearest(answer.loss, answer.slope(), norm)
            onward = shortest_step(norm.name, slope, -gap, low - p, high - p)
            direct = shortest_step(norm.name, slope, _inner(slope, p - clean) - gap, low - clean, high - clean)
            pull = _pull(norm.size(onward), norm.size(direct), bias, p)
            moved = (1 - pull) * (p + (1 + overshoot) * onward) + pull * (clean + (1 + overshoot) * direct)
            p = as_tensor(perturbation.clip(x, moved))
            answer = yield Ask(p, goal, wanted=wanted)
            size = norm.size(p - clean)
            better = answer.fooled & (size < reach)
            best, reach = torch.where(per_sample(better, p), p, best), torch.where(better, size, reach)
            inside = torch.where(better, answer.loss, inside)
            p = torch.where(per_sample(answer.fooled, p), clean + shrink * (p - clean), p)
    yield from _final_search(clean, best, outside, inside, goal)
    if epsilon is not None:  # what is handed back of those that stand lies in the ball
        nearest = torch.where(per_sample(reach.isfinite(), p), best, p)
        yield Ask(perturbation.clip(x, clean + norm.project(nearest - clean, epsilon)), wanted=wanted)


def _nearest(gaps: Tensor, slopes: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
    """Value and slope of the boundary that is nearest to first order."""
    if gaps.dim() == 1:
        return gaps, slopes
    steepness = get_norm(norm.dual).size(slopes.flatten(0, 1)).unflatten(0, gaps.shape)
    nearest = (gaps.abs() / steepness.clamp_min(TINY)).argmin(1)
    rows = torch.arange(len(gaps), device=gaps.device)
    return gaps[rows, nearest], slopes[rows, nearest]


def _inner(one: Tensor, other: Tensor) -> Tensor:
    return torch.linalg.vecdot(one.flatten(1), other.flatten(1))


def _pull(onward: Tensor, direct: Tensor, bias: float, like: Tensor) -> Tensor:
    """How much of a step is taken from the clean sample: more, the nearer the boundary, but at most ``bias``."""
    return per_sample((onward / (onward + direct).clamp_min(TINY)).clamp_max(bias), like)


def _around(
    x: Tensor,
    perturbation: Perturbation,
    p: Tensor,
    reach: Tensor,
    epsilon: float | None,
    norm: Norm,
    generator: torch.Generator,
) -> Tensor:
    """A random point half as far away as what was found, or as the budget, or else as where the last start ended."""
    known = reach if epsilon is None else reach.clamp_max(epsilon)
    radius = torch.where(known.isfinite(), known, norm.size(p)) / 2
    return as_tensor(perturbation.clip(x, norm.random(p, 1.0, generator) * per_sample(radius, p)))


def _final_search(clean: Tensor, best: Tensor, outside: Tensor, inside: Tensor, goal: Objective) -> Method[None]:
    """Three steps of false position to where the way from the clean sample to the best crosses the boundary."""
    found, outer, inner = inside < outside, clean, best
    for _ in range(3):
        # A thousandth further, as a point on the boundary itself fools nobody.
        share = 0.999 * outside / (outside - inside).clamp_min(TINY) + 0.001
        p = outer + per_sample(share, outer) * (inner - outer)
        answer = yield Ask(p, goal, wanted=found)
        crossed = per_sample(answer.fooled, p)
        inner, outer = torch.where(crossed, p, inner), torch.where(crossed, outer, p)
        inside = torch.where(answer.fooled, answer.loss, inside)
        outside = torch.where(answer.fooled, outside, answer.loss)


def class_after_class(
    x: Tensor,
    perturbation: Perturbation,
    *,
    generator: torch.Generator,
    epsilon: float | None = None,
    classes: int,
    search: Callable[..., Method[None]],
) -> Method[None]:
    """The method behind :func:`fab_targeted`: a search along the boundary to each of the likeliest other classes."""
    logits = (yield Ask(perturbation.start(x))).logits
    for other in logits.topk(min(classes + 1, logits.shape[1])).indices[:, 1:].unbind(1):
        yield from search(x, perturbation, generator=generator, epsilon=epsilon, boundaries=one_other(other))


def boundary_search(
    norm: str,
    goal: Objective,
    *,
    steps: int = 100,
    starts: int = 1,
    bias: float = 0.1,
    overshoot: float = 0.05,
    shrink: float = 0.9,
) -> Callable[..., Method[None]]:
    """The method with its settings bound, its ``boundaries`` still open.

    Raises:
        InputError: for settings that cannot be used, l0 among them.
    """
    if get_norm(norm).name == "l0":
        raise InputError("norm='l0' has no boundary to step along: use sigma_zero, or 'linf', 'l2' or 'l1'.")
    check_counts(steps=steps, restarts=starts)
    check_amounts(bias=bias, overshoot=overshoot, shrink=shrink)
    if bias > 1 or shrink > 1:
        raise InputError(f"bias={bias} and shrink={shrink} are shares: neither can be more than 1.")
    return partial(
        adaptive_boundary,
        goal=goal,
        norm=get_norm(norm),
        steps=steps,
        starts=starts,
        bias=bias,
        overshoot=overshoot,
        shrink=shrink,
    )


def fab(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    norm: str = "linf",
    epsilon: float | Sequence[float] | None = None,
    steps: int = 100,
    classes: int = 9,
    bias: float = 0.1,
    overshoot: float = 0.05,
    shrink: float = 0.9,
    **options: Unpack[RunOptions],
) -> AttackResult:
    """Find a small perturbation of each sample by following the linearised decision boundary.

    Each step goes to the boundary that is nearest to first order, a little beyond it, and a little towards the clean
    sample. A step costs two forward passes and as many backward passes as there are boundaries: one in a run with
    ``targets``, which counts only the boundary between the target and its best rival.

    Args:
        model: maps inputs to logits, shape ``[n, classes]``.
        x: clean samples, float32, shape ``[n, ...]``, inside ``bounds`` ([0, 1] unless said).
        labels: their classes, int64, shape ``[n]``.
        norm: what is kept small: "linf", "l2" or "l1".
        epsilon: the radius within which a perturbation counts as success, in the units of ``x``; a sample is left alone
            once it has one. None: any radius counts, and the search goes on for the smallest.
        steps: steps from each start, at least 1.
        classes: boundaries that are looked at in each step, those to the classes with the largest logits.
        bias: the largest share of a step that is taken from the clean sample, in [0, 1] (the paper's alpha_max).
        overshoot: how far beyond the boundary a step goes, as a share of its length (the paper's eta - 1).
        shrink: the share of its perturbation that a misclassified sample keeps before it goes on, in [0, 1] (the
            paper's beta).
        **options: the settings of :func:`attacks.run`: targets, bounds, stop, restarts (the first start is the clean
            sample, the others are random), budget, batch_size, levels, seed, generator, progress.

    Raises:
        InputError: when samples, labels or settings cannot be used as they are.

    Example:
        >>> x, labels = torch.tensor([[0.6, 0.5]]), torch.tensor([0])
        >>> fab(nn.Identity(), x, labels, norm="l2", steps=10).distance  # the boundary is 0.1 / sqrt(2) away
        tensor([0.0707])
    """
    check_counts(classes=classes)
    targets = options.get("targets")
    goal = away_or_towards(margin, targets)
    search = boundary_search(
        norm,
        goal,
        steps=steps,
        starts=options.pop("restarts", 1),
        bias=bias,
        overshoot=overshoot,
        shrink=shrink,
    )
    method = partial(search, boundaries=nearest_others(classes) if targets is None else goal)
    rank = get_norm(norm).size if epsilon is None else None
    return run(method, model, x, labels, norm=norm, epsilon=epsilon, rank=rank, **options)


def fab_targeted(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    norm: str = "linf",
    epsilon: float | Sequence[float] | None = None,
    steps: int = 100,
    classes: int = 9,
    **options: Unpack[RunOptions],
) -> AttackResult:
    """Like :func:`fab`, but along the boundary to one other class after another: FAB-T of AutoAttack.

    A step costs two forward passes and one backward pass however many classes the model has; there are ``steps`` of
    them for each of ``classes`` other classes.

    Args:
        model: maps inputs to logits, shape ``[n, classes]``.
        x: clean samples, float32, shape ``[n, ...]``, inside ``bounds`` ([0, 1] unless said).
        labels: their classes, int64, shape ``[n]``.
        norm: what is kept small: "linf", "l2" or "l1".
        epsilon: the radius within which a perturbation counts as success; None: any, and the smallest is looked for.
        steps: steps for each class from each start, at least 1.
        classes: how many of the likeliest other classes to try, at least 1.
        **options: the settings of :func:`attacks.run`, without targets: they are chosen here; restarts as in
            :func:`fab`.

    Raises:
        InputError: when samples, labels or settings cannot be used as they are.

    Example:
        >>> x, labels = torch.tensor([[0.6, 0.5, 0.1]]), torch.tensor([0])
        >>> fab_targeted(nn.Identity(), x, labels, epsilon=0.051, steps=10).success
        tensor([True])
    """
    check_counts(classes=classes)
    if options.get("targets") is not None:
        raise InputError("fab_targeted chooses its targets itself: for targets of yours use fab.")
    search = boundary_search(norm, untargeted(margin), steps=steps, starts=options.pop("restarts", 1))
    method = partial(class_after_class, classes=classes, search=search)
    rank = get_norm(norm).size if epsilon is None else None
    return run(method, model, x, labels, norm=norm, epsilon=epsilon, rank=rank, **options)
