"""Training a program: the frozen model answers asks about one batch after another, an optimizer moves the program."""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from tqdm import trange

from attacks.engine import Loss, cross_entropy, frozen

from .backbone import Backbone
from .checks import check_outputs, check_settings, check_size, check_task
from .course import Augment, Course
from .fingerprints import fingerprints
from .history import History
from .program import Program


def cosine(progress: float) -> float:
    """Half a cosine: the factor on the learning rates falls from 1 to 0 as ``progress`` goes from 0 to 1.

    Example:
        >>> cosine(0.0), cosine(1.0)
        (1.0, 0.0)
    """
    return 0.5 + 0.5 * math.cos(math.pi * progress)


def constant(progress: float) -> float:
    """The learning rates stay as they are.

    Example:
        >>> constant(0.9)
        1.0
    """
    return 1.0


def fit(
    program: Program,
    model: nn.Module,
    samples: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    validation: tuple[Tensor, Tensor] | None = None,
    batch_size: int = 32,
    learning_rate: float = 0.01,
    mapping_learning_rate: float = 0.001,
    optimizer: Callable[..., Optimizer] = Adam,
    schedule: Callable[[float], float] = cosine,
    loss: Loss = cross_entropy,
    augment: Augment | None = None,
    seed: int = 0,
    progress: bool | None = None,
) -> History:
    """Train a program on a frozen model, from the start, and leave in it what was learned, and from which samples.

    One pass over the unchanged samples gives the mapping its first statistics and says what it reaches alone. Then each
    epoch takes one forward and one backward pass a sample; a mapping that is found anew each epoch uses the outputs of
    those very passes, for which one epoch's outputs, ``n x sources`` numbers, are held in memory. The model's weights
    and buffers are hashed before and after.

    Args:
        program: what to train; changed only when the training comes to its end.
        model: the source model: inputs to logits, shape ``[n, sources]``; on any device.
        samples: the labelled samples, such as images in [0, 1], float32, shape ``[n, 1 or 3, h, w]``.
        labels: their target classes, int64, shape ``[n]``; each class of the program at least once.
        epochs: passes over the samples after the first one; 0 finds the mapping only.
        validation: samples and labels to choose the epoch by; taken from the labelled data, never from the test data.
            Without them the last epoch is kept.
        batch_size: samples in one step, at least 1.
        learning_rate: of the input program, above 0.
        mapping_learning_rate: of a mapping that learns, above 0.
        optimizer: called with parameter groups that carry their learning rates.
        schedule: maps progress in [0, 1] to a factor on the learning rates.
        loss: of target logits and labels, to be lowered.
        augment: called on each training batch; all its chance comes from the generator it is handed.
        seed: seeds the program's start, order and augmentation; the same seed gives the same bits on the same machine.
        progress: show a bar; by default only on a terminal.

    Returns:
        The course of the training.

    Raises:
        InputError: for samples, labels or settings that cannot be used; the sentence says what to do.
        FrozenModelError: when the model changed, or a gradient reached one of its weights.

    Example:
        >>> from reprog import FullImage, Linear
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 6))
        >>> images, labels = torch.rand(8, 1, 2, 2), torch.arange(8) % 2
        >>> history = fit(Program(FullImage(size=4), Linear(), classes=2), model, images, labels, epochs=3)
        >>> history.forward_passes, history.backward_passes
        (32, 24)
    """
    check_task(program, samples, labels, validation)
    check_size(program, model)
    check_outputs(program, model)
    check_settings(epochs, batch_size, learning_rate, mapping_learning_rate)
    began = time.perf_counter()
    with frozen(model, prove=True):
        course = Course(program, model, samples, labels, batch_size, loss, validation, seed)
        course.look()
        moving = optimizer(course.groups(learning_rate, mapping_learning_rate))
        scheduler = LambdaLR(moving, lambda step: schedule(step / max(1, epochs * course.steps)))
        generator = torch.Generator(samples.device).manual_seed(seed)
        hidden = None if progress is None else not progress  # None: tqdm shows it on a terminal only
        for _ in (bar := trange(epochs, desc="reprogram", unit="epoch", disable=hidden)):
            course.train(moving, scheduler, augment, generator)
            bar.set_postfix_str(str(course.epochs[-1]))
        backbone = Backbone.of(model, outputs=len(course.tensors["matrix"]))
    program.tensors, program.backbone, program.metrics = course.kept_tensors, backbone, {}
    labelled = (samples,) if validation is None else (samples, validation[0])
    program.fingerprints = torch.cat([fingerprints(part) for part in labelled]).unique()
    program.training = {
        "samples": len(samples),
        "validation_samples": 0 if validation is None else len(validation[0]),
        "epochs": epochs,
        "kept_epoch": course.kept,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "mapping_learning_rate": mapping_learning_rate if program.labels.learns else None,
        "augment": None if augment is None else getattr(augment, "__qualname__", None) or repr(augment),
        "seed": seed,
    }
    passes = course.stream.forward_passes, course.stream.backward_passes
    return History(course.epochs, course.kept, course.copy(), *passes, time.perf_counter() - began)
