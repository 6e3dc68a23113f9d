"""Torchattacks. Its AutoAttack runs every part with 10 steps instead of 100, which no setting changes."""

from typing import Any

from torch import Tensor

from ..methods import Case


def _attack(case: Case, name: str, **settings: Any) -> Tensor:
    import torchattacks

    return getattr(torchattacks, name)(case.model, **settings)(case.x, case.labels)


def _pgd(case: Case) -> Tensor:
    return _attack(case, "PGD", eps=case.epsilon, alpha=case["step"] * case.epsilon, steps=case["steps"])


def _carlini_wagner(case: Case) -> Tensor:
    # Searches no constant, so one round with the constant at which it stands by default.
    return _attack(case, "CW", c=1, steps=case["steps"], lr=case["step_size"])


def _ead(case: Case) -> Tensor:
    return _attack(
        case,
        "EADL1",
        lr=case["step_size"],
        binary_search_steps=case["search_steps"],
        max_iterations=case["steps"],
        initial_const=case["initial_c"],
        beta=case["beta"],
    )


ATTACKS = {
    "pgd": _pgd,
    "auto_pgd": lambda case: _attack(case, "APGD", eps=case.epsilon, steps=case["steps"], seed=case.seed),
    "carlini_wagner": _carlini_wagner,
    "deepfool": lambda case: _attack(case, "DeepFool", **case.settings),
    "ead": _ead,
    "fab": lambda case: _attack(case, "FAB", eps=case.epsilon, steps=case["steps"], seed=case.seed),
    "square": lambda case: _attack(case, "Square", eps=case.epsilon, n_queries=case["steps"], seed=case.seed),
    "autoattack": lambda case: _attack(case, "AutoAttack", eps=case.epsilon, seed=case.seed),
}
