"""Auto-PGD: PGD whose step size adapts by itself.

Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks",
ICML 2020, algorithm 1. In l1: Croce and Hein, "Mind the box", ICML 2021 (:mod:`attacks.evasion.auto_pgd_l1`).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from attacks.errors import InputError

from ..engine import (
    Ask,
    AttackResult,
    Loss,
    Method,
    Norm,
    Objective,
    Perturbation,
    RunOptions,
    View,
    as_tensor,
    away_or_towards,
    check_counts,
    cross_entropy,
    feasible,
    get_norm,
    per_sample,
    run,
    targeted_dlr,
)
from .auto_pgd_l1 import sparse_descent

MOMENTUM = 0.75
PATIENCE = 0.75
"""The share of a window's steps that must lower the loss, or else the step size is halved."""


def reviews_after(steps: int) -> list[int]:
    """The steps after which the step size is reviewed: windows of 22 % of the steps, shrinking by 3 % down to 6 %.

    Example:
        >>> reviews_after(100)
        [22, 41, 57, 70, 80, 87, 93, 99]
    """
    window, least, shrink = max(int(0.22 * steps), 1), max(int(0.06 * steps), 1), max(int(0.03 * steps), 1)
    at, reviews = window, []
    while at < steps:
        reviews.append(at)
        window = max(window - shrink, least)
        at += window
    return reviews


def adaptive_descent(
    x: Tensor,
    perturbation: Perturbation,
    *,
    generator: torch.Generator,
    objective: Objective,
    norm: Norm,
    epsilon: float,
    steps: int,
) -> Method[None]:
    """The descent behind :func:`auto_pgd` in l-inf and l2."""
    move = feasible(x, perturbation, norm, epsilon)
    p = move(norm.sphere(as_tensor(perturbation.start(x)), epsilon, generator))
    answer = yield Ask(p, objective, gradient=True)
    last, slope, loss = p, answer.slope(), answer.loss
    best, best_loss, best_slope = p, loss, slope
    size = torch.full_like(loss, 2 * epsilon)
    lowered, best_before, halved = torch.zeros_like(loss), loss, torch.ones_like(loss, dtype=torch.bool)
    reviews, since = reviews_after(steps), 0
    for i in range(1, steps + 1):
        z = move(norm.step(p, slope, size))
        # p + MOMENTUM * (z - p) + (1 - MOMENTUM) * (p - last), with as few passes over the images as it takes
        p, last = (
            move(z.mul_(MOMENTUM).add_(p, alpha=2 * (1 - MOMENTUM)).sub_(last, alpha=1 - MOMENTUM)) if i > 1 else z,
            p,
        )
        if i == steps:  # nothing moves on from here
            yield Ask(p)
            return
        answer = yield Ask(p, objective, gradient=True)
        lowered, slope, loss = lowered + (answer.loss < loss), answer.slope(), answer.loss
        better = loss < best_loss
        best_loss, best, best_slope = (
            torch.where(per_sample(better, new), new, old)
            for new, old in ((loss, best_loss), (p, best), (slope, best_slope))
        )
        if i in reviews:
            halve = (lowered <= PATIENCE * (i - since)) | (~halved & (best_loss >= best_before))
            size = torch.where(halve, size / 2, size)
            p, slope = (torch.where(per_sample(halve, p), new, old) for new, old in ((best, p), (best_slope, slope)))
            lowered, best_before, halved, since = torch.zeros_like(loss), best_loss, halve, i


Descent = Callable[..., Method[None]]


def clean_first(x: Tensor, perturbation: Perturbation, *, inner: Descent, **told: Any) -> Method[None]:
    """The method behind :func:`auto_pgd`: a sample that is misclassified as it is needs no attack."""
    yield Ask(perturbation.start(x))
    yield from inner(x, perturbation, **told)


def descent(norm: str, steps: int) -> Descent:
    """The method that suits a norm, its ``objective`` still open."""
    return partial(clean_first, inner=bare_descent(norm, steps))


def bare_descent(norm: str, steps: int) -> Descent:
    """The same for what has looked at the clean samples already.

    Raises:
        InputError: for l0, which has no Auto-PGD, and names that are not known.
    """
    check_counts(steps=steps)
    if get_norm(norm).name == "l0":
        raise InputError("norm='l0' has no Auto-PGD: use sigma_zero, or 'linf', 'l2' or 'l1'.")
    if norm == "l1":
        return partial(sparse_descent, steps=steps)
    return partial(adaptive_descent, norm=get_norm(norm), steps=steps)


