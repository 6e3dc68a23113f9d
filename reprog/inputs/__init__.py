"""Input programs: how a target task's samples become inputs of the frozen source model.

Each is a frozen dataclass of settings that satisfies :class:`InputProgram`; what is learned travels beside it as named
tensors. ``INPUTS`` names them for a saved program's ``config.json``.
"""

from .image import Frame, FullImage, Interpolation
from .program import InputProgram

INPUTS: dict[str, type[InputProgram]] = {"frame": Frame, "full_image": FullImage}

__all__ = ["INPUTS", "Frame", "FullImage", "InputProgram", "Interpolation"]
