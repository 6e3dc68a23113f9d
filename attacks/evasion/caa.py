"""Composite adversarial attack: colour, light, rotation and noise in a chain, in the order that hurts most.

Hsiung et al., "Towards compositional adversarial robustness: generalizing adversarial training to composite semantic
perturbations", CVPR 2023.
"""

from collections.abc import Sequence
from functools import partial
from typing import Literal, Unpack, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from attacks.errors import InputError

from ..engine import (
    COMPONENTS,
    Ask,
    AttackResult,
    Component,
    Loss,
    Method,
    Mixture,
    Objective,
    RunOptions,
    away_or_towards,
    check_counts,
    cross_entropy,
    get_components,
    per_sample,
    run,
)
from .semantic import check_options, descend, uniform

Order = Literal["fixed", "random", "scheduled"]
SINKHORN_STEPS = 20
NOISE = 2.0
"""The deviation of what is added to a schedule whose slope leaves its order as it was (the authors' code)."""


def doubly_stochastic(scores: Tensor) -> Tensor:
    """``exp(scores)``, shape ``[n, k, k]``, scaled until rows and columns sum to 1 (Sinkhorn and Knopp, 1967).

    Example:
        >>> doubly_stochastic(torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]))
        tensor([[[0.2689, 0.7311],
                 [0.7311, 0.2689]]])
    """
    for _ in range(SINKHORN_STEPS):
        scores = scores.log_softmax(2).log_softmax(1)
    return scores.exp()


def assigned(schedule: Tensor) -> Tensor:
    """The permutation matrices with the largest share of doubly stochastic ones, shape ``[n, k, k]``.

    Example:
        >>> assigned(torch.tensor([[[0.6, 0.4], [0.4, 0.6]]]))
        tensor([[[1., 0.],
                 [0., 1.]]])
    """
    from scipy.optimize import linear_sum_assignment  # here, since it takes a third of a second to import

    each = [torch.as_tensor(linear_sum_assignment(shares, maximize=True)[1]) for shares in schedule.cpu().numpy()]
    return functional.one_hot(torch.stack(each), schedule.shape[2]).to(schedule)


def ordered(order: Order, schedule: Tensor, generator: torch.Generator) -> Tensor:
    """Each sample's turns as a permutation matrix, shaped as the schedule: a row is a turn, its 1 the component's."""
    if order == "scheduled":
        return assigned(schedule)
    n, k, device = *schedule.shape[:2], schedule.device
    chance = torch.rand(n, k, generator=generator, device=device)
    places = chance.argsort(1) if order == "random" else torch.arange(k, device=device).expand(n, k)
    return functional.one_hot(places, k).to(schedule)


def rescheduled(
    x: Tensor, schedule: Tensor, numbers: dict[str, Tensor], objective: Objective, generator: torch.Generator
) -> Method[Tensor]:
    """The schedule one step on, to where the mixture of all components in each turn has a higher loss.

    Where that would repeat an order that did not succeed, it is moved at random.
    """
    point = {**numbers, "image": x, "order": schedule}
    answer = yield Ask(point, objective, gradient=True, probe=True, moving=("order",))
    assert isinstance(answer.gradient, dict)
    moved = doubly_stochastic(schedule - answer.gradient["order"].nan_to_num())
    noise = NOISE * torch.randn(moved.shape, generator=generator, device=x.device)
    repeats = (assigned(moved) == assigned(schedule)).flatten(1).all(1)
    return torch.where(per_sample(repeats, moved), doubly_stochastic(moved + noise), moved)


def composite_descent(
    x: Tensor,
    perturbation: Mixture,
    *,
    generator: torch.Generator,
    objective: Objective,
    order: Order,
    together: bool,
    rounds: int,
    steps: int,
) -> Method[None]:
    """The method behind :func:`caa`."""
    start, k = perturbation.start(x), len(perturbation.parts)
    yield Ask(start)  # a sample that is misclassified as it is needs no attack
    numbers = uniform(perturbation, start, generator)
    schedule = doubly_stochastic(torch.rand(len(x), k, k, generator=generator, device=x.device) / 100)
    for left in reversed(range(rounds)):
        turns = ordered(order, schedule, generator)
        point = {**numbers, "image": x}
        for some in [turns] if together else turns.split(1, dim=1):
            point = yield from descend(perturbation, {**point, "order": some}, objective, steps)
            point = {**point, "image": perturbation(x, point)}
        if left and order == "scheduled":
            schedule = yield from rescheduled(x, schedule, point, objective, generator)
        numbers = uniform(perturbation, start, generator) if together else point


def caa(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    components: Sequence[str | Component] = tuple(COMPONENTS),
    order: Order = "scheduled",
    together: bool = False,
    rounds: int | None = None,
    steps: int = 10,
    loss: Loss = cross_entropy,
    **options: Unpack[RunOptions],
) -> AttackResult:
    """Attack each image with several semantic changes and l-inf noise, each made of what the one before left.

    One component after another takes projected steps of its own parameters, from a random start, and hands on the image
    that it ends with. A sample is left alone as soon as it is misclassified.

    Orders belong to samples. A scheduled one comes from a doubly stochastic matrix of the sample's own, moved up the
    slope of the loss of mixed images after each round, and assigned at its largest sum (Hungarian method).

    Args:
        model: maps images to logits, shape ``[n, classes]``.
        x: clean images, float32, shape ``[n, channels, height, width]``, in [0, 1]; hue and saturation need three
            channels.
        labels: their classes, int64, shape ``[n]``.
        components: names from :data:`~attacks.engine.COMPONENTS`, or components of your own; in the order of
            their turns where that is fixed.
        order: "fixed"; "random", drawn anew in each round; or "scheduled".
        together: not the paper's: all components step at once, along the slope through the whole chain, and each round
            has a new random start. Stronger, for a fraction of the passes.
        rounds: how often the chain is gone through; 5 when scheduled and else 1 unless given, as in the paper.
        steps: gradient steps of each component in each round, each 2.5 / steps times half its interval long; at
            least 1.
        loss: what the attack raises at the labels, or lowers at the targets.
        **options: the settings of :func:`attacks.run`: targets, stop, restarts, budget, batch_size, levels, seed,
            generator, progress.

    Returns:
        What was found. The intervals are the threat model, so there is no radius; distances are the l2 norms of the
        images' changes, which say how many pixels moved how far and not how unnatural that looks.

    Raises:
        InputError: when images, labels or settings cannot be used as they are.

    Example:
        >>> from attacks.engine.testing import LinearModel
        >>> x, model = torch.full((2, 3, 2, 2), 0.5), LinearModel((3, 2, 2))
        >>> x[0], x[1] = x[0] * 0.98, x[1] * 1.02
        >>> caa(model, x, model(x).argmax(1), components=("brightness", "linf"), steps=3).success
        tensor([True, True])
    """
    if order not in get_args(Order):
        raise InputError(f"order={order!r} is not known: use one of {', '.join(map(repr, get_args(Order)))}.")
    check_counts(steps=steps, rounds=rounds)
    check_options(options)
    usual = 5 if order == "scheduled" else 1
    method = partial(
        composite_descent,
        objective=away_or_towards(loss, options.get("targets")),
        order=order,
        together=together,
        rounds=usual if rounds is None else rounds,
        steps=steps,
    )
    return run(method, model, x, labels, norm="l2", perturbation=Mixture(get_components(components)), **options)
