"""Our own attacks."""

import inspect
from collections.abc import Callable
from typing import Any

from attacks import evasion
from attacks.engine import AttackResult

from ..methods import Case


def _ours(name: str, **more: Any) -> Callable[[Case], AttackResult]:
    """An adaptor of one of our functions, which is told the radius where it takes one, and ``more`` settings."""

    def attack(case: Case) -> AttackResult:
        function = getattr(evasion, name)
        settings = {key: value for key, value in case.settings.items() if key != "step"} | more
        if "epsilon" in inspect.signature(function).parameters:
            settings["epsilon"] = case.epsilon
        if "step" in case.settings:
            settings["step_size"] = case["step"] * case.epsilon
        return function(case.model, case.x, case.labels, seed=case.seed, **settings)

    return attack


FUNCTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "pgd": ("pgd", {}),
    "auto_pgd": ("auto_pgd", {}),
    "carlini_wagner": ("carlini_wagner", {"norm": "l2"}),
    "deepfool": ("deepfool", {"norm": "l2"}),
    "ddn": ("ddn", {}),
    "fmn": ("fmn", {"norm": "l2"}),
    "fmn_linf": ("fmn", {"norm": "linf"}),
    "fmn_l1": ("fmn", {"norm": "l1"}),
    "alma": ("alma", {"norm": "l2"}),
    "alma_100": ("alma", {"norm": "l2"}),
    "boundary_projection": ("boundary_projection", {"norm": "l2"}),
    "ead": ("ead", {"decision_rule": "l1"}),
    "fab": ("fab", {"norm": "linf"}),
    "square": ("square", {}),
    "hopskipjump": ("hopskipjump", {"norm": "l2"}),
    "caa": ("caa", {}),
    "autoattack": ("autoattack", {}),
    "autoattack_fast": ("autoattack", {}),
}
"""For each method the function, and what it is told beside the settings of the method."""

ATTACKS = {
    name: _ours(function, **more)
    for name, (function, more) in FUNCTIONS.items()
    if callable(getattr(evasion, function, None))
}
