"""Decoupled direction and norm.

Rony et al., "Decoupling direction and norm for efficient gradient-based L2 adversarial attacks and defenses", CVPR
2019, algorithm 1.
"""

from functools import partial
from math import cos, pi
from numbers import Real
from typing import Unpack

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
    cross_entropy,
    get_norm,
    per_sample,
    run,
)
from .search import span, standing


def cosine(first: float, last: float, share: float) -> float:
    """The value at a share of the way from ``first`` to ``last`` along half a cosine.

    Example:
        >>> cosine(1.0, 0.0, 0.5)
        0.5
    """
    return last + (first - last) * (1 + cos(pi * share)) / 2


def check_factor(factor: float) -> None:
    """Refuse a share by which a radius could not shrink and grow.

    Raises:
        InputError: outside (0, 1).
    """
    if not isinstance(factor, Real) or not 0 < factor < 1:
        raise InputError(f"factor={factor!r} cannot be used: it must lie between 0 and 1, neither of them.")


def decoupled_descent(
    x: Tensor,
    perturbation: Perturbation,
    *,
    generator: torch.Generator,
    objective: Objective,
    steps: int,
    step_size: float,
    initial_epsilon: float,
    factor: float,
) -> Method[None]:
    """The method behind :func:`ddn`."""
    norm, p = get_norm("l2"), as_tensor(perturbation.start(x))
    wanted = yield from standing(p)
    epsilon = x.new_full((len(x),), initial_epsilon)
    for i in range(steps):
        answer = yield Ask(p, objective, gradient=True, wanted=wanted)
        slope = answer.slope()
        flat = wanted & (norm.size(slope) == 0)
        if bool(flat.any()):
            astray = torch.randn(p.shape, generator=generator, device=p.device)
            slope = torch.where(per_sample(flat, p), astray, slope)
        moved = p - step_size * cosine(1.0, 0.01, i / steps) * norm.steepest(slope)
        epsilon = epsilon * torch.where(answer.fooled, 1 - factor, 1 + factor)
        p = as_tensor(perturbation.clip(x, norm.steepest(moved) * per_sample(epsilon, moved)))
    yield Ask(p, wanted=wanted)


def ddn(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    steps: int = 100,
    initial_epsilon: float | None = None,
    factor: float = 0.05,
    loss: Loss = cross_entropy,
    **options: Unpack[RunOptions],
) -> AttackResult:
    """Find a small l2 perturbation of each sample: walk on a sphere that shrinks inside a wrong class, grows outside.

    Where the gradient is zero in every entry a step goes in a random direction. There is no other chance: restarts help
    samples with such gradients alone.

    Args:
        model: maps inputs to logits, shape ``[n, classes]``.
        x: clean samples, float32, shape ``[n, ...]``, inside ``bounds`` ([0, 1] unless said).
        labels: their classes, int64, shape ``[n]``.
        steps: gradient steps, at least 1; their length falls from the width of the bounds to a hundredth of it, along
            half a cosine.
        initial_epsilon: the first radius, in the units of ``x``; the width of the bounds unless given.
        factor: by which share of itself the radius shrinks or grows in a step, in (0, 1).
        loss: what the attack raises at the labels, or lowers at the targets.
        **options: the settings of :func:`attacks.run`; ``levels=256`` rounds the points found to 8-bit images.

    Raises:
        InputError: when samples, labels or settings cannot be used as they are.

    Example:
        >>> x, labels = torch.tensor([[0.6, 0.5]]), torch.tensor([0])
        >>> ddn(nn.Identity(), x, labels, steps=200).distance < 0.0708 * 1.05  # the boundary is 0.1 / sqrt(2) away
        tensor([True])
    """
    check_counts(steps=steps)
    check_amounts(initial_epsilon=initial_epsilon)
    check_factor(factor)
    width = span(options)
    method = partial(
        decoupled_descent,
        objective=away_or_towards(loss, options.get("targets")),
        steps=steps,
        step_size=width,
        initial_epsilon=width if initial_epsilon is None else initial_epsilon,
        factor=factor,
    )
    return run(method, model, x, labels, norm="l2", rank=get_norm("l2").size, **options)
