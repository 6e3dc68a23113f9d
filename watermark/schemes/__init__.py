"""Ways to get a mark into a model, one a file."""

from .finetune import embed
from .report import EmbeddingReport

__all__ = ["EmbeddingReport", "embed"]
