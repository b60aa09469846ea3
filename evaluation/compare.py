"""Is arm b better than arm a, by how much, and could it be luck? Paired, example by example.

Both arms answered the same examples, so what varies between easy and hard ones cancels and only
the differences count. Everything here is seeded and does not depend on the order of the examples.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

RESAMPLES = 9999
LEVEL = 0.95


@dataclass(frozen=True)
class Comparison:
    """Arm b against arm a over `n` shared examples, in score units (1 is 100 points).

    `delta` is the mean of b - a, `low` to `high` its 95 % interval, `p` two-sided. `p_adjusted`
    is NaN until `adjust` has seen the whole family. `fixed` examples score higher in b than in
    a, `broken` ones lower.
    """

    delta: float
    low: float
    high: float
    p: float
    fixed: int
    broken: int
    n: int
    p_adjusted: float = math.nan

    def reversed(self) -> Comparison:
        """The same comparison told as a against b."""
        return replace(
            self,
            delta=-self.delta,
            low=-self.high,
            high=-self.low,
            fixed=self.broken,
            broken=self.fixed,
        )


@dataclass(frozen=True)
class Contrast:
    """The mean of one figure an example; `low` to `high` its 95 % interval, `p` two-sided."""

    value: float
    low: float
    high: float
    p: float
    n: int

    @property
    def sign(self) -> int:
        """1 or -1 where the whole interval lies above or below 0, else 0: it cannot be told."""
        return int(self.low > 0) - int(self.high < 0)


def scores_by_example(rows: Iterable[tuple[str, float]]) -> dict[str, float]:
    """(example id, score) rows -> the mean score of each example over its samples."""
    samples: dict[str, list[float]] = {}
    for example, score in rows:
        samples.setdefault(example, []).append(score)
    return {example: sum(scores) / len(scores) for example, scores in samples.items()}


def compare(a: Mapping[str, float], b: Mapping[str, float], *, seed: int = 0) -> Comparison:
    """Compare two arms' scores by example id (see `scores_by_example`).

    The interval is a paired percentile bootstrap (scipy): it is always defined and lies within
    the possible differences, and covered as well as BCa did on 0/1 differences. The test is
    McNemar's exact one where every score is 0 or 1 (a binomial test on fixed against broken),
    else a paired permutation test of the mean difference (scipy).

    Raises ValueError when there is no example, or when an example is in one arm only.
    """
    if a.keys() != b.keys():
        odd = min(a.keys() ^ b.keys())
        raise ValueError(
            f"the arms answered different examples ({len(a)} and {len(b)}; {odd!r} is in one "
            "only); evaluate both on the same split"
        )
    if not a:
        raise ValueError("nothing to compare: no example was answered")
    ids = sorted(a)
    a_E = np.array([a[i] for i in ids], dtype=float)
    b_E = np.array([b[i] for i in ids], dtype=float)
    difference_E = b_E - a_E
    fixed, broken = int((difference_E > 0).sum()), int((difference_E < 0).sum())
    low, high = _bootstrap(difference_E, -1.0, 1.0, seed)
    binary = _is_binary(a_E) and _is_binary(b_E)
    p = _mcnemar(fixed, broken) if binary else _permutation(a_E, b_E, seed)
    return Comparison(float(difference_E.mean()), low, high, p, fixed, broken, len(ids))


def contrast(values: Sequence[float], *, reach: float, seed: int = 0) -> Contrast:
    """Does a figure differ from 0 in the mean? `values` holds one an example, -reach to reach.

    For figures that are themselves differences of scores of one example, so that the interval and
    the test are paired: a percentile bootstrap over examples and a sign-flip permutation test
    (scipy), as for `compare`. Raises ValueError without values.
    """
    if len(values) == 0:
        raise ValueError("nothing to contrast: no example was answered")
    # sums that should be equal may differ in the last bit, which the test would take for a sign
    value_E = np.sort(np.asarray(values, dtype=float).round(12))
    low, high = _bootstrap(value_E, -reach, reach, seed)
    p = _permutation(np.zeros_like(value_E), value_E, seed)
    return Contrast(float(value_E.mean()), low, high, p, len(value_E))


def adjust(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The same comparisons with `p_adjusted`: Holm's step-down over all of them as one family.

    Holm (1979) keeps the chance of any false claim in the family below the level, whatever the
    dependence between the comparisons (statsmodels).
    """
    if not comparisons:
        return []
    adjusted = np.asarray(multipletests([c.p for c in comparisons], method="holm")[1])
    return [replace(c, p_adjusted=float(p)) for c, p in zip(comparisons, adjusted, strict=True)]


def score_interval(values: Sequence[float], *, seed: int = 0) -> tuple[float, float]:
    """95 % interval of one arm's mean score; `values` holds one score in [0, 1] an example.

    Wilson's interval for 0/1 scores (statsmodels), a percentile bootstrap (scipy) for others.
    Raises ValueError without values.
    """
    if len(values) == 0:
        raise ValueError("no score, no interval")
    value_E = np.sort(np.asarray(values, dtype=float))
    if not _is_binary(value_E):
        return _bootstrap(value_E, 0.0, 1.0, seed)
    low, high = proportion_confint(
        int(value_E.sum()), len(value_E), alpha=1 - LEVEL, method="wilson"
    )
    return float(low), float(high)


def _is_binary(value_E: np.ndarray) -> bool:
    return bool(np.isin(value_E, (0.0, 1.0)).all())


def _bootstrap(
    value_E: np.ndarray, lowest: float, highest: float, seed: int
) -> tuple[float, float]:
    """Percentile interval of the mean of values that can lie between `lowest` and `highest`.

    Resampling equal values would claim certainty. What n equal ones do tell is that a share q
    of other values, q = 1 - 0.025^(1/n), would have shown (Clopper-Pearson; about 3.7 / n): the
    interval then allows for that share at either extreme.
    """
    first = float(value_E[0])
    if np.ptp(value_E) < 1e-12:  # differences of equal scores may differ in the last bit
        unseen = 1 - ((1 - LEVEL) / 2) ** (1 / len(value_E))
        return first - unseen * (first - lowest), first + unseen * (highest - first)
    interval = stats.bootstrap(
        (value_E,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=1000,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def _mcnemar(fixed: int, broken: int) -> float:
    if fixed + broken == 0:
        return 1.0
    return float(stats.binomtest(fixed, fixed + broken, 0.5).pvalue)


def _permutation(a_E: np.ndarray, b_E: np.ndarray, seed: int) -> float:
    if len(a_E) == 1:
        return 1.0  # one difference has two signs, both as extreme; scipy wants two examples
    result = stats.permutation_test(
        (b_E, a_E),
        lambda b, a, axis: np.mean(b - a, axis=axis),
        permutation_type="samples",
        n_resamples=RESAMPLES,
        batch=1000,
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)
