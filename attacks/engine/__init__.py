"""The engine: asks and answers between methods and models. It knows no data set, no label mapping, no key."""

from .access import Access, Level
from .asks import Answer, Ask, Batch, Method, Objective, Parameters, View
from .chains import Component, Mixture
from .checks import check_amounts, check_classes, check_counts, check_plain_steps, check_radii, check_samples
from .colour import scale_contrast, scale_saturation, shift_brightness, shift_hue
from .constraints import NORMS, Norm, NormName, get_norm, per_sample
from .devices import device_of
from .driver import Attack, RunOptions, Stream, drive, run
from .estimation import Estimation, by_queries
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
from .patches import Places, RandomPatch
from .perturbations import Additive, Perturbation, Relative, TanhBox, Universal, as_tensor
from .regions import feasible
from .results import AttackResult
from .semantic import COMPONENTS, PixelNoise, Semantic, get_components
from .spatial import rotate
from .texts import Piece, Pieces, Spelled, Substitution, TextResult
from .waveforms import PCM16_BOUNDS, PCM16_LEVELS, Waveform, in_band, noise_ratio, signal_to_noise

__all__ = [
    "Access",
    "Additive",
    "Answer",
    "Ask",
    "Attack",
    "AttackResult",
    "Batch",
    "COMPONENTS",
    "Component",
    "Decoder",
    "Estimation",
    "Estimator",
    "Level",
    "Loss",
    "Method",
    "Mixture",
    "NORMS",
    "Norm",
    "NormName",
    "Objective",
    "PCM16_BOUNDS",
    "PCM16_LEVELS",
    "Parameters",
    "Perturbation",
    "Piece",
    "Pieces",
    "PixelNoise",
    "Places",
    "RandomPatch",
    "Rate",
    "Relative",
    "RunOptions",
    "Semantic",
    "Spelled",
    "Stream",
    "Substitution",
    "TanhBox",
    "TextResult",
    "Universal",
    "Upsampled",
    "View",
    "Waveform",
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
    "get_components",
    "get_norm",
    "in_band",
    "logits_of",
    "margin",
    "missed_or_hit",
    "nes",
    "noise_ratio",
    "on_rows",
    "per_sample",
    "rgf",
    "rotate",
    "run",
    "scale_contrast",
    "scale_saturation",
    "shift_brightness",
    "shift_hue",
    "signal_to_noise",
    "spsa",
    "spsa_gc",
    "targeted",
    "targeted_dlr",
    "tensor_hashes",
    "untargeted",
    "weights_hash",
]
