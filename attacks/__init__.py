"""Adversarial attacks on one perturbation engine.

An attack is one call, ``pgd(model, x, labels, epsilon=8 / 255)``; ``load_model`` holds any classifier as a function of
images in [0, 1]; ``evaluate`` makes a robustness card. Methods of your own run through :func:`run`.
"""

from ._sisters import check_sisters

check_sisters("attacks")

from .engine import Access, AttackResult, Rate, run
from .errors import BudgetError, EndpointError, FrozenModelError, InputError, RepromarkError
from .evasion import (
    auto_pgd,
    auto_pgd_targeted,
    autoattack,
    autozoom,
    bim,
    carlini_wagner,
    ddn,
    deepfool,
    di_fgsm,
    embedding_neighbours,
    fab,
    fab_targeted,
    fgsm,
    fmn,
    mi_fgsm,
    pgd,
    sigma_zero,
    simba,
    square,
    ti_fgsm,
    token_substitution,
    universal_perturbation,
    waveform_auto_pgd,
    waveform_pgd,
    word_substitution,
    zoo,
)
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
    "Rate",
    "RepromarkError",
    "TextModel",
    "auto_pgd",
    "auto_pgd_targeted",
    "autoattack",
    "autozoom",
    "bim",
    "carlini_wagner",
    "ddn",
    "deepfool",
    "di_fgsm",
    "embedding_neighbours",
    "evaluate",
    "fab",
    "fab_targeted",
    "fgsm",
    "fmn",
    "load_audio_model",
    "load_model",
    "load_text_model",
    "mi_fgsm",
    "pgd",
    "read_wav",
    "run",
    "sigma_zero",
    "simba",
    "square",
    "ti_fgsm",
    "token_substitution",
    "universal_perturbation",
    "waveform_auto_pgd",
    "waveform_pgd",
    "word_substitution",
    "write_wav",
    "zoo",
]
