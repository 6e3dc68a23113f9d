"""The reference of AutoAttack, packaged as pyautoattack."""

from typing import Any

from torch import Tensor

from ..methods import Case


def _made(case: Case) -> Any:
    from pyautoattack import AutoAttack

    return AutoAttack(case.model, eps=case.epsilon, norm="Linf", seed=case.seed, device=case.x.device)


def _auto_pgd(case: Case) -> Tensor:
    attack = _made(case).apgd
    attack.loss, attack.n_iter, attack.n_restarts = "ce", case["steps"], 1
    return attack.perturb(case.x, case.labels)


def _fab(case: Case) -> Tensor:
    attack = _made(case).fab
    attack.targeted, attack.n_iter, attack.n_restarts = False, case["steps"], 1
    return attack.perturb(case.x, case.labels)


def _square(case: Case) -> Tensor:
    attack = _made(case).square
    # The schedule is stretched to the queries, as everywhere but in its own standard version.
    attack.n_queries, attack.rescale_schedule = case["steps"], True
    return attack.perturb(case.x, case.labels)


def _autoattack(case: Case) -> Tensor:
    return _made(case).run_standard_evaluation(case.x, case.labels, batch_size=len(case.x))[0]


ATTACKS = {"auto_pgd": _auto_pgd, "fab": _fab, "square": _square, "autoattack": _autoattack}
