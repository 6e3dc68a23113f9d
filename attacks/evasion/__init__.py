"""Published evasion attacks, one a file, each a short function that composes parts of the engine."""

from .auto_pgd import auto_pgd, auto_pgd_targeted
from .bim import bim
from .diverse_inputs import di_fgsm
from .fgsm import fgsm
from .momentum import mi_fgsm
from .pgd import pgd
from .translation_invariant import ti_fgsm
from .universal import universal_perturbation

__all__ = [
    "auto_pgd",
    "auto_pgd_targeted",
    "bim",
    "di_fgsm",
    "fgsm",
    "mi_fgsm",
    "pgd",
    "ti_fgsm",
    "universal_perturbation",
]
