"""What several commands need: the task in the form that a model takes, and results in words."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attacks.errors import InputError

from ..progress import say

LARGEST_SIDE = 4096
"""Pixels: images beyond this size would fill the memory before anything could be said about them."""

if TYPE_CHECKING:
    from torch import Tensor, nn

    from attacks.models import LoadedModel
    from reprog import Program

    from ..datasets import Task


def need(fits: bool, option: str, value: object, allowed: str) -> None:
    """Refuse an option's value that does not fit.

    Raises:
        InputError: unless it fits.

    Example:
        >>> need(False, "steps", 0, "at least 1")
        Traceback (most recent call last):
        ...
        attacks.errors.InputError: --steps is 0, but must be at least 1.
    """
    if not fits:
        raise InputError(f"--{option} is {value}, but must be {allowed}.")


def need_rate(option: str, value: float) -> None:
    """Refuse a learning rate that cannot train anything.

    Raises:
        InputError: it is no finite number above 0.
    """
    need(0 < value < float("inf"), option, value, "a finite number above 0")


def need_side(option: str, value: int | None) -> None:
    """Refuse a side of images that is none, or far too large.

    Raises:
        InputError: it is below 1 or above :data:`LARGEST_SIDE`.
    """
    need(value is None or 1 <= value <= LARGEST_SIDE, option, value, f"1 to {LARGEST_SIDE} pixels")


def load_classifier(model: str, task: "Task", device: str) -> "LoadedModel":
    """Load a model that classifies the task itself, without a program.

    Raises:
        InputError: the model cannot be loaded, or has more or fewer classes than the task.
    """
    from attacks.models import load_model

    loaded = load_model(model, device=device)
    if loaded.classes != task.classes:
        raise InputError(
            f"{model} tells {loaded.classes} classes apart, but the task {task.name} has {task.classes}: give a model "
            "that was trained on this task. `repromark reprogram fit` makes one of other classes solve it."
        )
    return loaded


def images_for(model: "nn.Module", images: "Tensor") -> "Tensor":
    """Gray images on as many channels as the model takes; others as they are."""
    preprocessing = getattr(model, "preprocessing", None)
    channels = images.shape[1] if preprocessing is None else preprocessing.channels
    return images.expand(-1, channels, -1, -1).contiguous() if images.shape[1] == 1 else images


def load_program(program: str, device: str, *, model: str | None = None) -> "tuple[Program, LoadedModel]":
    """A saved program, and the model that it was trained on.

    Args:
        program: its folder.
        device: for the model.
        model: where the model is now; by default where the program's config says. Attaching the program checks either.

    Raises:
        InputError: the folder holds no program, or its model cannot be loaded.
    """
    from attacks.models import load_model
    from reprog import Program

    loaded = Program.from_pretrained(program)
    backbone = loaded.backbone
    assert backbone is not None  # only trained programs are saved
    if model is not None:
        return loaded, load_model(model, image_size=backbone.input_size, device=device)
    if backbone.source is None or backbone.source.startswith("torch:"):
        raise InputError(
            f"The program in {program} was trained on a torch module that code made, which a command line cannot load: "
            "use Program.from_pretrained(...).attach(model) from Python."
        )
    try:
        found = load_model(backbone.source, image_size=backbone.input_size, revision=backbone.revision, device=device)
    except InputError as error:
        raise InputError(f"{error} {_trained_on('model', backbone.source)}") from error
    return loaded, found


def _trained_on(what: str, source: str) -> str:
    return f"(The program was trained on the {what} {source}; say with `--{what}` where that is now.)"


def known_task(program: "Program") -> dict[str, Any]:
    """What a program's config says of the task that it was trained on; empty where it says nothing.

    Raises:
        InputError: it says a part only, or in another form.
    """
    known = program.training.get("task")
    if not isinstance(known, dict):
        return {}
    kinds = {"source": str, "shape": list, "shots": int | None, "test": int, "size": int | None}
    odd = [name for name, kind in kinds.items() if not isinstance(known.get(name, ...), kind)]
    if not odd and len(known["shape"]) != 3:
        odd = ["shape"]
    if odd:
        raise InputError(
            f"The program's config.json lacks a usable {' and '.join(odd)} under training, task: get a fresh copy of "
            "its folder, or fit the program again."
        )
    return known


def task_of(program: "Program", *, task: str | None, test: int | None, size: int | None) -> "Task":
    """The task whose test set a program is tried on: by default the one it was trained on, as it was then.

    Samples that the program was trained on are left out of the test set, and how many is said.

    Raises:
        InputError: no task is known, it has other classes, or the program was trained on all of its test set.
    """
    from ..datasets import Split, load_task

    known = known_task(program)
    source = known.get("source") if task is None else task
    if source is None:
        raise InputError("The program does not say which task it was trained on: give `--task`.")
    own = bool(known) and Path(source).name == Path(known["source"]).name  # wherever the data lie now
    most = known["test"] if own else 500
    try:
        data = load_task(
            source,
            shots=known["shots"] if own else 1,
            validation=0,
            test=most if test is None else test,
            size=known["size"] if own and size is None else size,
        )
    except InputError as error:
        if task is not None:
            raise
        raise InputError(f"{error} {_trained_on('task', source)}") from error
    if data.classes != program.classes:
        raise InputError(
            f"The program tells {program.classes} classes apart, but the task {data.name} has {data.classes}: give the "
            "task it was trained on."
        )
    seen = program.seen(data.test.inputs)
    if seen.all():
        raise InputError(f"The program was trained on all of the test samples of {data.name}: give it others.")
    if seen.any():
        say(f"{int(seen.sum())} of {len(seen)} test samples are left out, since the program was trained on them.")
        data = replace(data, test=Split(data.test.inputs[~seen], data.test.labels[~seen]))
    return data


def table(rates: Mapping[str, Any]) -> str:
    """Rates by name, one a line."""
    width = max(map(len, rates), default=0)
    return "\n".join(f"  {name.replace('_', ' '):<{width}}  {rate}" for name, rate in rates.items())
