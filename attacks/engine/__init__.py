"""The engine: asks and answers between methods and models. It knows no data set, no label mapping, no key."""

from .access import Access, Level
from .asks import Answer, Ask, Batch, Method, Objective, Parameters, View
from .checks import check_amounts, check_classes, check_counts, check_plain_steps, check_radii, check_samples
from .constraints import NORMS, Norm, NormName, get_norm, per_sample
from .devices import device_of
from .driver import Attack, RunOptions, Stream, drive, run
from .estimation import by_queries
from .estimators import Decoder, Estimator, Upsampled, coordinate, nes, rgf, spsa, spsa_gc
from .evaluation import evaluate, logits_of
from .frozen import frozen, tensor_hashes, weights_hash
from .measures import Rate
from .nesting import on_rows
from .objectives import (
    Loss,
    away_or_towards,
    cross_entropy,
    dlr,
    margin,
    missed_or_hit,
    targeted,
    targeted_dlr,
    untargeted,
)
from .perturbations import Additive, Perturbation, TanhBox, Universal, as_tensor
from .regions import feasible
from .results import AttackResult

__all__ = [
    "Access",
    "Additive",
    "Answer",
    "Ask",
    "Attack",
    "AttackResult",
    "Batch",
    "Decoder",
    "Estimator",
    "Level",
    "Loss",
    "Method",
    "NORMS",
    "Norm",
    "NormName",
    "Objective",
    "Parameters",
    "Perturbation",
    "Rate",
    "RunOptions",
    "Stream",
    "TanhBox",
    "Universal",
    "Upsampled",
    "View",
    "as_tensor",
    "away_or_towards",
    "by_queries",
    "check_amounts",
    "check_classes",
    "check_counts",
    "check_plain_steps",
    "check_radii",
    "check_samples",
    "coordinate",
    "cross_entropy",
    "device_of",
    "dlr",
    "drive",
    "evaluate",
    "feasible",
    "frozen",
    "get_norm",
    "logits_of",
    "margin",
    "missed_or_hit",
    "nes",
    "on_rows",
    "per_sample",
    "rgf",
    "run",
    "spsa",
    "spsa_gc",
    "targeted",
    "targeted_dlr",
    "tensor_hashes",
    "untargeted",
    "weights_hash",
]
