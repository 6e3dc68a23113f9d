"""Adversarial attacks on one perturbation engine.

An attack is one call, ``pgd(model, x, labels, epsilon=8 / 255)``; ``load_model`` holds any classifier as a function of
images in [0, 1]; ``evaluate`` makes a robustness card. Methods of your own run through :func:`run`.
"""

from ._sisters import check_sisters

check_sisters("attacks")

from . import evasion
from .engine import Access, AttackResult, Places, Rate, coordinate, nes, rgf, run, spsa
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
    "Card",
    "Endpoint",
    "EndpointError",
    "FrozenModelError",
    "InputError",
    "LoadedModel",
    "Places",
    "Rate",
    "RepromarkError",
    "TextModel",
    "coordinate",
    "evaluate",
    "load_audio_model",
    "load_model",
    "load_text_model",
    "nes",
    "read_wav",
    "rgf",
    "run",
    "spsa",
    "write_wav",
]
__all__ += evasion.__all__  # a new attack is exported there alone
