"""One perturbation for all samples, grown from the nearest boundaries of those it does not fool yet.

Moosavi-Dezfooli et al., "Universal adversarial perturbations", CVPR 2017, algorithm 1, on DeepFool.
"""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..engine import (
    AttackResult,
    Universal,
    check_amounts,
    check_counts,
    check_plain_steps,
    check_samples,
    frozen,
    get_norm,
)
from .deepfool import deepfool
from .universal import check_one_radius, judged, whole_batch


def universal_deepfool(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    norm: str = "linf",
    epochs: int = 5,
    batch_size: int = 8,
    enough: float = 0.8,
    steps: int = 50,
    overshoot: float = 0.02,
    candidates: int = 10,
    bounds: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> AttackResult:
    """Find one perturbation that makes the model err on many samples, from the least changes that single ones need.

    The published algorithm, quick to a first perturbation. Run for as long, gradients fool more samples, and far more
    of a robust model's: see :func:`~attacks.evasion.universal_perturbation`.

    Of the settings of :func:`attacks.run` it shares bounds, batch_size, seed, generator and progress; there is one
    radius, and no targets, stop, restarts, budget, levels, estimator or diagnose.

    Args:
        model: maps inputs to logits, shape ``[n, classes]``.
        x: clean samples, float32, shape ``[n, ...]``, inside ``bounds``.
        labels: their classes, int64, shape ``[n]``.
        epsilon: the norm that the perturbation may have, in the units of ``x``.
        norm: "linf" or "l2".
        epochs: passes over the samples at most, at least 1.
        batch_size: samples whose changes are added up before the perturbation moves; 1 in the paper, and no better.
        enough: the share of samples fooled at which to stop; in the paper 0.8.
        steps: linearisations of each sample in each epoch at most: see :func:`~attacks.evasion.deepfool.deepfool`.
        overshoot: by what share each change is stretched.
        candidates: how many classes are considered, the own one included; at least 2.
        bounds: the smallest and largest valid entry of an input.
        seed: seeds the order of the samples.
        generator: on the model's device; used instead of ``seed``.
        progress: show a bar over the epochs.

    Returns:
        The result over all samples, of the best perturbation at the end of an epoch; the perturbation itself is its
        ``shared``, shape ``[1, ...]``, on the device of ``x``. Judge it on samples that it was not made from.

    Raises:
        InputError: when samples, labels or settings cannot be used as they are.

    Example:
        >>> x, labels = torch.full((8, 2), 0.5), torch.zeros(8, dtype=torch.int64)
        >>> x[:, 0] += 0.1
        >>> result = universal_deepfool(nn.Identity(), x, labels, epsilon=0.06)
        >>> str(result.success_rate)
        '1.000 [0.676, 1.000] n=8'
    """
    check_samples(x, labels, None, bounds)
    check_one_radius(epsilon)
    check_amounts(enough=enough)
    check_counts(epochs=epochs, batch_size=batch_size)
    check_plain_steps(norm)
    whole, measure, perturbation = whole_batch(model, x, labels, None), get_norm(norm), Universal(bounds)
    nearest = partial(deepfool, norm=norm, steps=steps, overshoot=overshoot, candidates=candidates, bounds=bounds)
    draws = generator or torch.Generator(whole.inputs.device).manual_seed(seed)
    forward = torch.zeros_like(whole.labels)
    backward, best, p = torch.zeros_like(forward), None, perturbation.start(whole.inputs)
    with frozen(model):
        for _ in tqdm(range(epochs), disable=not progress, unit="epoch"):
            for rows in torch.randperm(len(x), generator=draws, device=draws.device).split(batch_size):
                batch = whole.take(rows)
                fooled = judged(model, batch, perturbation(batch.inputs, p), measure, batch_size).success
                forward[rows] += 1
                if bool(fooled.all()):
                    continue
                rows, pushed = rows[~fooled], perturbation(whole.inputs[rows[~fooled]], p)
                near = nearest(model, pushed, whole.labels[rows])
                forward[rows] += near.forward_passes
                backward[rows] += near.backward_passes
                change = (near.adversarial - pushed)[near.success].sum(0, keepdim=True)
                p = measure.project(p + change, epsilon)
            found = replace(judged(model, whole, perturbation(whole.inputs, p), measure, batch_size), shared=p)
            forward += found.forward_passes
            if best is None or found.success_rate.value > best.success_rate.value:
                best = found
            if best.success_rate.value >= enough:
                break
    assert best is not None
    return replace(best, forward_passes=forward, backward_passes=backward, epsilon=epsilon, radii=(epsilon,)).to(
        x.device
    )
