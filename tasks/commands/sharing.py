"""What several commands need: the task in the form that a model takes, and results in words."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attacks.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from attacks.models import LoadedModel
    from reprog import Program

    from ..datasets import Task


def load_classifier(model: str, task: "Task", device: str) -> "LoadedModel":
    """Load a model that classifies the task itself, without a program.

    Raises:
        InputError: the model cannot be loaded, or tells fewer classes apart than the task has.
    """
    from attacks.models import load_model

    loaded = load_model(model, device=device)
    if task.classes > loaded.classes:
        raise InputError(
            f"{model} tells {loaded.classes} classes apart, but the task {task.name} has {task.classes}: give a model "
            "that was trained on this task, or `--program` with a program that was."
        )
    return loaded


def images_for(model: "nn.Module", images: "Tensor") -> "Tensor":
    """Gray images on as many channels as the model takes; others as they are."""
    preprocessing = getattr(model, "preprocessing", None)
    channels = images.shape[1] if preprocessing is None else preprocessing.channels
    return images.expand(-1, channels, -1, -1).contiguous() if images.shape[1] == 1 else images


def load_program(program: str, device: str) -> "tuple[Program, LoadedModel]":
    """A saved program, and the model that its config names.

    Raises:
        InputError: the folder holds no program, or its model cannot be loaded.
    """
    from attacks.models import load_model
    from reprog import Program

    loaded = Program.from_pretrained(program)
    backbone = loaded.backbone
    if backbone is None or backbone.source is None or backbone.source.startswith("torch:"):
        raise InputError(
            f"The program in {program} was trained on a torch module that code made, which a command line cannot load: "
            "use Program.from_pretrained(...).attach(model) from Python."
        )
    return loaded, load_model(
        backbone.source, image_size=backbone.input_size, revision=backbone.revision, device=device
    )


def task_of(program: "Program", *, task: str | None, test: int | None, size: int | None) -> "Task":
    """The task whose test set a program is tried on: by default the one it was trained on, as it was then.

    Raises:
        InputError: no task is known, it has other classes, or more of it is asked for than was set aside in training.
    """
    from ..datasets import load_task

    known = program.training.get("task", {})
    source = known.get("source") if task is None else task
    if source is None:
        raise InputError("The program does not say which task it was trained on: give `--task`.")
    own = known.get("source") is not None and Path(source).resolve() == Path(known["source"]).resolve()
    most = known["test"] if own else 500
    if own and test is not None and test > most:
        raise InputError(
            f"{most} test samples were set aside when the program was trained, but {test} are asked for: beyond those "
            "it may have seen them. Ask for fewer."
        )
    data = load_task(
        source,
        shots=known["shots"] if own else 1,
        validation=0,
        test=most if test is None else test,
        size=known["size"] if own and size is None else size,
    )
    if data.classes != program.classes:
        raise InputError(
            f"The program tells {program.classes} classes apart, but the task {data.name} has {data.classes}: give the "
            "task it was trained on."
        )
    return data


def table(rates: Mapping[str, Any]) -> str:
    """Rates by name, one a line."""
    width = max(map(len, rates), default=0)
    return "\n".join(f"  {name.replace('_', ' '):<{width}}  {rate}" for name, rate in rates.items())
