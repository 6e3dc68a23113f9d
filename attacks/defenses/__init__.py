"""What tells attacked samples and poisoned data from clean ones."""

from .spectral import spectral_scores
from .strip import strip_entropy

__all__ = ["spectral_scores", "strip_entropy"]
