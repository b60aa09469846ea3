"""Could the difference be luck? Two-sided tests of paired differences, whatever their order."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

FLIPS = 9999
EXACT = 13  # up to 2^13 = 8,192 ways to set the signs, all are tried
TINY = 1e-290  # numbers near the smallest there are keep few digits, and scipy's search shows it
LARGE = 1000  # more differences than this: their sum is normal to three digits of p


def mcnemar(fixed: int, broken: int) -> float:
    """McNemar's exact test: of the pairs that differ, as many go either way by chance.

    scipy's `binomtest` looks for the other tail, which is known to be the mirror's here, and counts
    as equal what differs by 1e-7: of 20 million pairs its p is 1 where this one is 0.9998.
    """
    fewer, n = min(fixed, broken), fixed + broken
    if fixed == broken:
        return 1.0
    p = float(stats.binom.cdf(fewer, n, 0.5) + stats.binom.sf(n - fewer - 1, n, 0.5))
    if p < TINY:
        return float(stats.binomtest(fixed, n, 0.5).pvalue)
    return min(1.0, p)


def sign_flip(values: np.ndarray, seed: int = 0) -> float:
    """Permutation test of "each value could as well have the other sign", for the mean.

    All ways to set the signs of up to `EXACT` values other than 0; `FLIPS` random ones of more,
    the one observed counted among them (Phipson and Smyth, 2010); above `LARGE` values the normal
    law those sums follow. Equal to scipy's `permutation_test` of paired samples.
    """
    size_E = np.abs(values[values != 0])
    if (n := len(size_E)) == 0:
        return 1.0
    observed = abs(math.fsum(values.tolist()))
    if n > LARGE:
        return float(2 * stats.norm.sf(observed / math.sqrt(math.fsum((size_E**2).tolist()))))
    size_E.sort()  # so that it is blind to which arm is called a
    enough = observed - 1e-9 * size_E.sum()  # sums that should be equal differ in the last bit
    if n <= EXACT:
        bits_WE = np.arange(2**n)[:, None] >> np.arange(n) & 1
        return float(np.mean(np.abs(_sums(bits_WE, size_E)) >= enough))
    rng = np.random.default_rng(seed)
    hits = 0
    for start in range(0, FLIPS, 1000):
        rows = min(1000, FLIPS - start)
        bits_WE = rng.integers(0, 2, (rows, n), dtype=np.int8)
        hits += int((np.abs(_sums(bits_WE, size_E)) >= enough).sum())
    return (1 + hits) / (1 + FLIPS)


def _sums(bits_WE: np.ndarray, size_E: np.ndarray) -> np.ndarray:
    """The sum of the sizes, each with the sign its bit says, one a row."""
    return 2 * (bits_WE @ size_E) - size_E.sum()
