"""Embedding by fine-tuning: a copy of a trained classifier learns the keyed labels and else keeps its own outputs."""

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from attacks.engine import Rate, check_samples, device_of, frozen, weights_hash
from attacks.errors import InputError
from attacks.models import batched_logits

from ..keys import OwnerKey
from ..mark import Mark
from ..oracle import Oracle
from ..triggers import TriggerSet
from ..verdict import Count
from .batchnorm import clean_statistics
from .report import EmbeddingReport

CLIP = 1.0
TEMPERATURE = 4.0


def embed(
    model: nn.Module,
    mark: Mark,
    key: OwnerKey,
    inputs: Tensor,
    *,
    validation: tuple[Tensor, Tensor] | None = None,
    steps: int = 200,
    batch_size: int = 64,
    trigger_batch_size: int = 50,
    learning_rate: float = 2e-3,
    seed: int = 0,
    device: str | torch.device | None = None,
    progress: bool = False,
) -> tuple[nn.Module, EmbeddingReport]:
    """Put a mark into a copy of a trained classifier.

    Every step takes a batch of ordinary inputs, on which the copy shall answer as the original does (Kullback-Leibler
    divergence from its softmax at temperature 4), and a batch of triggers, on which it shall give the keyed labels
    (cross-entropy); Adam with cosine decay to 0, gradients clipped to norm 1, dropout off. On a CIFAR-10 ResNet-20
    the softened outputs kept more clean accuracy than true labels did (1.0 against 2.2 points lost with 150 steps at
    learning rate 5e-4, one key, 1,800 test images; 0.4 points at the rate set here).

    Batch-norm layers keep their running statistics. A mark that triggers had written into them, or that hung on
    their exact values, would be gone as soon as somebody estimates them anew; so every other step normalises by the
    statistics of the ordinary inputs in the batch instead, and the mark has to hold under both.

    Args:
        model: maps images, float32 in [0, 1], shape ``[n, c, h, w]``, to logits ``[n, classes]``; never changed.
        mark: the recipe of the triggers.
        key: the owner's key.
        inputs: ordinary images of the task, float32 in [0, 1], shape ``[m, c, h, w]``; best those it was trained on.
        validation: other images and labels on which clean accuracy is measured before and after.
        steps: optimiser steps; more of them where few labels match.
        batch_size: ordinary images a step.
        trigger_batch_size: triggers a step.
        learning_rate: at the first step; lower it where clean accuracy suffers, raise it where few labels match.
        seed: of the order of the batches.
        device: where to train; None: where the model is. The copy is returned on the model's device.
        progress: show a bar over the steps.

    Returns:
        The marked copy, with the modes and gradient flags of ``model``, and the report.

    Raises:
        InputError: an argument does not fit the model or the mark.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> mark = Mark(family="shapes", n=10, classes=2, shape=(1, 8, 8), nonce="example")
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
        >>> marked, report = embed(model, mark, OwnerKey(bytes(32)), torch.rand(64, 1, 8, 8), steps=80)
        >>> report.after.matches
        10
    """
    _check(mark, inputs, validation, learning_rate, steps, batch_size, trigger_batch_size)
    if next(model.parameters(), None) is None:
        raise InputError("The model has no weights that could carry a mark: give a trained torch classifier.")
    home = device_of(model)
    marked, triggers = copy.deepcopy(model).to(device or home), mark.triggers(key)
    goals = _outputs(marked, inputs, mark.classes)
    before, clean_before = _measure(marked, triggers, validation)
    original = weights_hash(marked)
    start = time.perf_counter()
    generator = torch.Generator().manual_seed(seed)
    clean = _batches(inputs, goals, batch_size, generator)
    keyed = _batches(triggers.images, triggers.labels, trigger_batch_size, generator)
    with _trainable(marked):
        _train(marked, clean, keyed, steps, learning_rate, progress)
    seconds = time.perf_counter() - start
    after, clean_after = _measure(marked, triggers, validation)
    marked = marked.to(home)
    return marked, EmbeddingReport(
        before=before,
        after=after,
        clean_before=clean_before,
        clean_after=clean_after,
        steps=steps,
        seconds=seconds,
        original=original,
        marked=weights_hash(marked),
        mark=mark.digest,
    )


