"""One perturbation for all samples, by mini-batch descent.

Moosavi-Dezfooli et al., "Universal adversarial perturbations", CVPR 2017, pose the problem; Shafahi et al., "Universal
adversarial training", AAAI 2020, solve it by stochastic gradient steps on a truncated loss, as here.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from tqdm import tqdm

from attacks.errors import InputError

from ..engine import (
    Ask,
    AttackResult,
    Batch,
    Loss,
    Norm,
    Objective,
    Stream,
    Universal,
    View,
    away_or_towards,
    check_amounts,
    check_counts,
    check_plain_steps,
    check_samples,
    cross_entropy,
    device_of,
    feasible,
    frozen,
    get_norm,
    logits_of,
    missed_or_hit,
)

CEILING = 9.0
"""Shafahi et al.'s truncation: a sample whose loss has moved this far pulls no more."""


def _truncated(objective: Objective) -> Objective:
    def floored(view: View) -> Tensor:
        return objective(view).clamp_min(-CEILING)

    return floored


def universal_perturbation(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    norm: str = "linf",
    epochs: int = 10,
    step_size: float | None = None,
    batch_size: int = 64,
    loss: Loss = cross_entropy,
    targets: Tensor | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> AttackResult:
    """Find one perturbation that makes the model err on as many samples as it can.

    Of the settings of :func:`attacks.run` it shares targets, bounds, batch_size, seed, generator and progress; there is
    one radius, and no stop, restarts, budget, levels, estimator or diagnose, as no sample is attacked by itself.

    Args:
        model: maps inputs to logits, shape ``[n, classes]``.
        x: clean samples, float32, shape ``[n, ...]``, inside ``bounds``.
        labels: their classes, int64, shape ``[n]``.
        epsilon: the norm that the perturbation may have, in the units of ``x``.
        norm: "linf" or "l2".
        epochs: passes over the samples, at least 1.
        step_size: length of a step in ``norm``; epsilon / 10 unless given.
        batch_size: samples in each step, at least 1.
        loss: what the attack raises at the labels, or lowers at the targets.
        targets: the class that each sample shall be taken for, int64, shape ``[n]``; None: any but its label.
        bounds: the smallest and largest valid entry of an input.
        seed: seeds the order of the samples.
        generator: on the model's device; used instead of ``seed``.
        progress: show a bar over the epochs.

    Returns:
        The result over all samples; the perturbation itself is its ``shared``, shape ``[1, ...]``, on the device of
        ``x``. Judge it on samples that it was not made from.

    Raises:
        InputError: when samples, labels or settings cannot be used as they are.

    Example:
        >>> x, labels = torch.full((8, 2), 0.5), torch.zeros(8, dtype=torch.int64)
        >>> x[:, 0] += 0.1
        >>> result = universal_perturbation(nn.Identity(), x, labels, epsilon=0.06)
        >>> result.shared, str(result.success_rate)
        (tensor([[-0.0600,  0.0600]]), '1.000 [0.676, 1.000] n=8')
    """
    check_samples(x, labels, targets, bounds)
    check_one_radius(epsilon)
    check_amounts(step_size=step_size)
    check_counts(epochs=epochs, batch_size=batch_size)
    check_plain_steps(norm)
    length = epsilon / 10 if step_size is None else step_size
    whole, measure, perturbation = whole_batch(model, x, labels, targets), get_norm(norm), Universal(bounds)
    draws = generator or torch.Generator(whole.inputs.device).manual_seed(seed)
    objective = _truncated(away_or_towards(loss, targets))
    stream, p = Stream(model, perturbation), perturbation.start(whole.inputs)
    move = feasible(whole.inputs, perturbation, measure, epsilon)
    with frozen(model):
        for _ in tqdm(range(epochs), disable=not progress, unit="epoch"):
            for rows in torch.randperm(len(x), generator=draws, device=draws.device).split(batch_size):
                answer = stream.on(whole.take(rows))(Ask(p, objective, gradient=True))
                p = move(measure.step(p, answer.slope(), length))
        result = judged(model, whole, perturbation(whole.inputs, p), measure, batch_size)
    passes = torch.full_like(whole.labels, epochs)
    return replace(
        result, forward_passes=passes + 1, backward_passes=passes, epsilon=epsilon, radii=(epsilon,), shared=p
    ).to(x.device)


def check_one_radius(epsilon: float) -> None:
    """Refuse several radii, and what is no radius.

    Raises:
        InputError: naming what came.
    """
    if isinstance(epsilon, Sequence | Tensor) and not isinstance(epsilon, str):
        raise InputError(
            f"epsilon={epsilon!r} are several radii, but one perturbation has one: call once for each of them."
        )
    check_amounts(epsilon=epsilon)


def whole_batch(model: nn.Module, x: Tensor, labels: Tensor, targets: Tensor | None) -> Batch:
    """All samples on the model's device, for methods that draw their own batches from them."""
    device = device_of(model, x)
    classes = 1 + int(labels.max() if targets is None else torch.maximum(labels, targets).max())
    moved = None if targets is None else targets.to(device)
    return Batch(x.to(device), labels.to(device), moved, torch.arange(len(x), device=device), classes)


@torch.no_grad()
def judged(model: nn.Module, batch: Batch, adversarial: Tensor, norm: Norm, batch_size: int) -> AttackResult:
    """What inputs made with one perturbation for all, shape ``[n, ...]``, do to a model that is frozen already.

    The passes counted are those of the judgement: one forward pass each.
    """
    logits = torch.cat([logits_of(model, part, batch.classes) for part in adversarial.split(batch_size)])
    success = missed_or_hit(logits, batch.labels, batch.targets)
    passes = torch.ones_like(batch.labels)
    return AttackResult(
        adversarial, success, norm.size(adversarial - batch.inputs), passes, torch.zeros_like(passes), norm.name, None
    )
