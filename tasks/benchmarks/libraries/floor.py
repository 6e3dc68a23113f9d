"""The floor as a library: the nominal passes of a method and nothing else. Its ratio to the floor shows the noise."""

from collections.abc import Callable

from torch import Tensor

from ..bare import both, forward
from ..methods import METHODS, Case


def _passes(forwards: int, backwards: int) -> Callable[[Case], Tensor]:
    def run(case: Case) -> Tensor:
        for _ in range(backwards):
            both(case.model, case.x, case.labels)
        for _ in range(forwards - backwards):
            forward(case.model, case.x)
        return case.x

    return run


ATTACKS = {name: _passes(*method.nominal) for name, method in METHODS.items() if method.nominal}
