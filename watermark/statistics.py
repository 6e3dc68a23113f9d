"""The exact binomial test of ownership.

The labels of a mark are uniform over all classes and independent of the inputs and of every model that was made without
the key. So whatever such a model answers (skewed, constant, adversarial), its matches follow Binomial(n, 1 / classes)
exactly: no model of "ordinary" classifiers is needed. The p-value bounds coincidence: how often a model made without
the key would match at least as often. It says nothing of how a model that matches came by the mark.

This needs labels drawn over all classes per trigger and fixed before the suspect was seen; a target class that all
triggers share is a single draw and has no binomial p-value.
"""

import math
from itertools import count

import numpy as np
from scipy.special import logsumexp
from scipy.stats import binom

from attacks.errors import InputError


def log_p_value(matches: int, n: int, classes: int) -> float:
    """Natural logarithm of P(Binomial(n, 1 / classes) >= matches), exact also where the p-value itself underflows.

    Args:
        matches: labels that matched, 0 to ``n``.
        n: triggers asked, at least 1.
        classes: classes that the labels were drawn from, at least 2.

    Returns:
        A number of at most 0.

    Raises:
        InputError: an argument lies outside its range.

    Example:
        >>> round(log_p_value(1000, 1000, 1000) / math.log(10), 6)  # log10; the p-value is far below the smallest float
        -3000.0
    """
    if not 0 <= matches <= n or n < 1 or classes < 2:
        raise InputError(
            f"Got matches={matches}, n={n}, classes={classes}: need n >= 1, classes >= 2 and matches between 0 and n."
        )
    if matches == 0:
        return 0.0
    return min(0.0, float(logsumexp(binom.logpmf(np.arange(matches, n + 1), n, 1 / classes))))


def p_value(matches: int, n: int, classes: int) -> float:
    """P(Binomial(n, 1 / classes) >= matches); 0.0 where it is below the smallest float: see :func:`bits`.

    Args and errors are those of :func:`log_p_value`.

    Example:
        >>> f"{p_value(28, 100, 10):.2g}"
        '3.5e-07'
    """
    return math.exp(log_p_value(matches, n, classes))


def bits(matches: int, n: int, classes: int) -> float:
    """The p-value as evidence in bits, ``-log2 p``: 20 bits are about one in a million. Never underflows.

    Args and errors are those of :func:`log_p_value`.

    Example:
        >>> round(bits(100, 100, 10), 1)
        332.2
    """
    return -log_p_value(matches, n, classes) / math.log(2) + 0.0  # + 0.0 turns -0.0 into 0.0


def matches_needed(n: int, classes: int, alpha: float = 1e-6) -> int:
    """The fewest matches whose p-value lies below ``alpha``.

    Args:
        n: triggers asked, at least 1.
        classes: classes that the labels were drawn from, at least 2.
        alpha: the chance of a false claim that is accepted, in (0, 1).

    Raises:
        InputError: an argument lies outside its range, or ``n`` triggers cannot reach ``alpha`` even if all match.

    Example:
        >>> [matches_needed(100, 10, alpha) for alpha in (0.05, 1e-3, 1e-6, 1e-9)]
        [16, 21, 28, 33]
    """
    if not 0 < alpha < 1:
        raise InputError(f"Got alpha={alpha}: it is a probability between 0 and 1, for example 1e-6.")
    if log_p_value(n, n, classes) >= math.log(alpha):
        fewest = next(more for more in count(n + 1) if log_p_value(more, more, classes) < math.log(alpha))
        raise InputError(
            f"{n} triggers over {classes} classes cannot reach alpha={alpha:g}: all of them matching gives "
            f"p = {p_value(n, n, classes):.2g}. Use at least {fewest} triggers or a larger alpha."
        )
    low, high = 0, n  # log_p_value falls as matches grow: p(low) >= alpha > p(high) at all times
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if log_p_value(middle, n, classes) < math.log(alpha) else (middle, high)
    return high