def auto_pgd(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    epsilon: float | Sequence[float],
    norm: str = "linf",
    steps: int = 100,
    loss: Loss = cross_entropy,
    **options: Unpack[RunOptions],
) -> AttackResult:
    """Attack each sample with Auto-PGD: no step size to choose, momentum, restarts from the best point.

    Args:
        model: maps inputs to logits, shape ``[n, classes]``.
        x: clean samples, float32, shape ``[n, ...]``, inside ``bounds`` ([0, 1] unless said).
        labels: their classes, int64, shape ``[n]``.
        epsilon: the radius of the ball, in the units of ``x``; several radii are tried in ascending order.
        norm: "linf", "l2" or "l1".
        steps: gradient steps, at least 1. Looking at the clean sample first, and where the last step leads, costs a
            forward pass each; in l1, which has three phases, two more.
        loss: what the attack raises at the labels, or lowers at the targets: cross_entropy or dlr in the paper.
        **options: the settings of :func:`attacks.run`: targets, bounds, stop, restarts, budget, batch_size, levels,
            seed, generator, progress.

    Raises:
        InputError: when samples, labels or settings cannot be used as they are.

    Example:
        >>> x, labels = torch.tensor([[0.6, 0.5]]), torch.tensor([0])
        >>> auto_pgd(nn.Identity(), x, labels, epsilon=0.06, steps=10).success
        tensor([True])
    """
    method = partial(descent(norm, steps), objective=away_or_towards(loss, options.get("targets")))
    return run(method, model, x, labels, norm=norm, epsilon=epsilon, **options)


def targeted_sweep(
    x: Tensor, perturbation: Perturbation, *, generator: torch.Generator, epsilon: float, inner: Descent, classes: int
) -> Method[None]:
    """Towards each of the likeliest other classes in turn; any wrong class counts. Behind :func:`auto_pgd_targeted`."""
    answer = yield Ask(perturbation.start(x))
    others = answer.logits.scatter(1, answer.logits.argmax(1, keepdim=True), -torch.inf)
    likely = others.topk(min(classes, others.shape[1] - 1), dim=1).indices
    for target in likely.unbind(1):

        def objective(view: View, target: Tensor = target) -> Tensor:
            return targeted_dlr(view.logits, view.batch.labels, target[view.batch.rows])

        yield from inner(x, perturbation, generator=generator, epsilon=epsilon, objective=objective)


def auto_pgd_targeted(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    epsilon: float | Sequence[float],
    norm: str = "linf",
    steps: int = 100,
    classes: int = 9,
    **options: Unpack[RunOptions],
) -> AttackResult:
    """Auto-PGD on the targeted DLR loss, towards each sample's likeliest other classes one after another.

    Stronger than :func:`auto_pgd`, at up to ``classes`` times its cost: a sample is left alone once it is taken for any
    wrong class.

    Args:
        model: maps inputs to logits, shape ``[n, classes]``; at least four classes.
        x: clean samples, float32, shape ``[n, ...]``, inside ``bounds`` ([0, 1] unless said).
        labels: their classes, int64, shape ``[n]``.
        epsilon: the radius of the ball, in the units of ``x``; several radii are tried in ascending order.
        norm: "linf", "l2" or "l1".
        steps: gradient steps for each class, at least 1.
        classes: how many of the likeliest other classes to try, at least 1.
        **options: the settings of :func:`attacks.run`, without targets: they are chosen here.

    Raises:
        InputError: when samples, labels or settings cannot be used as they are.

    Example:
        >>> x, labels = torch.tensor([[0.6, 0.5, 0.2, 0.1]]), torch.tensor([0])
        >>> auto_pgd_targeted(nn.Identity(), x, labels, epsilon=0.06, steps=10, classes=2).success
        tensor([True])
    """
    check_counts(classes=classes)
    if options.get("targets") is not None:
        raise InputError(
            "auto_pgd_targeted chooses its targets itself: for targets of yours use auto_pgd with loss=dlr."
        )
    method = partial(targeted_sweep, inner=bare_descent(norm, steps), classes=classes)
    return run(method, model, x, labels, norm=norm, epsilon=epsilon, **options)
