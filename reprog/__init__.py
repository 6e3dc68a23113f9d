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
from .inputs import Decoder, Frame, FullImage, LowRank, Patch, SampleMask, ScaledFrame
from .inspection import MappedClass, inspect_mapping, plot_mapping
from .labels import (
    Bayesian,
    BayesianPlus,
    Frequency,
    Iterative,
    Linear,
    ManyToOne,
    Mapping,
    Random,
    Similarity,
    map_outputs,
    semantic,
    strongest_sources,
)
from .program import Program, ReprogrammedModel
from .training import constant, cosine, fit

__all__ = [
    "Backbone",
    "Bayesian",
    "BayesianPlus",
    "Decoder",
    "Epoch",
    "Frame",
    "Frequency",
    "FullImage",
    "History",
    "Iterative",
    "Linear",
    "LowRank",
    "ManyToOne",
    "MappedClass",
    "Mapping",
    "Patch",
    "Program",
    "Random",
    "RandomAffine",
    "ReprogrammedModel",
    "SampleMask",
    "ScaledFrame",
    "Similarity",
    "accuracy",
    "constant",
    "cosine",
    "fit",
    "inspect_mapping",
    "map_outputs",
    "plot_mapping",
    "semantic",
    "strongest_sources",
]
