"""The minimum-norm attacks of Carlini and Wagner in l2 and l-inf.

Carlini and Wagner, "Towards evaluating the robustness of neural networks", S&P 2017, sections VI.A and VI.C.
"""

from collections.abc import Callable
from functools import partial
from typing import Unpack

import torch
from torch import Tensor, nn

from attacks.errors import InputError

from ..engine import (
    Ask,
    AttackResult,
    Method,
    Perturbation,
    RunOptions,
    TanhBox,
    View,
    as_tensor,
    check_amounts,
    get_norm,
    per_sample,
    run,
)
from ..engine.checks import refuse_restarts
from ..engine.constraints import TINY
from .search import Review, Shortfall, check_search, search_constant, span, standing

Step = Callable[..., Tensor]
"""Takes one step down the slopes that it is told, shape ``[n, ...]``, and returns the parameters."""

SHRINK = 0.9
"""What is left of the largest change as the next threshold in l-inf."""
PACE = 0.05
"""The longest step in l-inf, as a share of the threshold: a longer one would jump over what lies inside it."""
FINEST = 1e-6
"""The threshold, as a share of the bounds' width, at which the search in l-inf ends: what rounding does."""


def adam(x: Tensor, perturbation: Perturbation, start: Tensor, step_size: float) -> Step:
    """What takes Adam's steps from ``start``; shorter ones where no entry may move by more than ``most``, shape [n]."""
    w = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([w], lr=step_size, fused=True)

    def step(slope: Tensor, most: Tensor | None = None) -> Tensor:
        before = None if most is None else w.detach().clone()
        w.grad = slope
        optimizer.step()
        w.data = as_tensor(perturbation.clip(x, w.detach()))
        if before is not None and most is not None:
            length = get_norm("linf").size(perturbation(x, w.detach()) - perturbation(x, before))
            w.data = torch.lerp(before, w.data, per_sample((most / length.clamp_min(TINY)).clamp_max(1), w))
        return w.detach()

    return step


def smallest_change(
    x: Tensor,
    perturbation: Perturbation,
    *,
    generator: torch.Generator,
    targets: Tensor | None,
    search_steps: int,
    steps: int,
    step_size: float,
    initial_c: float,
    confidence: float = 0.0,
    optimizer: Callable[[Tensor, Perturbation, Tensor, float], Step] = adam,
) -> Method[None]:
    """The method in l2: lower the squared change and ``c`` times the shortfall together, for the ``c`` that is best.

    ZOO and AutoZOOM are this with a gradient that is estimated, and an ``optimizer`` that suits it.
    """
    start, short = as_tensor(perturbation.start(x)), Shortfall(targets, confidence, x)
    wanted = yield from standing(start, confidence)

    def attempt(c: Tensor) -> Method[Tensor]:
        def objective(view: View) -> Tensor:
            change = (view.inputs - view.batch.inputs).flatten(1)
            return change.square().sum(1) + c[view.batch.rows] * short(view)

        w, step = start, optimizer(x, perturbation, start, step_size)
        review, found = Review(wanted, steps), ~wanted
        for i in range(steps):
            answer, reached = yield from short.put(Ask(w, objective, gradient=True, wanted=review.wanted))
            found = found | reached
            if review.over(i, answer.loss):
                break
            w = step(answer.slope())
        return found

    yield from search_constant(attempt, x.new_full((len(x),), initial_c), steps=search_steps)


def smallest_peak(
    x: Tensor,
    perturbation: Perturbation,
    *,
    generator: torch.Generator,
    targets: Tensor | None,
    search_steps: int,
    steps: int,
    step_size: float,
    initial_c: float,
    confidence: float,
    finest: float,
) -> Method[None]:
    """The method in l-inf: lower what exceeds a threshold and ``c`` times the shortfall, then the threshold, again.

    It ends: an attempt either fails, which ``search_steps`` of them may, or lowers the threshold by a tenth at least,
    which leads from the width of the bounds to the ``finest`` threshold in 132 attempts.
    """
    home, short = as_tensor(perturbation.start(x)), Shortfall(targets, confidence, x)
    wanted = yield from standing(home, confidence)
    c, threshold = x.new_full((len(x),), initial_c), x.new_full((len(x),), torch.inf)
    failures = torch.zeros_like(c)

    def objective(view: View) -> Tensor:
        change = (view.inputs - view.batch.inputs).flatten(1)
        excess = (change.abs() - threshold[view.batch.rows, None]).clamp_min(0).sum(1)
        return excess + c[view.batch.rows] * short(view)

    while bool(wanted.any()):
        w, step = home, adam(x, perturbation, home, step_size)
        review, missed = Review(wanted, steps), wanted
        for i in range(steps):
            answer, reached = yield from short.put(Ask(w, objective, gradient=True, wanted=review.wanted))
            peak = get_norm("linf").size(perturbation(x, w) - x)
            found = reached & (peak <= threshold)
            home, threshold = torch.where(per_sample(found, w), w, home), torch.where(found, SHRINK * peak, threshold)
            missed, review.wanted = missed & ~found, review.wanted & ~found
            if review.over(i, answer.loss):
                break
            w = step(answer.slope(), PACE * threshold)
        failures, c = failures + missed, torch.where(missed, 2 * c, c)
        wanted = wanted & (failures < search_steps) & (threshold > finest)


