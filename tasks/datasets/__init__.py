"""Target tasks: few labelled samples to learn from, and a fixed test set to be judged on."""

from .images import read_image
from .load import load_task
from .task import Split, Task

__all__ = ["Split", "Task", "load_task", "read_image"]
