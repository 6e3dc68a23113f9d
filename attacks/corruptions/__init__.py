"""Natural corruptions, the first level of a robustness card: damage that nobody intends."""

from .image import CORRUPTIONS, corrupt
from .severities import Benchmark

__all__ = ["CORRUPTIONS", "Benchmark", "corrupt"]
