"""95 % intervals, chosen by how often they cover the truth (`python -m benchmarks.coverage`).

The textbook ones fail where evaluations live: near 0 and 100 %, and with few examples. Each
function here says what it is and where it comes from; docs/statistics.md shows the table that
chose it, and what its neighbours did. None of them draws random numbers.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import optimize, stats

LEVEL = 0.95
CAUTION = 1.02  # 2.00 standard errors for 1.96: see `pair_interval`
BEYOND = 1.5  # see `difference_interval`
LARGE = 5000  # above so many examples the mean is normal enough
VARIED = 1000  # if so many of their values differ from the median
HALVINGS = 60  # of a stretch at most 2 long

Interval = tuple[float, float]


def share_interval(right: int, n: int, level: float = LEVEL) -> Interval:
    """Clopper and Pearson's exact interval of a share (scipy): never covers less than said.

    Wilson's covers 92 % at n = 50 and a rate of 2 %, Jeffreys's and the mid-P one 88 to 92 % here
    and there.
    """
    # of the p of "the share is the one seen" there is nothing to work out
    found = stats.binomtest(right, n, right / max(n, 1)).proportion_ci(level, method="exact")
    return float(found.low), float(found.high)


def pair_interval(fixed: int, broken: int, n: int, level: float = LEVEL) -> Interval:
    """Tango's score interval of the mean difference of `n` 0/1 pairs, `CAUTION` times as far out.

    Tango's own is right on average but covers only 93.2 % here and there (n = 200, 2 % of the
    pairs differ, all of them one way); this one 94.3 % there.
    """
    low_C, high_C = tango(fixed, broken, n, CAUTION * float(stats.norm.ppf((1 + level) / 2)))
    return float(low_C[0]), float(high_C[0])


def mean_interval(
    values: np.ndarray, lowest: float, highest: float, level: float = LEVEL
) -> Interval:
    """Interval of the mean of graded values, one an example: a Bayesian bootstrap.

    The values seen get Dirichlet weights (Rubin, 1981), and so does half an example at `lowest` and
    half of one at `highest`, which stand for what has not shown yet; of 0/1 scores that would make
    Jeffreys's interval. The quantiles are those of the saddlepoint approximation, not of random
    draws. Above `LARGE` values, `VARIED` of them off the median, it is the t interval. Raises
    ValueError where lowest = highest.
    """
    n = len(values)
    if lowest >= highest:
        raise ValueError(f"values between {lowest} and {highest} leave nothing to be unsure of")
    if _is_large(values):
        mean = math.fsum(values.tolist()) / n
        half = float(stats.t.ppf((1 + level) / 2, n - 1) * np.std(values, ddof=1) / math.sqrt(n))
        return max(lowest, mean - half), min(highest, mean + half)
    value_E = np.sort((values - lowest) / (highest - lowest))

    def limit(chance: float) -> float:
        def beyond(bound: float) -> float:
            return float(chance_above(value_E[None] - bound, -bound, 1 - bound)[0]) - chance

        root = optimize.root_scalar(beyond, bracket=(1e-9, 1 - 1e-9), xtol=1e-9)
        return lowest + (highest - lowest) * float(root.root)

    return limit((1 + level) / 2), limit((1 - level) / 2)


def difference_interval(
    values: np.ndarray, reach: float, level: float = LEVEL, *, unseen: float | None = None
) -> Interval:
    """`mean_interval` of differences, one an example, that could lie in [-reach, reach].

    What has not shown yet is taken to be as large as `unseen`, or else half as large again as the
    largest difference seen. n equal differences say that a share q of others, q = 1 - 0.025^(1/n),
    would have shown (Clopper and Pearson; about 3.7 / n): the interval then allows for that share
    at either extreme.
    """
    if np.ptp(values) > 0:
        end = _end(values, reach, unseen)
        return mean_interval(values, -end, end, level)
    value, share = float(values[0]), 1 - ((1 - level) / 2) ** (1 / len(values))
    return value - share * (value + reach), value + share * (reach - value)


def difference_p(values: np.ndarray, reach: float, *, unseen: float | None = None) -> float:
    """Two-sided p of "the mean is 0": 1 less the highest level whose interval leaves out 0."""
    n, mean = len(values), math.fsum(values.tolist()) / len(values)
    if np.ptp(values) == 0:
        return min(1.0, 2 * (reach / (reach + abs(mean))) ** n)
    if _is_large(values):
        return float(2 * stats.t.sf(abs(mean) / (np.std(values, ddof=1) / math.sqrt(n)), n - 1))
    end = _end(values, reach, unseen)
    above = float(chance_above(np.sort(values)[None], -end, end)[0])
    return 2 * min(above, 1 - above)


def _is_large(values: np.ndarray) -> bool:
    """Whether the mean is as good as normal: many values, and not nearly all of them equal."""
    return len(values) > LARGE and bool(np.count_nonzero(values != np.median(values)) > VARIED)


def _end(values: np.ndarray, reach: float, unseen: float | None) -> float:
    largest = float(np.abs(values).max())
    return min(reach, BEYOND * largest if unseen is None else max(unseen, largest))


def tango(
    fixed: np.ndarray | int, broken: np.ndarray | int, n: int, z: float
) -> tuple[np.ndarray, np.ndarray]:
    """Tango's score interval of the mean difference of 0/1 pairs, elementwise.

    All differences that the score test of `tango_z` does not reject at -z or z.
    """
    both = np.broadcast_arrays(np.atleast_1d(fixed), broken)
    fixed_C, broken_C = (counts.astype(float) for counts in both)
    first, second = np.concatenate([fixed_C, broken_C]), np.concatenate([broken_C, fixed_C])
    lower_C, upper_C = np.split(_lower(first, second, n, z), 2)  # the upper end, seen from b
    return lower_C, -upper_C


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


def chance_above(
    value_RE: np.ndarray, lowest: float | np.ndarray, highest: float | np.ndarray
) -> np.ndarray:
    """By row: the chance that the mean of `mean_interval` lies above 0; lowest < 0 < highest.

    That mean has the sign of a sum of gamma variates, each times its value, whose cumulant function
    is K(s) = -sum of weight log(1 - s value). Lugannani and Rice (1980), in the form r + log(u/r)/r
    of Barndorff-Nielsen.
    """
    ends = [np.broadcast_to(end, len(value_RE)) for end in (lowest, highest)]
    value_RE = np.concatenate([value_RE, np.stack(ends, axis=1)], axis=1)
    weight_E = np.array([1.0] * (value_RE.shape[1] - 2) + [0.5, 0.5])
    s_R = _saddlepoint(value_RE, weight_E)
    pull_RE = value_RE / (1 - s_R[:, None] * value_RE)
    bend_R = pull_RE**2 @ weight_E
    twice_R = 2 * np.log1p(-s_R[:, None] * value_RE) @ weight_E
    r_R = np.copysign(np.sqrt(np.maximum(twice_R, 0)), s_R)
    flat_R = np.abs(r_R) < 1e-4  # at the mean itself the formula is 0 / 0
    r_or_1_R = np.where(flat_R, 1.0, r_R)
    ratio_R = np.where(flat_R, 1.0, s_R * np.sqrt(bend_R) / r_or_1_R)
    limit_R = pull_RE**3 @ weight_E / (3 * bend_R**1.5)
    return stats.norm.sf(r_R + np.where(flat_R, limit_R, np.log(ratio_R) / r_or_1_R))


def _saddlepoint(value_RE: np.ndarray, weight_E: np.ndarray) -> np.ndarray:
    """By row, where the slope of K is 0: Newton's steps, halved where they leave what is left."""
    low_R, high_R = 1 / value_RE.min(axis=1), 1 / value_RE.max(axis=1)
    s_R = np.zeros(len(value_RE))
    for _ in range(HALVINGS):
        pull_RE = value_RE / (1 - s_R[:, None] * value_RE)
        slope_R = pull_RE @ weight_E
        low_R, high_R = np.where(slope_R < 0, s_R, low_R), np.where(slope_R > 0, s_R, high_R)
        next_R = s_R - slope_R / (pull_RE**2 @ weight_E)
        middle_R = (low_R + high_R) / 2
        next_R = np.where((next_R > low_R) & (next_R < high_R), next_R, middle_R)
        if np.all(np.abs(next_R - s_R) <= 1e-10 * (high_R - low_R)):
            break
        s_R = next_R
    return s_R