def carlini_wagner(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    norm: str = "l2",
    search_steps: int = 9,
    steps: int = 1000,
    step_size: float = 0.01,
    initial_c: float | None = None,
    confidence: float = 0.0,
    reach: float = 0.5,
    **options: Unpack[RunOptions],
) -> AttackResult:
    """Find the smallest change of each sample by lowering its size and the model's lead in the right class together.

    The constant ``c`` between the two is searched for each sample by itself. In l2 every attempt begins at the sample;
    ``c`` grows tenfold until one succeeds, then the smallest that does is bisected. In l-inf what exceeds a threshold
    counts as size; after each success the threshold falls to 0.9 of the largest change and the next attempt goes on
    from there, after each failure ``c`` doubles.

    An attempt leaves a sample alone once its loss falls by less than 0.01 % in a tenth of the steps, so the passes
    counted are usually far fewer than ``search_steps * steps``.

    In l-inf no step is longer than a twentieth of the threshold, and changes end within 1.04 times the least one on
    linear models, whatever its size. In l2 a step moves each entry by half of ``step_size`` times the width of the
    bounds, or less: changes that are not far longer than that end up to 1.7 times the least one there. A smaller
    ``step_size`` finds them more exactly.

    Args:
        model: maps inputs to logits, shape ``[n, classes]``.
        x: clean samples, float32, shape ``[n, ...]``, inside ``bounds`` ([0, 1] unless said).
        labels: their classes, int64, shape ``[n]``.
        norm: "l2" or "linf".
        search_steps: in l2 the attempts, in l-inf the attempts that may fail, at least 1.
        steps: Adam steps of an attempt, at least 1.
        step_size: Adam's, in the variable of :class:`~attacks.engine.TanhBox`.
        initial_c: the first ``c``, above 0; unless given 0.001 times the squared width of the bounds in l2, 0.1 times
            the width in l-inf.
        confidence: by how many logits the wrong class must lead for a sample to count as found, at least 0.
        reach: the part of the range of tanh that is stretched over the bounds, in (0, 1). The authors' code has
            0.999999, with which samples at the very bounds hardly move.
        **options: the settings of :func:`attacks.run`: targets, bounds, stop, budget, batch_size, levels,
            estimator, diagnose, seed, generator, progress.

    Raises:
        InputError: when samples, labels or settings cannot be used as they are; for restarts, as there is no chance.

    Example:
        >>> x, labels = torch.tensor([[0.6, 0.5]]), torch.tensor([0])
        >>> carlini_wagner(nn.Identity(), x, labels, steps=100).distance < 0.0708 * 1.02  # the boundary: 0.1 / sqrt(2)
        tensor([True])
    """
    check_search(search_steps=search_steps, steps=steps, step_size=step_size, initial_c=initial_c)
    check_amounts(confidence=confidence)
    refuse_restarts("carlini_wagner", options)
    width = span(options)
    methods: dict[str, tuple[Callable[..., Method[None]], float]] = {
        "l2": (smallest_change, 1e-3 * width**2),
        "linf": (partial(smallest_peak, finest=FINEST * width), 0.1 * width),
    }
    if norm not in methods:
        raise InputError(f"norm={norm!r} has no Carlini-Wagner attack here: use 'l2' or 'linf'.")
    method, usual_c = methods[norm]
    bound = partial(
        method,
        targets=options.get("targets"),
        search_steps=search_steps,
        steps=steps,
        step_size=step_size,
        initial_c=usual_c if initial_c is None else initial_c,
        confidence=confidence,
    )
    box = TanhBox(options.get("bounds", (0.0, 1.0)), reach)
    return run(bound, model, x, labels, norm=norm, perturbation=box, rank=get_norm(norm).size, **options)
