"""95 % intervals, chosen by how often they cover the truth (`python -m benchmarks.coverage`).

The textbook ones fail where evaluations live: near 0 and 100 %, and with few examples. Each
function here says what it is and where it comes from; docs/statistics.md shows the table that
chose it, and what its neighbours did. None of them draws random numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import optimize, stats

LEVEL = 0.95
CAUTION = 1.02  # 2.00 standard errors for 1.96: see `pair_interval`
UNSEEN = 1 / 16  # of an example, at each end: see `difference_interval`
EXAMPLES_PER_DF = 4
LARGE = 5000  # above so many examples the mean is normal enough, whatever the scores
HALVINGS = 60  # of a stretch at most 2 long

Interval = tuple[float, float]


def share_interval(right: int, n: int, level: float = LEVEL) -> Interval:
    """Clopper and Pearson's exact interval of a share (scipy): never covers less than said.

    Wilson's covers 92 % at n = 50 and a rate of 2 %, Jeffreys's and the mid-P one 88 to 92 % here
    and there.
    """
    found = stats.binomtest(right, n).proportion_ci(level, method="exact")
    return float(found.low), float(found.high)


def pair_interval(fixed: int, broken: int, n: int, level: float = LEVEL) -> Interval:
    """Tango's score interval of the mean difference of `n` 0/1 pairs, `CAUTION` times as far out.

    Tango's own is right on average but covers only 93.2 % here and there (n = 200, 2 % of the
    pairs differ, all of them one way); this one 94.3 % there.
    """
    low_C, high_C = tango(fixed, broken, n, CAUTION * float(stats.norm.ppf((1 + level) / 2)))
    return float(low_C[0]), float(high_C[0])


def mean_interval(values: np.ndarray, level: float = LEVEL) -> Interval:
    """Interval of the mean of one arm's graded scores in [0, 1]: a Bayesian bootstrap.

    The values seen get Dirichlet weights (Rubin, 1981), and so does half an example at 0 and half
    of one at 1, which stand for the scores not seen yet. For 0/1 scores that would be Jeffreys's
    interval. The quantiles are those of Lugannani and Rice's saddlepoint approximation, not of
    random draws. Above `LARGE` values it is the t interval.
    """
    mean, n = math.fsum(values) / len(values), len(values)
    if n > LARGE:
        half = float(stats.t.ppf((1 + level) / 2, n - 1) * np.std(values, ddof=1) / math.sqrt(n))
        return max(0.0, mean - half), min(1.0, mean + half)
    value_E = np.concatenate([np.sort(values), [0.0, 1.0]])
    weight_E = np.concatenate([np.ones(n), [0.5, 0.5]])

    def limit(chance: float) -> float:
        def beyond(bound: float) -> float:
            return _chance_above(value_E - bound, weight_E) - chance

        return _root(beyond, 1e-9, 1 - 1e-9)

    return limit((1 + level) / 2), limit((1 - level) / 2)


def difference_interval(values: np.ndarray, reach: float, level: float = LEVEL) -> Interval:
    """Interval of the mean of graded differences, one an example, that lie in [-reach, reach].

    A t interval of the values and `UNSEEN` of an example at either end of the reach, with n /
    `EXAMPLES_PER_DF` degrees of freedom: a rare large difference may not have shown yet, and the
    sum of skewed values is normal later than the t interval supposes. Both matter less the more
    examples there are.

    n equal values say that a share q of others, q = 1 - 0.025^(1/n), would have shown (Clopper and
    Pearson; about 3.7 / n): the interval then allows for that share at either extreme.
    """
    n = len(values)
    if np.ptp(values) == 0:
        first, unseen = float(values[0]), 1 - ((1 - level) / 2) ** (1 / n)
        return first - unseen * (first + reach), first + unseen * (reach - first)
    total = n + 2 * UNSEEN
    mean = math.fsum(values) / total
    square = (math.fsum(values**2) + 2 * UNSEEN * reach**2) / total
    quantile = float(stats.t.ppf((1 + level) / 2, max(1.0, n / EXAMPLES_PER_DF)))
    half = quantile * math.sqrt((square - mean**2) / total)
    return max(-reach, mean - half), min(reach, mean + half)


def tango(
    fixed: np.ndarray | int, broken: np.ndarray | int, n: int, z: float
) -> tuple[np.ndarray, np.ndarray]:
    """Tango's score interval of the mean difference of 0/1 pairs, elementwise.

    All differences that the score test of `tango_z` does not reject at -z or z.
    """
    fixed_C, broken_C = np.atleast_1d(fixed).astype(float), np.atleast_1d(broken).astype(float)
    return _lower(fixed_C, broken_C, n, z), -_lower(broken_C, fixed_C, n, z)


def tango_z(fixed_C: np.ndarray, broken_C: np.ndarray, n: int, delta_C: np.ndarray) -> np.ndarray:
    """The score statistic of "the mean difference is delta" for 0/1 pairs; -1 < delta < 1.

    (fixed - broken - n delta) / sqrt(n (2 q + delta (1 - delta))), with q the most likely rate of
    broken pairs given delta. Source: Tango, Statistics in Medicine 17 (1998), 891-908.
    """
    linear_C = -fixed_C - broken_C + (2 * n - fixed_C + broken_C) * delta_C
    root_C = np.sqrt(np.maximum(linear_C**2 + 8 * n * broken_C * delta_C * (1 - delta_C), 0))
    rate_C = (root_C - linear_C) / (4 * n)
    variance_C = n * (2 * rate_C + delta_C * (1 - delta_C))
    return (fixed_C - broken_C - n * delta_C) / np.sqrt(np.maximum(variance_C, 1e-300))


def bca(values: np.ndarray, *, resamples: int = 9999, seed: int = 0) -> Interval:
    """The bias-corrected and accelerated bootstrap interval of a mean (scipy).

    No table shows it: it covers 75 to 95 % where n is 50 or a rate extreme. It is here for whoever
    must report one, and for the table of docs/statistics.md. NaN where all values are equal.
    """
    found = stats.bootstrap(
        (np.sort(values),),
        np.mean,
        n_resamples=resamples,
        batch=1000,
        confidence_level=LEVEL,
        method="BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def _lower(fixed_C: np.ndarray, broken_C: np.ndarray, n: int, z: float) -> np.ndarray:
    out_C, in_C = np.full_like(fixed_C, -1.0), (fixed_C - broken_C) / n
    for _ in range(HALVINGS):
        middle_C = (out_C + in_C) / 2
        inside_C = tango_z(fixed_C, broken_C, n, middle_C) <= z
        in_C = np.where(inside_C, middle_C, in_C)
        out_C = np.where(inside_C, out_C, middle_C)
    return in_C


def _chance_above(value_E: np.ndarray, weight_E: np.ndarray) -> float:
    """The chance that a mean of values of both signs, with Dirichlet weights, lies above 0.

    That mean has the sign of a sum of gamma variates, sum of G(weight) times value, whose cumulant
    function is K(s) = -sum of weight log(1 - s value). Lugannani and Rice (1980), in the form of
    Barndorff-Nielsen.
    """

    def slope(s: float) -> float:
        return float((weight_E * value_E / (1 - s * value_E)).sum())

    edge = 1 - 1e-10
    s = _root(slope, edge / value_E.min(), edge / value_E.max())
    pull_E = value_E / (1 - s * value_E)
    bend = float((weight_E * pull_E**2).sum())
    r = math.copysign(math.sqrt(max(0.0, 2 * (weight_E * np.log1p(-s * value_E)).sum())), s)
    if abs(r) < 1e-4:  # at the mean itself the formula is 0 / 0; this is its limit
        return float(stats.norm.sf(r + (weight_E * pull_E**3).sum() / (3 * bend**1.5)))
    return float(stats.norm.sf(r + math.log(s * math.sqrt(bend) / r) / r))


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    return float(optimize.root_scalar(function, bracket=(low, high), xtol=1e-10).root)
