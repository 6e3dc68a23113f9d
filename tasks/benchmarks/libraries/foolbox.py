"""Foolbox."""

from typing import Any

from torch import Tensor

from ..methods import Case


def _attack(case: Case, name: str, *, radius: bool = False, **settings: Any) -> Tensor:
    import foolbox

    model = foolbox.PyTorchModel(case.model, bounds=(0, 1), device=case.x.device)
    attack = getattr(foolbox.attacks, name)(**settings)
    # Clipped to the radius where there is one, as foolbox itself judges success.
    return attack(model, case.x, case.labels, epsilons=case.epsilon if radius else None)[1]


def _pgd(case: Case) -> Tensor:
    return _attack(case, "LinfPGD", radius=True, steps=case["steps"], rel_stepsize=case["step"])


def _carlini_wagner(case: Case) -> Tensor:
    return _attack(case, "L2CarliniWagnerAttack", **_searched(case))


def _ead(case: Case) -> Tensor:
    settings = _searched(case)
    settings["initial_stepsize"] = settings.pop("stepsize")
    return _attack(case, "EADAttack", regularization=case["beta"], decision_rule="L1", **settings)


def _searched(case: Case) -> dict[str, Any]:
    return {
        "binary_search_steps": case["search_steps"],
        "steps": case["steps"],
        "stepsize": case["step_size"],
        "initial_const": case["initial_c"],
    }


ATTACKS = {
    "pgd": _pgd,
    "carlini_wagner": _carlini_wagner,
    "deepfool": lambda case: _attack(case, "L2DeepFoolAttack", **case.settings),
    "ddn": lambda case: _attack(case, "DDNAttack", **case.settings),
    "fmn": lambda case: _attack(case, "L2FMNAttack", **case.settings),
    "fmn_linf": lambda case: _attack(case, "LInfFMNAttack", **case.settings),
    "fmn_l1": lambda case: _attack(case, "L1FMNAttack", **case.settings),
    "ead": _ead,
    "hopskipjump": lambda case: _attack(case, "HopSkipJumpAttack", **case.settings),
}
