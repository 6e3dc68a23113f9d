"""The Adversarial Robustness Toolbox. Its AutoAttack has other parts than the reference and is not compared."""

import math
from typing import Any

import torch
from torch import Tensor

from ..methods import Case


def _attack(case: Case, name: str, *, batched: bool = True, **settings: Any) -> Tensor:
    import art.attacks.evasion
    from art.estimators.classification import PyTorchClassifier

    with torch.no_grad():
        classes = case.model(case.x[:1]).shape[1]
    classifier = PyTorchClassifier(
        case.model,
        loss=torch.nn.CrossEntropyLoss(),
        input_shape=tuple(case.x.shape[1:]),
        nb_classes=classes,
        clip_values=(0.0, 1.0),
        device_type=case.x.device.type,
    )
    # All samples in one batch, the fastest it offers: by default most of its attacks take them one by one.
    more = {"batch_size": len(case.x)} if batched else {}
    attack = getattr(art.attacks.evasion, name)(classifier, verbose=False, **more, **settings)
    return torch.as_tensor(attack.generate(case.x.cpu().numpy(), case.labels.cpu().numpy()), device=case.x.device)


def _pgd(case: Case) -> Tensor:
    settings = {"eps": case.epsilon, "eps_step": case["step"] * case.epsilon, "max_iter": case["steps"]}
    return _attack(case, "ProjectedGradientDescentPyTorch", num_random_init=1, **settings)


def _auto_pgd(case: Case) -> Tensor:
    settings = {"eps": case.epsilon, "eps_step": 2 * case.epsilon, "max_iter": case["steps"]}
    name = "AutoProjectedGradientDescent"
    return _attack(case, name, nb_random_init=1, loss_type="cross_entropy", **settings)


def _searched(case: Case) -> dict[str, Any]:
    return {
        "binary_search_steps": case["search_steps"],
        "max_iter": case["steps"],
        "learning_rate": case["step_size"],
        "initial_const": case["initial_c"],
    }


def _deepfool(case: Case) -> Tensor:
    return _attack(case, "DeepFool", max_iter=case["steps"], epsilon=case["overshoot"])


def _ead(case: Case) -> Tensor:
    return _attack(case, "ElasticNet", beta=case["beta"], decision_rule="L1", **_searched(case))


def _square(case: Case) -> Tensor:
    return _attack(case, "SquareAttack", norm=math.inf, eps=case.epsilon, max_iter=case["steps"])


def _caa(case: Case) -> Tensor:
    return _attack(
        case,
        "CompositeAdversarialAttackPyTorch",
        max_iter=case["rounds"],
        max_inner_iter=case["steps"],
    )


ATTACKS = {
    "pgd": _pgd,
    "auto_pgd": _auto_pgd,
    "carlini_wagner": lambda case: _attack(case, "CarliniL2Method", **_searched(case)),
    "deepfool": _deepfool,
    "ead": _ead,
    "square": _square,
    "hopskipjump": lambda case: _attack(case, "HopSkipJump", norm=2, max_iter=case["steps"]),
    "caa": _caa,
}
