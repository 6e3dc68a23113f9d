"""Every attack on models whose nearest adversarial sample is known in closed form. A new attack is one row more."""

from functools import partial
from typing import NamedTuple

import pytest

from attacks.engine.testing import check_attack
from attacks.evasion import auto_pgd, bim, di_fgsm, fgsm, mi_fgsm, pgd, ti_fgsm

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

MINIMUM_NORM: dict[str, Row] = {}

CASES = [
    pytest.param(row, norm, minimum, id=f"{name}-{norm}")
    for minimum, table in ((False, FIXED_BUDGET), (True, MINIMUM_NORM))
    for name, row in table.items()
    for norm in row.norms
]


@pytest.mark.parametrize(("row", "norm", "minimum"), CASES)
def test_an_attack_comes_close_to_the_optimum_and_keeps_its_books(row, norm, minimum):
    check_attack(partial(row.attack, norm=norm), norm=norm, minimum=minimum, ratio=row.ratio, **row.options)
