"""The elastic-net attack: Carlini and Wagner's with an l1 term, for changes that are sparse.

Chen et al., "EAD: elastic-net attacks to deep neural networks via adversarial examples", AAAI 2018, algorithm 1.
"""

from functools import partial
from typing import Literal, Unpack

import torch
from torch import Tensor, nn

from attacks.errors import InputError

from ..engine import (
    Ask,
    AttackResult,
    Method,
    Perturbation,
    RunOptions,
    View,
    as_tensor,
    check_amounts,
    get_norm,
    run,
)
from ..engine.checks import refuse_restarts
from .search import Review, Shortfall, check_search, search_constant, span, standing


def shrink(p: Tensor, threshold: float) -> Tensor:
    """Soft-threshold: entries move towards zero by the threshold, and stay there once they reach it.

    Example:
        >>> shrink(torch.tensor([-0.5, 0.25, 1.0]), 0.25)
        tensor([-0.2500,  0.0000,  0.7500])
    """
    return p.sign() * (p.abs() - threshold).clamp_min(0)


def elastic_net(
    x: Tensor,
    perturbation: Perturbation,
    *,
    generator: torch.Generator,
    targets: Tensor | None,
    search_steps: int,
    steps: int,
    step_size: float,
    initial_c: float,
    beta: float,
    confidence: float,
) -> Method[None]:
    """The method behind :func:`ead`: FISTA on ``c * shortfall + |p|_2^2 + beta * |p|_1``."""
    start, short = as_tensor(perturbation.start(x)), Shortfall(targets, confidence, x)
    wanted = yield from standing(start, confidence)

    def attempt(c: Tensor) -> Method[Tensor]:
        def smooth(view: View) -> Tensor:
            change = as_tensor(view.parameters).flatten(1)
            return change.square().sum(1) + c[view.batch.rows] * short(view)

        p = y = start
        review, found = Review(wanted, steps), ~wanted
        for k in range(steps):
            answer = yield Ask(y, smooth, gradient=True, probe=True, wanted=review.wanted)
            if review.over(k, answer.loss, stay=found):
                break
            moved = y - step_size * (1 - k / steps) ** 0.5 * answer.slope()
            last, p = p, as_tensor(perturbation.clip(x, shrink(moved, beta)))
            # What lies ahead is clipped as well, which the paper does not: a model need not take what is out of bounds.
            y = as_tensor(perturbation.clip(x, p + k / (k + 3) * (p - last)))
            _, reached = yield from short.put(Ask(p, smooth, wanted=review.wanted))
            found = found | reached
        return found

    yield from search_constant(attempt, x.new_full((len(x),), initial_c), steps=search_steps)


def ead(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    decision_rule: Literal["l1", "en"] = "l1",
    search_steps: int = 9,
    steps: int = 1000,
    step_size: float = 0.01,
    initial_c: float | None = None,
    beta: float | None = None,
    confidence: float = 0.0,
    **options: Unpack[RunOptions],
) -> AttackResult:
    """Find a small, sparse change of each sample: Carlini-Wagner's loss with an l1 term, lowered by FISTA.

    The constant ``c`` is searched for each sample as in :func:`carlini_wagner`, every attempt begins at the sample. A
    step costs a gradient ahead of the iterate, where momentum leads, and a forward pass at the iterate, which is the
    candidate. An attempt ends for a sample that it has not fooled and whose loss falls by less than 0.01 % in a tenth
    of the steps; the others go on to the end, as changes become sparser while steps become smaller.

    Args:
        model: maps inputs to logits, shape ``[n, classes]``.
        x: clean samples, float32, shape ``[n, ...]``, inside ``bounds`` ([0, 1] unless said).
        labels: their classes, int64, shape ``[n]``.
        decision_rule: which of the points found is kept: the one of the smallest l1 norm ("l1"), or of the smallest
            elastic net, squared l2 norm + ``beta`` * l1 norm ("en").
        search_steps: attempts, each with another ``c``, at least 1.
        steps: of an attempt, at least 1.
        step_size: of the first step, as a factor of the gradient; it falls to 0 with the root of the steps left.
        initial_c: the first ``c``, above 0; 0.001 times the squared width of the bounds unless given.
        beta: weight of the l1 norm, and by how much every step moves all entries back towards the sample, in the units
            of ``x``; at least 0; 0.001 times the width of the bounds unless given.
        confidence: by how many logits the wrong class must lead for a sample to count as found, at least 0.
        **options: the settings of :func:`attacks.run`: targets, bounds, stop, budget, batch_size, levels,
            estimator, diagnose, seed, generator, progress.

    Returns:
        What was found, with l1 distances whatever the rule.

    Raises:
        InputError: when samples, labels or settings cannot be used as they are; for restarts, as there is no chance.

    Example:
        >>> x, labels = torch.tensor([[0.6, 0.5]]), torch.tensor([0])
        >>> ead(nn.Identity(), x, labels, steps=100).distance < 0.1 * 1.05  # the boundary is 0.1 away
        tensor([True])
    """
    check_search(search_steps=search_steps, steps=steps, step_size=step_size, initial_c=initial_c)
    check_amounts(beta=beta, confidence=confidence)
    if decision_rule not in ("l1", "en"):
        raise InputError(f"decision_rule={decision_rule!r} is not known: use 'l1' or 'en'.")
    refuse_restarts("ead", options)
    width = span(options)
    beta = 1e-3 * width if beta is None else beta
    l1, l2 = get_norm("l1").size, get_norm("l2").size
    method = partial(
        elastic_net,
        targets=options.get("targets"),
        search_steps=search_steps,
        steps=steps,
        step_size=step_size,
        initial_c=1e-3 * width**2 if initial_c is None else initial_c,
        beta=beta,
        confidence=confidence,
    )
    rank = l1 if decision_rule == "l1" else lambda change: l2(change).square() + beta * l1(change)
    return run(method, model, x, labels, norm="l1", rank=rank, **options)
