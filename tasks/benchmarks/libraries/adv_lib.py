"""The adversarial library, adv-lib."""

from typing import Any

from torch import Tensor

from ..methods import Case


def _attack(case: Case, name: str, **settings: Any) -> Tensor:
    import adv_lib.attacks

    return getattr(adv_lib.attacks, name)(case.model, case.x, case.labels, **settings)


def _pgd(case: Case) -> Tensor:
    return _attack(case, "pgd_linf", **{"ε": case.epsilon}, steps=case["steps"], relative_step_size=case["step"])


def _auto_pgd(case: Case) -> Tensor:
    infinite = float("inf")
    return _attack(case, "apgd", eps=case.epsilon, norm=infinite, n_iter=case["steps"], loss_function="ce")


def _carlini_wagner(case: Case) -> Tensor:
    return _attack(
        case,
        "carlini_wagner_l2",
        learning_rate=case["step_size"],
        initial_const=case["initial_c"],
        binary_search_steps=case["search_steps"],
        max_iterations=case["steps"],
    )


def _fab(case: Case) -> Tensor:
    return _attack(case, "fab", norm=float("inf"), n_iter=case["steps"], **{"ε": case.epsilon})


ATTACKS = {
    "pgd": _pgd,
    "auto_pgd": _auto_pgd,
    "carlini_wagner": _carlini_wagner,
    "deepfool": lambda case: _attack(case, "df", **case.settings),
    # Not rounded to 256 levels, which the other libraries do not do either.
    "ddn": lambda case: _attack(case, "ddn", steps=case["steps"], levels=None),
    "fmn": lambda case: _attack(case, "fmn", norm=2, **case.settings),
    "fmn_linf": lambda case: _attack(case, "fmn", norm=float("inf"), **case.settings),
    "fmn_l1": lambda case: _attack(case, "fmn", norm=1, **case.settings),
    "alma": lambda case: _attack(case, "alma", num_steps=case["steps"], distance="l2"),
    "alma_100": lambda case: _attack(case, "alma", num_steps=case["steps"], distance="l2"),
    "fab": _fab,
}
