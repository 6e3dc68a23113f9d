"""One way to hold any model: :func:`load_model` and what it returns."""

from .embedded import EMBEDDED
from .endpoint import Endpoint
from .load import load_model
from .loaded import LoadedModel, batched_logits, check_range
from .preprocessing import Preprocessing

__all__ = ["EMBEDDED", "Endpoint", "LoadedModel", "Preprocessing", "batched_logits", "check_range", "load_model"]
