"""Projected gradient descent.

Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018.
"""

from collections.abc import Sequence
from functools import partial
from typing import Unpack

import torch
from torch import Tensor, nn

from ..engine import (
    Ask,
    AttackResult,
    Loss,
    Method,
    Norm,
    Objective,
    Perturbation,
    RunOptions,
    as_tensor,
    away_or_towards,
    check_amounts,
    check_counts,
    check_plain_steps,
    cross_entropy,
    feasible,
    get_norm,
    run,
)


def projected_descent(
    x: Tensor,
    perturbation: Perturbation,
    *,
    generator: torch.Generator,
    objective: Objective,
    norm: Norm,
    epsilon: float,
    steps: int,
    step_size: float | None,
    pace: float,
    random_start: bool,
) -> Method[None]:
    """The method behind :func:`pgd`, and with other settings behind FGSM and BIM.

    Without a ``step_size`` the steps together are ``pace`` times as long as the radius.
    """
    length = pace * epsilon / steps if step_size is None else step_size
    move, p = feasible(x, perturbation, norm, epsilon), as_tensor(perturbation.start(x))
    if random_start:
        yield Ask(p)  # a sample that is misclassified as it is needs no attack
        p = move(norm.random(p, epsilon, generator))
    for _ in range(steps):
        answer = yield Ask(p, objective, gradient=True)
        p = move(norm.step(p, answer.slope(), length))
    yield Ask(p, objective)


def pgd(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    epsilon: float | Sequence[float],
    norm: str = "linf",
    steps: int = 40,
    step_size: float | None = None,
    random_start: bool = True,
    loss: Loss = cross_entropy,
    **options: Unpack[RunOptions],
) -> AttackResult:
    """Attack each sample with projected gradient descent inside a norm ball.

    A sample is left alone as soon as it is misclassified (``stop=False`` goes on to the last step), so the passes
    counted are usually fewer than ``steps``.

    Args:
        model: maps inputs to logits, shape ``[n, classes]``.
        x: clean samples, float32, shape ``[n, ...]``, inside ``bounds`` ([0, 1] unless said).
        labels: their classes, int64, shape ``[n]``.
        epsilon: the radius of the ball, in the units of ``x``; several radii are tried in ascending order.
        norm: "linf" or "l2"; in the others plain steps stall at the edge of the box.
        steps: gradient steps, at least 1.
        step_size: length of a step in ``norm``; 2.5 * epsilon / steps unless given (Madry et al.).
        random_start: begin at a random point of the ball rather than at ``x``.
        loss: what the attack raises at the labels, or lowers at the targets.
        **options: the settings of :func:`attacks.run`: targets, bounds, stop, restarts, budget, batch_size, levels,
            seed, generator, progress.

    Raises:
        InputError: when samples, labels or settings cannot be used as they are.

    Example:
        >>> model = nn.Linear(2, 2, bias=False)
        >>> _ = model.weight.data.copy_(torch.eye(2))
        >>> result = pgd(model, torch.tensor([[0.6, 0.5]]), torch.tensor([0]), epsilon=0.06, random_start=False)
        >>> result.success, result.distance
        (tensor([True]), tensor([0.0525]))
    """
    check_counts(steps=steps)
    check_amounts(step_size=step_size)
    check_plain_steps(norm)
    method = partial(
        projected_descent,
        objective=away_or_towards(loss, options.get("targets")),
        norm=get_norm(norm),
        steps=steps,
        step_size=step_size,
        pace=2.5,
        random_start=random_start,
    )
    return run(method, model, x, labels, norm=norm, epsilon=epsilon, **options)
