"""Label mappings: how the source model's outputs become logits over the target task's classes.

Each is a frozen dataclass of settings that satisfies :class:`Mapping`; what it found travels beside it as named
tensors. ``LABELS`` names them for a saved program's ``config.json``.
"""

from .bayesian import Bayesian, BayesianPlus
from .linear import Linear
from .many_to_one import ManyToOne
from .mapping import Mapping, map_outputs, mapping_change, source_shares, strongest_sources
from .one_to_one import Frequency, Iterative, Random
from .semantic import Encoder, semantic
from .similarity import Similarity

LABELS: dict[str, type[Mapping]] = {
    "random": Random,
    "frequency": Frequency,
    "iterative": Iterative,
    "many_to_one": ManyToOne,
    "similarity": Similarity,
    "bayesian": Bayesian,
    "bayesian_plus": BayesianPlus,
    "linear": Linear,
}

__all__ = [
    "LABELS",
    "Bayesian",
    "BayesianPlus",
    "Encoder",
    "Frequency",
    "Iterative",
    "Linear",
    "ManyToOne",
    "Mapping",
    "Random",
    "Similarity",
    "map_outputs",
    "mapping_change",
    "semantic",
    "source_shares",
    "strongest_sources",
]
