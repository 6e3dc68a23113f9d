"""Evasion attacks, one a file, each a short function that composes parts of the engine."""

from .alma import alma
from .auto_pgd import auto_pgd, auto_pgd_targeted
from .autoattack import autoattack
from .autozoom import autozoom
from .bim import bim
from .boundary import boundary
from .boundary_projection import boundary_projection
from .caa import caa
from .carlini_wagner import carlini_wagner
from .ddn import ddn
from .deepfool import deepfool
from .diverse_inputs import di_fgsm
from .ead import ead
from .fab import fab, fab_targeted
from .fgsm import fgsm
from .fmn import fmn
from .geoda import geoda
from .hopskipjump import hopskipjump
from .jsma import jsma
from .momentum import mi_fgsm
from .patch import Patch, adversarial_patch
from .pgd import pgd
from .rays import rays
from .semantic import semantic
from .sigma_zero import sigma_zero
from .sign_opt import sign_opt
from .simba import simba
from .square import square
from .tokens import token_substitution
from .translation_invariant import ti_fgsm
from .universal import universal_perturbation
from .universal_deepfool import universal_deepfool
from .waveform import waveform_auto_pgd, waveform_pgd
from .words import embedding_neighbours, word_substitution
from .zoo import zoo

__all__ = [
    "Patch",
    "adversarial_patch",
    "alma",
    "auto_pgd",
    "auto_pgd_targeted",
    "autoattack",
    "autozoom",
    "bim",
    "boundary",
    "boundary_projection",
    "caa",
    "carlini_wagner",
    "ddn",
    "deepfool",
    "di_fgsm",
    "ead",
    "embedding_neighbours",
    "fab",
    "fab_targeted",
    "fgsm",
    "fmn",
    "geoda",
    "hopskipjump",
    "jsma",
    "mi_fgsm",
    "pgd",
    "rays",
    "semantic",
    "sigma_zero",
    "sign_opt",
    "simba",
    "square",
    "ti_fgsm",
    "token_substitution",
    "universal_deepfool",
    "universal_perturbation",
    "waveform_auto_pgd",
    "waveform_pgd",
    "word_substitution",
    "zoo",
]
