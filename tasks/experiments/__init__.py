"""Experiments: a recipe in YAML is a grid of settings and seeds; its cells run once each and make one table."""

from .recipe import Cell, Recipe, read_recipe
from .runner import run_recipe
from .table import Row, markdown, rows

__all__ = ["Cell", "Recipe", "Row", "markdown", "read_recipe", "rows", "run_recipe"]
