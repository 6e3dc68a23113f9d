"""Model reprogramming: a frozen model, an input program and a label mapping solve another task."""

import sys

try:
    from attacks._sisters import check_sisters
except ModuleNotFoundError as error:
    if error.name not in {"attacks", "attacks._sisters"}:
        raise
    raise ImportError(
        f"reprog needs repromark's package attacks, but finds {sys.modules.get('attacks', 'nothing')} under that "
        "name: rename or remove what shadows it, start Python from another folder, or install repromark again."
    ) from error

check_sisters("reprog", needs=("attacks",))

from .augment import RandomAffine
from .backbone import Backbone
from .history import Epoch, History, accuracy
from .inputs import Frame, FullImage
from .labels import (
    Bayesian,
    BayesianPlus,
    Frequency,
    Iterative,
    Linear,
    Mapping,
    Random,
    map_outputs,
    strongest_sources,
)
from .program import Program, ReprogrammedModel
from .training import constant, cosine, fit

__all__ = [
    "Backbone",
    "Bayesian",
    "BayesianPlus",
    "Epoch",
    "Frame",
    "Frequency",
    "FullImage",
    "History",
    "Iterative",
    "Linear",
    "Mapping",
    "Program",
    "Random",
    "RandomAffine",
    "ReprogrammedModel",
    "accuracy",
    "constant",
    "cosine",
    "fit",
    "map_outputs",
    "strongest_sources",
]
