"""Semantic attacks: one number a sample turns its colours, its light or the whole image.

The maps, their intervals and the gradient search are those of Hsiung et al., "Towards compositional adversarial
robustness", CVPR 2023. Engstrom et al., "Exploring the landscape of spatial robustness", ICML 2019, found a grid to be
stronger where there is one number to search: the loss has many valleys along it.
"""

from collections.abc import Sequence
from functools import partial
from typing import Literal, Unpack, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from attacks.errors import InputError

from ..engine import (
    Ask,
    AttackResult,
    Loss,
    Method,
    Mixture,
    Objective,
    RunOptions,
    Semantic,
    as_tensor,
    away_or_towards,
    check_counts,
    cross_entropy,
    get_components,
    run,
)

Search = Literal["gradient", "grid"]
PACE = 2.5
"""All steps of a component together, in half intervals."""


def uniform(mixture: Mixture, like: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """Parameters drawn uniformly from the components' intervals, shaped as those in ``like``."""
    drawn = {}
    for part in mixture.parts:
        (low, high), shape = part.interval, like[part.name]
        share = torch.rand(shape.shape, generator=generator, device=shape.device, dtype=shape.dtype)
        drawn[part.name] = low + (high - low) * share
    return drawn


def descend(mixture: Mixture, point: dict[str, Tensor], objective: Objective, steps: int) -> Method[dict[str, Tensor]]:
    """Projected steps by the slope's sign, of the components that have a turn in ``point["order"]``; where they end."""
    moving = tuple(part.name for part in mixture.parts)
    for _ in range(steps):
        answer = yield Ask(point, objective, gradient=True, moving=moving)
        assert isinstance(answer.gradient, dict)
        for part in mixture.parts:
            length = PACE * (part.interval[1] - part.interval[0]) / 2 / steps
            point = {**point, part.name: point[part.name] - length * answer.gradient[part.name].sign()}
        point = mixture.clip(point["image"], point)
    yield Ask(point)
    return point


def one_after_another(
    x: Tensor, perturbation: Mixture, *, generator: torch.Generator, objective: Objective, steps: int, search: Search
) -> Method[None]:
    """The method behind :func:`semantic`."""
    start, k = perturbation.start(x), len(perturbation.parts)
    yield Ask(start)  # a sample that is misclassified as it is needs no attack
    numbers = uniform(perturbation, start, generator)
    for place, part in enumerate(perturbation.parts):
        turn = functional.one_hot(torch.full((len(x), 1), place, device=x.device), k).to(x.dtype)
        if search == "gradient":
            yield from descend(perturbation, {**numbers, "image": x, "order": turn}, objective, steps)
            continue
        for number in torch.linspace(*part.interval, steps).tolist():
            yield Ask({**start, "order": turn, part.name: torch.full_like(as_tensor(start[part.name]), number)})


def semantic(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    maps: Sequence[str | Semantic] = ("hue", "saturation", "rotation", "brightness", "contrast"),
    steps: int = 10,
    search: Search = "grid",
    loss: Loss = cross_entropy,
    **options: Unpack[RunOptions],
) -> AttackResult:
    """Attack each image with one change that leaves it natural; of several maps each is tried alone.

    A sample is left alone as soon as it is misclassified: what the result says of several maps is the worst of them.

    Args:
        model: maps images to logits, shape ``[n, classes]``.
        x: clean images, float32, shape ``[n, channels, height, width]``, in [0, 1]; hue and saturation need three
            channels.
        labels: their classes, int64, shape ``[n]``.
        maps: names from :data:`~attacks.engine.COMPONENTS`, or maps of your own; tried in this order.
        steps: points of the grid, or gradient steps, for each map; at least 1.
        search: "grid", evenly spaced numbers from end to end, without gradients; or "gradient", projected steps of
            2.5 / steps times half the interval from a random number, as in the paper: weaker and dearer.
        loss: what the gradient search raises at the labels, or lowers at the targets.
        **options: the settings of :func:`attacks.run`: targets, stop, restarts, budget, batch_size, levels, seed,
            generator, progress.

    Returns:
        What was found. The intervals are the threat model, so there is no radius; distances are the l2 norms of the
        images' changes, which say how many pixels moved how far and not how unnatural that looks.

    Raises:
        InputError: when images, labels or settings cannot be used as they are.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(3, 2, bias=False))
        >>> _ = model[1].weight.data.copy_(torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
        >>> redder = torch.tensor([0.6, 0.5, 0.4]).reshape(1, 3, 1, 1)
        >>> result = semantic(model, redder, torch.tensor([0]), maps=["saturation", "hue"])
        >>> result.success, int(result.forward_passes)
        (tensor([True]), 13)
    """
    if search not in get_args(Search):
        raise InputError(f"search={search!r} is not known: use one of {', '.join(map(repr, get_args(Search)))}.")
    check_counts(steps=steps)
    check_options(options)
    if search == "grid" and options.get("restarts", 1) > 1:
        raise InputError(
            f"restarts={options['restarts']} would repeat the same grid: raise steps, which makes it finer."
        )
    parts = get_components(maps)
    if wide := [part.name for part in parts if not isinstance(part, Semantic)]:
        raise InputError(f"{wide[0]!r} moves more than one number a sample: use pgd, or caa for a chain with others.")
    objective = away_or_towards(loss, options.get("targets"))
    method = partial(one_after_another, objective=objective, steps=steps, search=search)
    return run(method, model, x, labels, norm="l2", perturbation=Mixture(parts), **options)


def check_options(options: RunOptions) -> None:
    """Refuse what does not go with these maps: bounds other than [0, 1], and a diagnosis, which needs a slope in x.

    Raises:
        InputError: naming it.

    Example:
        >>> check_options({"bounds": (0.0, 255.0)})
        Traceback (most recent call last):
        ...
        attacks.errors.InputError: bounds=(0.0, 255.0) cannot be used: colour and light are changed in [0, 1], so \
scale the images, and put what the model needs into it.
    """
    bounds = options.get("bounds", (0.0, 1.0))
    if tuple(bounds) != (0.0, 1.0):
        raise InputError(
            f"bounds={bounds} cannot be used: colour and light are changed in [0, 1], so scale the images, and put "
            "what the model needs into it."
        )
    if options.get("diagnose"):
        raise InputError(
            "diagnose=True looks at the slope in every entry, which is not asked for here: use it with pgd."
        )
