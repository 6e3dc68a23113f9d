"""The commands of the command line: each is a function whose signature and docstring make its options and its help.

Nothing here imports torch before a command runs.
"""

from collections.abc import Callable
from typing import TypeAlias

from . import attack, bench, other, reprogram, serve, watermark
from .outcome import Outcome

Tree: TypeAlias = "dict[str, Command | Group]"
Command = Callable[..., Outcome]


class Group(dict[str, Command]):
    """Commands under one word.

    Args:
        summary: what they are about.
        commands: by name.
    """

    def __init__(self, summary: str, commands: dict[str, Command]) -> None:
        super().__init__(commands)
        self.summary = summary


COMMANDS: Tree = {
    "demo": other.demo,
    "doctor": other.doctor,
    "reprogram": Group(
        "Solve a new task with a frozen model: learn an input program and a label mapping.",
        {"fit": reprogram.fit, "evaluate": reprogram.evaluate, "predict": reprogram.predict},
    ),
    "watermark": Group(
        "Put an owner's mark into a classifier, and show it again black-box.",
        {"keygen": watermark.keygen, "embed": watermark.embed, "verify": watermark.verify},
    ),
    "attack": Group("Measure what a classifier withstands.", {"evaluate": attack.evaluate}),
    "bench": Group("Time our methods and those of other libraries side by side.", {"attacks": bench.attacks}),
    "run": other.run,
    "serve": serve.serve,
}

__all__ = ["COMMANDS", "Command", "Group", "Outcome", "Tree"]
