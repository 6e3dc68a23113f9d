"""What is refused before a program is trained, each with a sentence."""

from torch import Tensor, nn

from attacks.engine import check_samples
from attacks.errors import InputError

from .program import Program


def check_task(
    program: Program, samples: Tensor, labels: Tensor, validation: tuple[Tensor, Tensor] | None = None
) -> None:
    """Refuse samples and labels that a program cannot learn from.

    Raises:
        InputError: for samples out of range, labels beyond the program's classes, or classes without a sample.
    """
    check_samples(samples, labels, None, program.inputs.bounds)
    _check_classes("training", labels, program.classes)
    missing = sorted(set(range(program.classes)) - set(labels.tolist()))
    if missing:
        raise InputError(
            f"No training sample is of class {missing[0]} ({len(missing)} of {program.classes} classes are missing): "
            "add some, or number the classes that there are from 0 up without gaps."
        )
    if validation is not None:
        check_samples(*validation, None, program.inputs.bounds)
        _check_classes("validation", validation[1], program.classes)


def _check_classes(which: str, labels: Tensor, classes: int) -> None:
    if int(labels.max()) >= classes:
        raise InputError(
            f"The {which} labels reach {int(labels.max())}, but the program has classes={classes}, counted from 0: "
            "number the classes from 0 up without gaps, or give the program more."
        )


def check_size(program: Program, model: nn.Module) -> None:
    """Refuse inputs of another size than the model's: they would be resized, and their border cut off.

    Raises:
        InputError: naming both sizes. A model that does not say its ``input_size`` is trusted.
    """
    wanted, made = getattr(model, "input_size", None), program.inputs.input_size
    if wanted is not None and tuple(wanted) != made:
        raise InputError(
            f"The program makes inputs of size {made}, but the model takes {tuple(wanted)} and would resize them: load "
            f"the model with image_size={made}, or give the program another size."
        )


def check_outputs(program: Program, model: nn.Module) -> None:
    """Refuse a mapping that looks for source classes where the model has none.

    Raises:
        InputError: when the model says by ``pooled = True`` that it answers with pooled features. One that does not say
            it is trusted.

    Example:
        >>> from reprog import FullImage, Linear
        >>> check_outputs(Program(FullImage(size=8), Linear(), classes=2), nn.Identity())
    """
    if getattr(model, "pooled", None) is True and getattr(program.labels, "needs_classes", False):
        raise InputError(
            f"The model answers with pooled features, but {type(program.labels).__name__} looks for classes among its "
            "outputs: use the mapping 'linear', which reads any numbers, or a model with a classification head."
        )


def check_settings(epochs: int, batch_size: int, *rates: float) -> None:
    """Refuse counts and learning rates that cannot train anything.

    Raises:
        InputError: naming the setting, its value and what is allowed.

    Example:
        >>> check_settings(-1, 32)
        Traceback (most recent call last):
        ...
        attacks.errors.InputError: epochs=-1 is too few: it must be at least 0.
    """
    if epochs < 0:
        raise InputError(f"epochs={epochs} is too few: it must be at least 0.")
    if batch_size < 1:
        raise InputError(f"batch_size={batch_size} is too small: it must be at least 1.")
    if not all(0 < rate < float("inf") for rate in rates):
        raise InputError(f"The learning rates {rates} must be finite numbers above 0.")
