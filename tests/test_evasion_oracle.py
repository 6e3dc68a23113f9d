"""Each attack against the figures that the field's best code reaches on one small robust network."""

import pytest

from attacks.evasion import pgd

POINT = 0.011
"""One percentage point, and what 256 images round it to."""

EPSILON = 0.15


@pytest.mark.slow
def test_pgd(attack_target):
    result = pgd(*attack_target, epsilon=EPSILON, steps=40, step_size=0.015)
    assert result.robust_rate.value == pytest.approx(0.590, abs=POINT)