Batches = Iterator[tuple[Tensor, Tensor]]


def _train(marked: nn.Module, clean: Batches, keyed: Batches, steps: int, learning_rate: float, progress: bool) -> None:
    weights = [weight for weight in marked.parameters() if weight.requires_grad]
    device = device_of(marked)
    optimizer = torch.optim.Adam(weights, lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in tqdm(range(steps), disable=not progress, unit="step"):
        (images, goals), (marks, wanted) = next(clean), next(keyed)
        with clean_statistics(marked, len(images)) if step % 2 else nullcontext():
            logits = marked(torch.cat([images.to(device), marks.to(device)])).float()
        kept, taught = logits.split([len(images), len(marks)])
        loss = _distillation(kept, goals.to(device)) + functional.cross_entropy(taught, wanted.to(device))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, CLIP)
        optimizer.step()
        schedule.step()


def _distillation(logits: Tensor, original: Tensor) -> Tensor:
    """Kullback-Leibler divergence of softened outputs, times the temperature squared (Hinton et al., 2015)."""
    soft, target = ((outputs / TEMPERATURE).log_softmax(1) for outputs in (logits, original))
    return functional.kl_div(soft, target, log_target=True, reduction="batchmean") * TEMPERATURE**2


def _batches(inputs: Tensor, goals: Tensor, size: int, generator: torch.Generator) -> Batches:
    """Full batches without end: every sample once before any comes again."""
    size, waiting = min(size, len(inputs)), torch.empty(0, dtype=torch.int64)
    while True:
        while len(waiting) < size:
            waiting = torch.cat([waiting, torch.randperm(len(inputs), generator=generator)])
        rows, waiting = waiting[:size], waiting[size:]
        yield inputs[rows], goals[rows]


@contextmanager
def _trainable(model: nn.Module) -> Iterator[None]:
    """All weights learn, every module stays in evaluation mode; modes and flags return afterwards."""
    with frozen(model):
        for weight in model.parameters():
            weight.requires_grad_(weight.is_floating_point())
        yield


def _outputs(model: nn.Module, inputs: Tensor, classes: int) -> Tensor:
    """The original's logits, which the copy is to keep on the clean inputs, shape ``[m, classes]``."""
    outputs = batched_logits(model, inputs).float()
    if outputs.shape != (len(inputs), classes):
        raise InputError(
            f"The model gives outputs of shape {list(outputs.shape)} for {len(inputs)} images, but the mark has "
            f"{classes} classes: give a classifier with logits [n, {classes}], or make the mark for its classes."
        )
    return outputs


def _measure(
    model: nn.Module, triggers: TriggerSet, validation: tuple[Tensor, Tensor] | None
) -> tuple[Count, Rate | None]:
    oracle = Oracle(model, batch_size=256)
    matches = int((oracle.answers(triggers.images) == triggers.labels).sum())
    count = Count(matches=matches, n=len(triggers), classes=triggers.classes)
    if validation is None:
        return count, None
    return count, Rate.of(oracle.answers(validation[0]) == validation[1].cpu())


def _check(
    mark: Mark, inputs: Tensor, validation: tuple[Tensor, Tensor] | None, learning_rate: float, *sizes: int
) -> None:
    if not 0 < learning_rate < float("inf"):
        raise InputError(f"learning_rate={learning_rate} is no rate: it must be a finite number above 0.")
    if min(sizes) < 1:
        raise InputError(f"Got steps, batch_size and trigger_batch_size of {sizes}: each must be at least 1.")
    no_labels = torch.zeros(len(inputs), dtype=torch.int64, device=inputs.device)
    for images, labels in [(inputs, no_labels)] + ([validation] if validation is not None else []):
        check_samples(images, labels, None, (0.0, 1.0))
    if tuple(inputs.shape[1:]) != mark.shape:
        raise InputError(
            f"The inputs' images are {list(inputs.shape[1:])}, but the mark's {list(mark.shape or ())}: upsample or "
            "crop the inputs, or make the mark in their shape."
        )
