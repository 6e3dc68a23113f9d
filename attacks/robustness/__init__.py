"""Robustness cards: what a model withstands, level by level, with intervals and costs."""

from .card import Card
from .cell import Cell
from .evaluation import evaluate

__all__ = ["Card", "Cell", "evaluate"]
