"""Before the run: what difference can this many examples show, and how many does one need?

Power is the chance that `compare` finds a true difference. For 0/1 scores it is that of McNemar's
exact test, summed over all outcomes: the usual formula promises more than the test keeps. For
graded scores it is that of the paired t test, which the permutation test follows closely. The
level may be shared among several comparisons, as Holm's first step does it (Bonferroni), so that
the power among others is at least what is said here. One seed; seeds that differ need more.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import stats

ALPHA = 0.05
POWER = 0.8
MOST = 2_000_000  # examples


def discordance(rate: float, difference: float, correlation: float = 0.0) -> tuple[float, float]:
    """(fixed, broken): the rates of pairs that differ, for a baseline right at `rate`.

    `correlation` is that of right and wrong between the arms, example by example: 0 where they have
    nothing in common, the worst case worth planning for. Raises ValueError where a rate leaves
    0 to 1.
    """
    other = rate + difference
    if not (0 <= rate <= 1 and 0 <= other <= 1):
        raise ValueError(
            f"a baseline at {100 * rate:g} % cannot change by {100 * difference:+g} points; "
            "scores stay between 0 and 100 %"
        )
    both = rate * other + correlation * math.sqrt(rate * (1 - rate) * other * (1 - other))
    both = min(max(both, 0.0, rate + other - 1), rate, other)
    return other - both, rate - both


def mcnemar_power(n: int, fixed: float, broken: float, alpha: float = ALPHA) -> float:
    """The chance that McNemar's exact test of `n` pairs gives p <= alpha.

    `fixed` and `broken` are the rates of pairs that differ. Exact: the number m of pairs that
    differ is binomial, and so are the fixed ones among them.
    """
    differ = fixed + broken
    if differ <= 0:
        return 0.0
    low, high = stats.binom.ppf([1e-9, 1 - 1e-9], n, differ).astype(int)
    m_M = np.arange(low, high + 1)
    most_M = critical(m_M, alpha)  # p <= alpha where at most so many go one way
    share = fixed / differ
    found_M = stats.binom.cdf(most_M, m_M, share) + stats.binom.cdf(most_M, m_M, 1 - share)
    return float((stats.binom.pmf(m_M, n, differ) * found_M).sum())


def critical(m_M: np.ndarray, alpha: float) -> np.ndarray:
    """The most of m coin tosses that may fall one way for an exact two-sided p <= alpha; or -1."""
    most_M = stats.binom.ppf(alpha / 2, m_M, 0.5).astype(int)
    return np.where(stats.binom.cdf(most_M, m_M, 0.5) <= alpha / 2, most_M, most_M - 1)


def t_power(n: int, difference: float, sd: float, alpha: float = ALPHA) -> float:
    """The power of the paired t test of `n` examples whose differences have the standard deviation
    `sd`: a noncentral t (scipy)."""
    if n < 2 or sd <= 0:
        return float(n >= 2 and difference != 0)
    shift, edge = abs(difference) / sd * math.sqrt(n), stats.t.isf(alpha / 2, n - 1)
    return float(stats.nct.sf(edge, n - 1, shift) + stats.nct.cdf(-edge, n - 1, shift))


def smallest_difference(power_of: Callable[[float], float], most: float, power: float) -> float:
    """The smallest difference that `power_of` sees with `power`; NaN where not even `most` is.

    Read off a grid of 200 steps, so that the saw teeth of an exact test do not matter, and refined.
    """
    steps = np.linspace(most / 200, most, 200)
    for index, step in enumerate(steps):
        if power_of(float(step)) >= power:
            low, high = (float(steps[index - 1]) if index else 0.0), float(step)
            for _ in range(12):
                middle = (low + high) / 2
                low, high = (low, middle) if power_of(middle) >= power else (middle, high)
            return high
    return math.nan


def needed_examples(power_of: Callable[[int], float], power: float) -> int:
    """The number of examples from which on `power_of` has `power`; raises ValueError above `MOST`.

    An exact test loses a little power here and there as n grows; the 20 next larger numbers are
    looked at too.
    """
    low, high = 1, 2
    while power_of(high) < power:
        low, high = high, 2 * high
        if high > MOST:
            raise ValueError(f"no {MOST:,} examples would show so small a difference")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(middle) >= power else (middle, high)
    while short := [n for n in range(high, high + 21) if power_of(n) < power]:
        high = short[-1] + 1
    return high
