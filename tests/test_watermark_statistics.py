"""The exact binomial test against rational arithmetic and the published table of thresholds."""

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks.errors import InputError
from watermark.statistics import bits, log_p_value, matches_needed, p_value

TABLE = {
    (30, 2): (20, 24, 28, 30),
    (100, 2): (59, 66, 74, 80),
    (30, 10): (7, 10, 14, 17),
    (100, 10): (16, 21, 28, 33),
    (100, 100): (4, 6, 9, 12),
}


def exact(matches, n, classes):
    return sum(
        math.comb(n, k) * Fraction(1, classes) ** k * Fraction(classes - 1, classes) ** (n - k)
        for k in range(matches, n + 1)
    )


@pytest.mark.parametrize(("setting", "thresholds"), TABLE.items())
def test_the_table_of_thresholds(setting, thresholds):
    assert tuple(matches_needed(*setting, alpha) for alpha in (0.05, 1e-3, 1e-6, 1e-9)) == thresholds


@given(n=st.integers(1, 60), classes=st.integers(2, 50), data=st.data())
@settings(deadline=None)
def test_p_values_equal_rational_arithmetic(n, classes, data):
    matches = data.draw(st.integers(0, n))
    assert p_value(matches, n, classes) == pytest.approx(float(exact(matches, n, classes)), rel=1e-9)


@pytest.mark.parametrize("matches", [900, 999, 1000])
def test_bits_hold_where_the_p_value_underflows(matches):
    probability = exact(matches, 1000, 1000)
    expected = math.log2(probability.denominator) - math.log2(probability.numerator)
    assert p_value(matches, 1000, 1000) == 0.0
    assert bits(matches, 1000, 1000) == pytest.approx(expected, rel=1e-12)


def test_no_match_is_no_evidence():
    assert p_value(0, 100, 10) == 1.0 and bits(0, 100, 10) == 0.0 and math.copysign(1, bits(0, 100, 10)) == 1


@given(n=st.integers(20, 300), classes=st.integers(2, 200), alpha=st.floats(1e-6, 0.5))
@settings(deadline=None)
def test_one_match_fewer_than_needed_is_too_few(n, classes, alpha):
    needed = matches_needed(n, classes, alpha)
    assert log_p_value(needed, n, classes) < math.log(alpha) <= log_p_value(needed - 1, n, classes)


def test_an_alpha_out_of_reach_is_refused_with_the_number_that_would_do():
    with pytest.raises(InputError, match="at least 20 triggers"):
        matches_needed(19, 2, 1e-6)
    # Six of six over ten classes have p = 1e-6 exactly, which is not below it.
    with pytest.raises(InputError, match="at least 7 triggers"):
        matches_needed(6, 10, 1e-6)
    assert matches_needed(7, 10, 1e-6) == 7
    assert matches_needed(20, 2, 1e-6) == 20


@pytest.mark.parametrize("arguments", [(5, 4, 10), (-1, 4, 10), (0, 0, 10), (1, 4, 1)])
def test_impossible_counts_are_refused(arguments):
    with pytest.raises(InputError, match="matches between 0 and n"):
        p_value(*arguments)


@pytest.mark.parametrize("alpha", [0.0, 1.0, float("nan")])
def test_an_alpha_that_is_no_probability_is_refused(alpha):
    with pytest.raises(InputError, match="probability"):
        matches_needed(100, 10, alpha)
