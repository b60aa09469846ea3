"""One comparison over several seeds: would another training run show the same difference?

Seeds and examples are both drawn from more than was seen, and every example is answered at every
seed. With d_is the difference of example i at seed s, the mean of all has the variance

    V = V_examples + V_seeds,   V_examples = s²(d_i.) / n,   V_seeds = s²(d_.s) / S - s²(rest) / nS

(d_i. and d_.s are means over seeds and over examples; the rest, what neither explains, is in both
of the first two and must count once; Searle, Casella and McCulloch, Variance Components, 1992).
The examples' part is taken as `compare` takes it, so that seeds which agree give what one seed
would. The seeds' part is added to it in squares, with the t quantile of S - 1 degrees of freedom
(limits of a sum recovered from the limits of its parts: Zou and Donner, 2008). p is that of the
interval: sign flips would be wrong of means over seeds against an arm that never changes, since
such differences are skewed though the arms are equally good.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import optimize, stats

from evaluation.compare import (
    Comparison,
    aligned,
    compare,
    is_binary,
    noninferiority,
    paired_interval,
    score_interval,
)
from evaluation.intervals import LEVEL, Interval, difference_p
from evaluation.significance import mcnemar


@dataclass(frozen=True)
class Estimate:
    """An arm's score over `n` examples and its seeds, `low` to `high` its 95 % interval.

    `seed_sd` is the standard deviation of the seeds' scores, NaN for one seed.
    """

    score: float
    low: float
    high: float
    n: int
    seeds: int
    seed_sd: float


def compare_seeds(
    a: Sequence[pd.Series],
    b: Sequence[pd.Series],
    *,
    margin: float | None = None,
    seed: int = 0,
    unseen: float | None = None,
) -> Comparison:
    """Arm b against arm a over the seeds both have: `a[s]` and `b[s]` are their scores at one seed.

    An arm that does not change from seed to seed is given once for each. One seed is `compare`.
    `fixed` and `broken` count examples by their mean over the seeds.

    Raises ValueError as `compare` does, and when the arms have different numbers of seeds or none.
    """
    if len(a) != len(b) or not a:
        raise ValueError(f"one arm has {len(a)} seeds, the other {len(b)}; give those both have")
    if len(a) == 1:
        return compare(a[0], b[0], margin=margin, seed=seed, unseen=unseen)
    score_SE = np.array(aligned([*a, *b]))
    a_SE, b_SE = score_SE[: len(a)], score_SE[len(a) :]
    a_E, b_E = _mean(a_SE), _mean(b_SE)
    difference_SE = (b_SE - a_SE).round(12)
    difference_E = _mean(difference_SE)
    delta = (math.fsum(b_E.tolist()) - math.fsum(a_E.tolist())) / len(a_E)
    fixed, broken = int((difference_E > 0).sum()), int((difference_E < 0).sum())
    # right and wrong answers differ by 1, though means over seeds may not have shown it
    unseen = 1.0 if is_binary(score_SE) else unseen
    examples = paired_interval(a_E, b_E, unseen=unseen)
    agree = is_binary(a_E, b_E)
    p = mcnemar(fixed, broken) if agree else difference_p(difference_E, 1.0, unseen=unseen)
    variance = seed_variance(difference_SE)

    def interval(level: float) -> Interval:
        low, high = _widened(delta, examples(level), variance, len(a), level)
        return max(-1.0, low), min(1.0, high)

    found = Comparison(
        delta,
        *interval(LEVEL),
        _p(delta, p, variance, len(a)),
        fixed,
        broken,
        len(a_E),
        seeds=len(a),
        seed_sd=_seed_sd(difference_SE),
    )
    return found if margin is None else noninferiority(found, interval, margin)


def score_seeds(scores: Sequence[pd.Series]) -> Estimate:
    """One arm's mean score over its seeds. Raises ValueError as `compare_seeds` does."""
    score_SE = np.array(aligned(scores))
    mean_E = _mean(score_SE)
    mean, seeds = math.fsum(mean_E.tolist()) / len(mean_E), len(scores)
    if seeds == 1:
        return Estimate(mean, *score_interval(mean_E), len(mean_E), 1, math.nan)
    low, high = _widened(mean, score_interval(mean_E), seed_variance(score_SE), seeds, LEVEL)
    return Estimate(mean, max(0.0, low), min(1.0, high), len(mean_E), seeds, _seed_sd(score_SE))


def seed_variance(value_SE: np.ndarray) -> float:
    """What seeds alone add to the variance of the mean of all values: V_seeds above, at least 0."""
    seeds, n = value_SE.shape
    seed_S, example_E = value_SE.mean(axis=1), value_SE.mean(axis=0)
    if n == 1:
        return float(seed_S.var(ddof=1) / seeds)
    rest_SE = value_SE - seed_S[:, None] - example_E + value_SE.mean()
    rest = (rest_SE**2).sum() / ((n - 1) * (seeds - 1))
    between = float(seed_S.var(ddof=1) / seeds - rest / (n * seeds))
    return between if between > 1e-15 else 0.0  # what is left of seeds that agree is rounding


def _mean(value_SE: np.ndarray) -> np.ndarray:
    """The mean over the first axis; a mean of equal values is that value."""
    return np.where(np.ptp(value_SE, axis=0) == 0, value_SE[0], value_SE.mean(axis=0))


def _seed_sd(value_SE: np.ndarray) -> float:
    return round(float(value_SE.mean(axis=1).std(ddof=1)), 12)


def _widened(
    mean: float, examples: Interval, variance: float, seeds: int, level: float
) -> Interval:
    reach = float(stats.t.ppf((1 + level) / 2, seeds - 1)) * math.sqrt(variance)
    low, high = examples
    return mean - math.hypot(mean - low, reach), mean + math.hypot(high - mean, reach)


def _p(delta: float, p: float, variance: float, seeds: int) -> float:
    """The examples' p, with the seeds' variance added: that of the widened interval.

    Their p stands for a delta of so many standard errors, which gives back the error; then it is
    the p at which z² error² + t² variance = delta².
    """
    if variance == 0 or p >= 1 or delta == 0:
        return p
    error = abs(delta) / float(stats.norm.isf(p / 2))

    def beyond(log_p: float) -> float:
        half = math.exp(log_p) / 2
        reach = math.hypot(
            stats.norm.isf(half) * error, stats.t.isf(half, seeds - 1) * variance**0.5
        )
        return reach - abs(delta)

    return math.exp(float(optimize.root_scalar(beyond, bracket=(-600.0, 0.0)).root))
