"""Is arm b better than arm a, by how much, and could it be luck? Paired, example by example.

Both arms answered the same examples, so what varies between easy and hard ones cancels and only
the differences count. Everything here is seeded and does not depend on the order of the examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd

from evaluation.exact import holm
from evaluation.intervals import (
    LEVEL,
    Interval,
    difference_interval,
    difference_p,
    mean_interval,
    pair_interval,
    share_interval,
)
from evaluation.significance import mcnemar, sign_flip


@dataclass(frozen=True)
class Comparison:
    """Arm b against arm a over `n` shared examples, in score units (1 is 100 points).

    `delta` is the mean of b - a, `low` to `high` its 95 % interval, `p` two-sided. `p_adjusted`
    is NaN until `adjust` has seen the whole family. `fixed` examples score higher in b than in
    a, `broken` ones lower. With several `seeds` (`evaluation.seeds`) scores are means over them,
    and `seed_sd` is the standard deviation of the seeds' deltas, NaN for one seed. With a `margin`,
    `p_noninferior` is the one-sided p of "b is worse than a by the margin or more".
    """

    delta: float
    low: float
    high: float
    p: float
    fixed: int
    broken: int
    n: int
    p_adjusted: float = math.nan
    seeds: int = 1
    seed_sd: float = math.nan
    margin: float | None = None
    p_noninferior: float = math.nan

    def reversed(self) -> Comparison:
        """The same comparison told as a against b, without a margin."""
        return replace(
            self,
            margin=None,
            p_noninferior=math.nan,
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


def compare(
    a: pd.Series,
    b: pd.Series,
    *,
    margin: float | None = None,
    seed: int = 0,
    unseen: float | None = None,
) -> Comparison:
    """Compare two arms; each has the mean score of an example over its samples, by example id.

    Where every score is 0 or 1, the interval is Tango's score interval (`intervals.pair_interval`)
    and the test McNemar's exact one, a binomial test on fixed against broken; else they are
    `intervals.difference_interval` and the larger p of a sign-flip permutation test of the mean
    difference and of that interval: sign flips alone are wrong of an arm that always answers the
    same against one that varies. `unseen` is how large a difference may not have shown yet: write
    1 where scores are means over samples that are each right or wrong. With a `margin`, is b worse
    than a by less than that? See `noninferiority`.

    Raises ValueError when there is no example, when an example is in one arm only, when one is
    in an arm twice, and when the margin is not between 0 and 1.
    """
    a_E, b_E = aligned([a, b])
    difference_E = (b_E - a_E).round(12)  # equal differences may differ in the last bit
    fixed, broken, n = int((difference_E > 0).sum()), int((difference_E < 0).sum()), len(a_E)
    interval = paired_interval(a_E, b_E, unseen=unseen)
    if is_binary(a_E, b_E):
        p = mcnemar(fixed, broken)
    else:
        own = difference_p(difference_E, 1.0, unseen=unseen)
        p = max(sign_flip(difference_E, seed), own)
    delta = (math.fsum(b_E.tolist()) - math.fsum(a_E.tolist())) / n
    found = Comparison(delta, *interval(LEVEL), p, fixed, broken, n)
    return found if margin is None else noninferiority(found, interval, margin)


def paired_interval(
    a_E: np.ndarray, b_E: np.ndarray, *, unseen: float | None = None
) -> Callable[[float], Interval]:
    """The interval of the mean of b - a at any level, as `compare` chooses it.

    `unseen` is how large a difference may not have shown yet (`intervals.difference_interval`).
    """
    difference_E = (b_E - a_E).round(12)
    if is_binary(a_E, b_E):
        fixed, broken = int((difference_E > 0).sum()), int((difference_E < 0).sum())
        return partial(pair_interval, fixed, broken, len(a_E))
    return partial(difference_interval, difference_E, 1.0, unseen=unseen)


def noninferiority(
    found: Comparison, interval: Callable[[float], Interval], margin: float
) -> Comparison:
    """The same comparison with `margin` and the one-sided p of "b is worse than a by the margin".

    It is below 0.025 where the lower end of the 95 % interval lies above -margin: p is found by
    inverting the interval. Not adjusted. Raises ValueError when the margin is not between 0 and 1.
    """
    if not 0 < margin < 1:
        raise ValueError(f"margin {margin} is no difference of scores; write one between 0 and 1")
    without, within = 0.0, 1.0  # levels whose interval leaves -margin out, or holds it
    for _ in range(30):
        level = (without + within) / 2
        low, high = interval(level)
        without, within = (without, level) if low <= -margin <= high else (level, within)
    p = (1 - without) / 2 if found.delta > -margin else (1 + without) / 2
    return replace(found, margin=margin, p_noninferior=p)


def contrast(values: np.ndarray, *, reach: float, seed: int = 0) -> Contrast:
    """Does a figure differ from 0 in the mean? `values` holds one an example, -reach to reach.

    For figures that are themselves differences of scores of one example, so that the interval and
    the test are paired, as for graded scores in `compare`. Raises ValueError without values.
    """
    if len(values) == 0:
        raise ValueError("nothing to contrast: no example was answered")
    value_E = np.asarray(values, dtype=float).round(12)
    low, high = difference_interval(value_E, reach)
    p = sign_flip(value_E, seed)
    return Contrast(math.fsum(value_E) / len(value_E), low, high, p, len(value_E))


def adjust(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The same comparisons with `p_adjusted`: Holm's step-down over all of them as one family.

    Holm (1979) keeps the chance of any false claim in the family below the level, whatever the
    dependence between the comparisons (`evaluation.exact.holm`).
    """
    adjusted = holm([found.p for found in comparisons])
    return [replace(c, p_adjusted=p) for c, p in zip(comparisons, adjusted, strict=True)]


