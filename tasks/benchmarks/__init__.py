"""Side-by-side timings against peer libraries: see :func:`benchmark`."""

from .attacks import Benchmark, benchmark
from .networks import loadable_networks

__all__ = ["Benchmark", "benchmark", "loadable_networks"]
