"""Square attack: random search with squares, from scores alone.

Andriushchenko et al., "Square Attack: a query-efficient black-box adversarial attack via random search", ECCV 2020.
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
    Loss,
    Method,
    Objective,
    Perturbation,
    RunOptions,
    away_or_towards,
    check_counts,
    cross_entropy,
    margin,
    per_sample,
    run,
)
from .squares import Corners, Pyramids, Squares

SCHEDULE = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""After each of these steps the area of the squares is halved: the paper's, for 10,000 of them."""


def share_at(step: int, initial: float, span: int = 10_000) -> float:
    """The share of an image that a square covers at a step, counted from 0, with the schedule spread over a span.

    Example:
        >>> [share_at(step, 0.8) for step in (0, 10, 11, 9_000)]
        [0.8, 0.8, 0.4, 0.0015625]
        >>> share_at(6, 0.8, span=1_000)
        0.2
    """
    return initial / 2 ** sum(step * 10_000 // span > passed for passed in SCHEDULE)


def random_search(
    x: Tensor,
    perturbation: Perturbation,
    *,
    generator: torch.Generator,
    squares: Callable[[Tensor, Perturbation, float, torch.Generator], Squares],
    objective: Objective,
    epsilon: float,
    steps: int,
    initial_share: float,
    span: int,
) -> Method[None]:
    """The method behind :func:`square`: whatever lowers the loss is kept."""
    source = squares(x, perturbation, epsilon, generator)
    yield Ask(perturbation.start(x))  # a sample that is misclassified as it is needs no attack
    p = source.start()
    loss = (yield Ask(p, objective)).loss
    for i in range(steps - 1):
        proposed = source.propose(p, share_at(i, initial_share, span))
        answer = yield Ask(proposed, objective)
        better = answer.loss < loss
        p, loss = torch.where(per_sample(better, p), proposed, p), torch.where(better, answer.loss, loss)


def square(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    epsilon: float | Sequence[float],
    norm: str = "linf",
    steps: int = 5000,
    initial_share: float = 0.8,
    rescale: bool = True,
    pooled: bool = True,
    loss: Loss | None = None,
    **options: Unpack[RunOptions],
) -> AttackResult:
    """Attack images by random search inside a norm ball: squares that lower the loss stay. Needs scores only.

    The perturbation begins as stripes (l-inf) or a grid of pyramids (l2) at the edge of the ball and stays there.

    Args:
        model: maps images to scores, shape ``[n, classes]``; they need no gradient.
        x: clean images, float32, shape ``[n, channels, height, width]``, inside ``bounds`` ([0, 1] unless said).
        labels: their classes, int64, shape ``[n]``.
        epsilon: the radius of the ball, in the units of ``x``; several radii are tried in ascending order.
        norm: "linf" or "l2".
        steps: perturbations tried, at least 1, each of which costs a query; looking at the clean image first, and at
            the result last, costs two more.
        initial_share: the share of an image that the first squares cover, above 0 and at most 1; AutoAttack's default.
        rescale: stretch the schedule of shrinking squares over the steps; otherwise it is the paper's for 10,000 steps,
            however many are made (AutoAttack).
        pooled: in l2, each channel of a window takes the mass of all channels (AutoAttack's code) instead of its own
            (the paper), which is stronger: 23.4 instead of 17.2 % of 256 images at an epsilon of 3 and 1,000 steps.
        loss: what the attack raises at the labels, or lowers at the targets; by default the margin at the labels and
            the cross-entropy at the targets.
        **options: the settings of :func:`attacks.run`: targets, bounds, stop, restarts, budget, batch_size, levels,
            seed, generator, progress.

    Raises:
        InputError: when images, labels or settings cannot be used as they are.

    Example:
        >>> model = nn.Sequential(nn.AvgPool2d(8), nn.Flatten())  # says which of two channels is brighter
        >>> x, labels = torch.full((1, 2, 8, 8), 0.5), torch.tensor([0])
        >>> x[:, 0] += 0.1
        >>> result = square(model, x, labels, epsilon=0.06, steps=200)
        >>> result.success, bool(result.forward_passes < 100), result.backward_passes
        (tensor([True]), True, tensor([0]))
    """
    check_counts(steps=steps)
    _check(x, norm, initial_share)
    targets = options.get("targets")
    method = partial(
        random_search,
        squares=Corners if norm == "linf" else partial(Pyramids, pooled=pooled),
        objective=away_or_towards(loss or (margin if targets is None else cross_entropy), targets),
        steps=steps,
        initial_share=initial_share,
        span=steps if rescale else 10_000,
    )
    return run(method, model, x, labels, norm=norm, epsilon=epsilon, **options)


def _check(x: Tensor, norm: str, initial_share: float) -> None:
    if norm not in ("linf", "l2"):
        raise InputError(f"norm={norm!r} has no squares: use 'linf' or 'l2'.")
    least = 1 if norm == "linf" else 3
    if isinstance(x, Tensor) and (x.dim() != 4 or min(x.shape[2:]) < least):
        raise InputError(
            f"Squares need images of shape [n, channels, height, width], in {norm} of at least {least} x {least} "
            f"pixels, but the samples have shape {tuple(x.shape)}."
        )
    if not 0 < initial_share <= 1:
        raise InputError(f"initial_share={initial_share!r} cannot be used: it must be a share above 0 and at most 1.")
