"""Adversarial attacks on one perturbation engine.

An attack is one call, ``pgd(model, x, labels, epsilon=8 / 255)``; ``load_model`` holds any classifier as a function of
images in [0, 1]; ``evaluate`` makes a robustness card. Methods of your own run through :func:`run`.
"""

from ._sisters import check_sisters

check_sisters("attacks")

from . import evasion
from .engine import (
    COMPONENTS,
    Access,
    AttackResult,
    Places,
    Rate,
    Semantic,
    Upsampled,
    coordinate,
    cross_entropy,
    dlr,
    margin,
    nes,
    rgf,
    run,
    spsa,
    spsa_gc,
)
from .errors import BudgetError, EndpointError, FrozenModelError, InputError, RepromarkError
from .evasion import *  # noqa: F403
from .models import (
    AudioModel,
    Endpoint,
    LoadedModel,
    TextModel,
    load_audio_model,
    load_model,
    load_text_model,
    read_wav,
    write_wav,
)
from .robustness import Card, evaluate

__all__ = [
    "Access",
    "AttackResult",
    "AudioModel",
    "BudgetError",
    "COMPONENTS",
    "Card",
    "Endpoint",
    "EndpointError",
    "FrozenModelError",
    "InputError",
    "LoadedModel",
    "Places",
    "Rate",
    "RepromarkError",
    "Semantic",
    "TextModel",
    "Upsampled",
    "coordinate",
    "cross_entropy",
    "dlr",
    "evaluate",
    "load_audio_model",
    "load_model",
    "load_text_model",
    "margin",
    "nes",
    "read_wav",
    "rgf",
    "run",
    "spsa",
    "spsa_gc",
    "write_wav",
]
__all__ += evasion.__all__  # a new attack is exported there alone
