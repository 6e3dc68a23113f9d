"""One way to hold any model: :func:`load_model` and what it returns."""

from .audio import AudioModel, load_audio_model, read_wav, write_wav
from .embedded import EMBEDDED
from .endpoint import Endpoint
from .load import load_model
from .loaded import LoadedModel, batched_logits, check_range
from .preprocessing import Preprocessing
from .text import TextModel, load_text_model

__all__ = [
    "AudioModel",
    "EMBEDDED",
    "Endpoint",
    "LoadedModel",
    "Preprocessing",
    "TextModel",
    "batched_logits",
    "check_range",
    "load_audio_model",
    "load_model",
    "load_text_model",
    "read_wav",
    "write_wav",
]
