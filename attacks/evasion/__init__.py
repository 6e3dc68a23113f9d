"""Published evasion attacks, one a file, each a short function that composes parts of the engine."""

from .bim import bim
from .fgsm import fgsm
from .pgd import pgd
from .universal import universal_perturbation

__all__ = ["bim", "fgsm", "pgd", "universal_perturbation"]
