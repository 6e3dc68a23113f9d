"""Label mappings: how the source model's outputs become logits over the target task's classes.

Each is a frozen dataclass of settings that satisfies :class:`Mapping`; what it found travels beside it as named
tensors. ``LABELS`` names them for a saved program's ``config.json``.
"""

from .bayesian import Bayesian, BayesianPlus
from .linear import Linear
from .mapping import Mapping, map_outputs, strongest_sources
from .one_to_one import Frequency, Iterative, Random

LABELS: dict[str, type[Mapping]] = {
    "random": Random,
    "frequency": Frequency,
    "iterative": Iterative,
    "bayesian": Bayesian,
    "bayesian_plus": BayesianPlus,
    "linear": Linear,
}

__all__ = [
    "LABELS",
    "Bayesian",
    "BayesianPlus",
    "Frequency",
    "Iterative",
    "Linear",
    "Mapping",
    "Random",
    "map_outputs",
    "strongest_sources",
]
