"""Families of trigger inputs, one a file; a new family is one more line in ``FAMILIES``."""

from .base import Family, TriggerSet
from .blend import BLEND
from .shapes import SHAPES

FAMILIES: dict[str, Family] = {"blend": BLEND, "shapes": SHAPES}

__all__ = ["FAMILIES", "Family", "TriggerSet"]
