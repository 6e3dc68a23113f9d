"""Input programs: how a target task's samples become inputs of the frozen source model.

Each is a frozen dataclass of settings that satisfies :class:`InputProgram`; what is learned travels beside it as named
tensors. ``INPUTS`` names them for a saved program's ``config.json``.
"""

from .decoder import Decoder
from .frame import Frame
from .full_image import FullImage
from .image import Interpolation
from .low_rank import LowRank
from .patch import Patch
from .program import InputProgram, Observing
from .sample_mask import SampleMask
from .scaled_frame import ScaledFrame

INPUTS: dict[str, type[InputProgram]] = {
    "frame": Frame,
    "full_image": FullImage,
    "low_rank": LowRank,
    "sample_mask": SampleMask,
    "decoder": Decoder,
    "scaled_frame": ScaledFrame,
    "patch": Patch,
}

__all__ = [
    "Decoder",
    "Frame",
    "FullImage",
    "INPUTS",
    "InputProgram",
    "Interpolation",
    "LowRank",
    "Observing",
    "Patch",
    "SampleMask",
    "ScaledFrame",
]
