"""The libraries that are compared: ours, its peers, and the floor; each a module of adaptors, one for each method.

An adaptor hands one case to one attack: it says the settings of :data:`~tasks.benchmarks.methods.METHODS` in the
library's own words and returns the attacked samples, shape ``[n, c, h, w]``; ours returns its whole result, whose
counts are then checked. A library is imported inside its adaptors alone, because peers are optional.
"""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module, metadata
from typing import TypeAlias

from torch import Tensor

from attacks.engine import AttackResult

from ..methods import Case

Adaptor: TypeAlias = "Callable[[Case], Tensor | AttackResult]"


@dataclass(frozen=True)
class Library:
    """A library with its adaptors.

    Attributes:
        distribution: its name for pip.
        module: what the adaptors import.
        adaptors: the module of its adaptors.
    """

    distribution: str
    module: str
    adaptors: str

    @property
    def attacks(self) -> dict[str, Adaptor]:
        """Its adaptors by the name of the method; needs no installation."""
        return import_module(self.adaptors).ATTACKS

    @property
    def version(self) -> str | None:
        """The installed one; None when it is not installed."""
        try:
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError:
            return None

    def missing(self) -> str | None:
        """Why it cannot be used here, tried in another process; None when it can."""
        if self.version is None:
            return f"{self.distribution} is not installed"
        if self.module in sys.modules:
            return None
        tried = subprocess.run([sys.executable, "-c", f"import {self.module}"], capture_output=True, text=True)
        if tried.returncode:
            return f"{self.distribution} cannot be imported ({tried.stderr.strip().splitlines()[-1]})"
        return None


OURS, FLOOR = "repromark", "floor"

LIBRARIES = {
    FLOOR: Library("torch", "torch", f"{__name__}.floor"),
    OURS: Library("repromark", "attacks", f"{__name__}.ours"),
    "foolbox": Library("foolbox", "foolbox", f"{__name__}.foolbox"),
    "torchattacks": Library("torchattacks", "torchattacks", f"{__name__}.torchattacks"),
    "adv-lib": Library("adv-lib", "adv_lib.attacks", f"{__name__}.adv_lib"),
    "art": Library("adversarial-robustness-toolbox", "art.attacks.evasion", f"{__name__}.art"),
    "pyautoattack": Library("pyautoattack", "pyautoattack", f"{__name__}.pyautoattack"),
}
"""By the name in the table; ours before its peers."""