def score_interval(values: Sequence[float] | np.ndarray | pd.Series) -> tuple[float, float]:
    """95 % interval of one arm's mean score; `values` holds one score in [0, 1] an example.

    Clopper and Pearson's for 0/1 scores (`intervals.share_interval`), `intervals.mean_interval` for
    others. Raises ValueError without values.
    """
    if len(values) == 0:
        raise ValueError("no score, no interval")
    value_E = np.asarray(values, dtype=float)
    if is_binary(value_E):
        return share_interval(int(value_E.sum()), len(value_E))
    return mean_interval(value_E, 0.0, 1.0)


def aligned(arms: Sequence[pd.Series]) -> list[np.ndarray]:
    """The scores of several arms over the same examples, in the order of the first one's.

    Raises ValueError as `compare` does.
    """
    first = arms[0].index
    if len(first) == 0:
        raise ValueError("nothing to compare: no example was answered")
    _check_once(first)
    return [arm.to_numpy(dtype=float)[_positions(first, arm.index)] for arm in arms]


def _check_once(ids: pd.Index) -> None:
    if ids.has_duplicates:
        twice = ids[ids.duplicated()][0]
        raise ValueError(f"{twice!r} is in an arm twice; average the samples of an example")


def _positions(first: pd.Index, ids: pd.Index) -> np.ndarray | slice:
    """Where each of the `first` ids is among `ids`; both hold the same ones once."""
    if ids.equals(first):
        return slice(None)
    _check_once(ids)
    where = ids.astype(object).get_indexer(first.astype(object))  # arrow's strings are slow here
    if len(ids) == len(first) and (where >= 0).all():
        return where
    odd = min(first.symmetric_difference(ids))
    raise ValueError(
        f"the arms answered different examples ({len(first)} and {len(ids)}; {odd!r} is in one "
        "only); evaluate both on the same split"
    )


def is_binary(*arms: np.ndarray) -> bool:
    return all(bool(((value_E == 0) | (value_E == 1)).all()) for value_E in arms)
