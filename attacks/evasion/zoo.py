"""ZOO: Carlini and Wagner's l2 attack from scores alone, its gradient estimated in a few entries at a time.

Chen et al., "ZOO: zeroth order optimization based black-box attacks to deep neural networks without training substitute
models", AISec 2017.
"""

from functools import partial
from typing import Unpack

import torch
from torch import Tensor, nn

from ..engine import (
    AttackResult,
    Perturbation,
    RunOptions,
    TanhBox,
    as_tensor,
    get_norm,
    run,
)
from ..engine.estimation import by_queries
from ..engine.estimators import coordinate
from .carlini_wagner import Step, smallest_change
from .search import check_search, span

DECAY = (0.9, 0.999)
"""Of Adam's two moments."""


def entrywise_adam(x: Tensor, perturbation: Perturbation, start: Tensor, step_size: float) -> Step:
    """What takes Adam's steps in the entries whose slope is not zero, each of which has a clock of its own.

    Example:
        >>> from attacks.engine import Additive
        >>> step = entrywise_adam(torch.full((1, 2), 0.5), Additive(), torch.zeros(1, 2), 0.1)
        >>> step(torch.tensor([[3.0, 0.0]])), step(torch.tensor([[0.0, 3.0]]))
        (tensor([[-0.1000,  0.0000]]), tensor([[-0.1000, -0.1000]]))
    """
    w, times, first, second = start, torch.zeros_like(start), torch.zeros_like(start), torch.zeros_like(start)

    def step(slope: Tensor) -> Tensor:
        nonlocal w, times, first, second
        moving = slope != 0
        times = times + moving
        first = torch.where(moving, first.lerp(slope, 1 - DECAY[0]), first)
        second = torch.where(moving, second.lerp(slope.square(), 1 - DECAY[1]), second)
        ahead = first / (1 - DECAY[0] ** times) / ((second / (1 - DECAY[1] ** times)).sqrt() + 1e-8)
        w = as_tensor(perturbation.clip(x, torch.where(moving, w - step_size * ahead, w)))
        return w

    return step


def zoo(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    search_steps: int = 1,
    steps: int = 300,
    step_size: float = 0.1,
    initial_c: float | None = None,
    samples: int = 128,
    spread: float = 0.001,
    **options: Unpack[RunOptions],
) -> AttackResult:
    """Find a small change of each sample from scores, by Adam's steps in a few random entries at a time.

    A step looks at a point and at two neighbours along each of ``samples`` entries. So every entry of an image of 3,072
    is looked at once in 24 steps and 6,168 queries: an attack that is patient, not thrifty. It goes on from its first
    success to smaller changes; ``stop=True`` ends it there.

    Args:
        model: maps inputs to scores, shape ``[n, classes]``; they need no gradient.
        x: clean samples, float32, shape ``[n, ...]``, inside ``bounds`` ([0, 1] unless said).
        labels: their classes, int64, shape ``[n]``.
        search_steps: constants tried for each sample, at least 1; 9 in the paper, beginning with 0.01.
        steps: steps for each of them, at least 1. An attempt ends when a tenth of them gains less than 0.01 %.
        step_size: of Adam, in the variable of :class:`TanhBox`; 0.01 in the paper, for more steps.
        initial_c: the first constant between the shortfall and the squared change, above 0; 10 times the squared width
            of the bounds unless given.
        samples: entries in a step, at least 1.
        spread: by how much their neighbours differ, above 0; 0.0001 in the paper, which single precision blurs.
        **options: the settings of :func:`attacks.run`: targets, bounds, stop, restarts, budget, batch_size, levels,
            seed, generator, progress.

    Returns:
        What was found, with l2 distances; :meth:`AttackResult.at` says what of it counts within a radius.

    Raises:
        InputError: when samples, labels or settings cannot be used as they are.

    Example:
        >>> x, labels = torch.tensor([[0.6, 0.5]]), torch.tensor([0])
        >>> result = zoo(nn.Identity(), x, labels)
        >>> result.success, round(float(result.distance), 2), result.backward_passes
        (tensor([True]), 0.07, tensor([0]))
    """
    check_search(search_steps=search_steps, steps=steps, step_size=step_size, initial_c=initial_c)
    bounds, width = options.get("bounds", (0.0, 1.0)), span(options)
    method = partial(
        smallest_change,
        targets=options.get("targets"),
        optimizer=entrywise_adam,
        search_steps=search_steps,
        steps=steps,
        step_size=step_size,
        initial_c=10 * width**2 if initial_c is None else initial_c,
    )
    # Neighbours of an entry at the edge of the box would lie outside.
    attack = by_queries(method, coordinate(samples, spread), bounds=bounds)
    return run(attack, model, x, labels, norm="l2", perturbation=TanhBox(bounds), rank=get_norm("l2").size, **options)
