"""Rates against the interval's formula and its coverage."""

from math import sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks.engine import Rate
from attacks.errors import InputError


@given(n=st.integers(1, 2000), data=st.data())
@settings(deadline=None)
def test_the_interval_is_wilsons(n, data):
    k = data.draw(st.integers(0, n))
    z, p = 1.959963984540054, k / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert Rate(k, n).interval == pytest.approx((centre - half, centre + half), abs=1e-9)
    assert 0 <= Rate(k, n).interval[0] <= p <= Rate(k, n).interval[1] <= 1


def test_the_interval_covers_the_truth_about_19_times_in_20():
    draws = np.random.default_rng(0).binomial(80, 0.3, size=2000)
    covered = np.mean([Rate(int(k), 80).interval[0] <= 0.3 <= Rate(int(k), 80).interval[1] for k in draws])
    assert 0.93 <= covered <= 0.97


def test_a_rate_survives_json_and_reads_well():
    rate = Rate.of(torch.tensor([[True, False], [True, True]]))
    assert Rate.from_dict(rate.to_dict()) == rate == Rate(3, 4)
    assert str(rate) == "0.750 [0.301, 0.954] n=4"
    assert set(rate.to_dict()) == {"value", "low", "high", "successes", "n"}


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_rates_that_cannot_be_are_refused(successes, n):
    with pytest.raises(InputError, match="cannot be"):
        Rate(successes, n)
