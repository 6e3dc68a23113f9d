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
    universal_perturbation,
    zoo,
)
from .models import Endpoint, LoadedModel, load_model
from .robustness import Card, evaluate

__all__ = [
    "Access",
    "AttackResult",
    "BudgetError",
    "Card",
    "Endpoint",
    "EndpointError",
    "FrozenModelError",
    "InputError",
    "LoadedModel",
    "Rate",
    "RepromarkError",
    "auto_pgd",
    "auto_pgd_targeted",
    "autoattack",
    "autozoom",
    "bim",
    "carlini_wagner",
    "ddn",
    "deepfool",
    "di_fgsm",
    "evaluate",
    "fab",
    "fab_targeted",
    "fgsm",
    "fmn",
    "load_model",
    "mi_fgsm",
    "pgd",
    "run",
    "sigma_zero",
    "simba",
    "square",
    "ti_fgsm",
    "universal_perturbation",
    "zoo",
]
