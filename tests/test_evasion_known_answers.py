"""Every attack on models whose nearest adversarial sample is known in closed form. A new attack is one row more."""

from functools import partial
from typing import NamedTuple

import pytest

from attacks.engine.testing import check_attack
from attacks.evasion import (
    alma,
    auto_pgd,
    bim,
    boundary_projection,
    ddn,
    deepfool,
    di_fgsm,
    fab,
    fgsm,
    fmn,
    mi_fgsm,
    pgd,
    sigma_zero,
    ti_fgsm,
)

IMAGES = ((1, 4, 6), (3, 7, 7))


class Row(NamedTuple):
    """An attack with its settings, the norms in which it must come this close, and on what."""

    attack: partial
    norms: tuple[str, ...] = ("linf", "l2")
    ratio: float = 1.02
    options: dict = {}


FIXED_BUDGET = {
    "fgsm": Row(partial(fgsm)),
    "bim": Row(partial(bim)),
    "pgd": Row(partial(pgd, steps=20)),
    "mi_fgsm": Row(partial(mi_fgsm)),
    "di_fgsm": Row(partial(di_fgsm), ratio=1.1, options={"shapes": IMAGES}),
    "ti_fgsm": Row(partial(ti_fgsm, kernel_size=1), options={"shapes": IMAGES}),
    "auto_pgd": Row(partial(auto_pgd, steps=30), norms=("linf", "l2", "l1")),
}

MINIMUM_NORM = {
    "alma": Row(partial(alma, steps=200), norms=("l2",)),
    "boundary_projection": Row(partial(boundary_projection, steps=30), norms=("linf", "l2", "l1"), ratio=1.01),
    "ddn": Row(partial(ddn, steps=200), norms=("l2",), ratio=1.05),
    "deepfool": Row(partial(deepfool), ratio=1.05),
    "fab": Row(partial(fab, steps=30), norms=("linf", "l2", "l1"), ratio=1.05),
    "fmn": Row(partial(fmn, steps=100), norms=("linf", "l2", "l1", "l0"), ratio=1.05),
    "sigma_zero": Row(partial(sigma_zero, steps=100), norms=("l0",), ratio=1.05),
}

ONE_NORM = {"ddn", "sigma_zero"}
"""These have no norm to choose."""

CASES = [
    pytest.param(
        row._replace(attack=partial(row.attack, **({} if name in ONE_NORM else {"norm": norm}))),
        norm,
        minimum,
        id=f"{name}-{norm}",
    )
    for minimum, table in ((False, FIXED_BUDGET), (True, MINIMUM_NORM))
    for name, row in table.items()
    for norm in row.norms
]


@pytest.mark.parametrize(("row", "norm", "minimum"), CASES)
def test_an_attack_comes_close_to_the_optimum_and_keeps_its_books(row, norm, minimum):
    check_attack(row.attack, norm=norm, minimum=minimum, ratio=row.ratio, **row.options)
