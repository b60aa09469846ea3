"""Stop early: is arm b clearly worse already, however often one looks?

A p or an interval that is looked at after every example is wrong sooner or later. A confidence
sequence is not: with a chance of 1 - alpha the true mean lies in all of its intervals at once
(Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 2024).
To test "the mean is m or more" one bets against it, a share of one's capital on every difference;
were it true, nobody could expect to gain, and by Ville's inequality the capital reaches 1 / alpha
with a chance of at most alpha. The capital here is spread over several shares to bet, which needs
no guess of how the differences vary.

Examples must come in an order that has nothing to do with how hard they are: shuffle them once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ALPHA = 0.05
MOST_LOG = 600.0  # evidence beyond e to this is shown as that
BETS = 30


@dataclass(frozen=True)
class Verdict:
    """After `n` examples: is b worse than a (by more than the margin)? `evidence` is the capital,
    the most it has been; 1 / alpha or more is proof. `at` is the example that settled it."""

    worse: bool
    evidence: float
    n: int
    at: int | None


def worse_by_now(differences: np.ndarray, *, margin: float = 0.0, alpha: float = ALPHA) -> Verdict:
    """Is the mean of b - a below -`margin`, by the differences so far, in [-1, 1] and in order?

    May be asked after every example or batch, and the run stopped at the first yes: the chance that
    an arm which is not worse is ever called so is at most `alpha`. For several arms divide alpha by
    their number. Raises ValueError where a difference is out of [-1, 1], the margin out of [0, 1)
    or alpha out of (0, 1).
    """
    value_E = _checked(differences, alpha)
    if not 0 <= margin < 1:
        raise ValueError(f"margin {margin} is no difference of scores; write one from 0 up to 1")
    if len(value_E) == 0:
        return Verdict(False, 1.0, 0, None)
    capital_E = np.maximum.accumulate(
        np.exp(np.minimum(_log_capital(value_E[None], -margin)[0], MOST_LOG))
    )
    settled = np.flatnonzero(capital_E >= 1 / alpha)
    at = int(settled[0]) + 1 if len(settled) else None
    return Verdict(at is not None, float(capital_E[-1]), len(value_E), at)


def confidence_sequence(
    differences: np.ndarray, *, alpha: float = ALPHA, steps: int = 400
) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) after each example: with a chance of 1 - alpha all of them hold the true mean.

    `differences` in [-1, 1], in order. Means are tried in `steps` steps over [-1, 1], ends are
    rounded outwards, and the intervals only ever get narrower. Raises ValueError as `worse_by_now`.
    """
    value_E = _checked(differences, alpha)
    mean_G = np.linspace(-1, 1, steps + 1)
    low_E = np.full(len(value_E), -1.0)
    high_E = np.full(len(value_E), 1.0)
    for index in range(1, steps):
        mean = float(mean_G[index])
        # against "the mean is this or more", and against "this or less"; each gets half of alpha
        below_E = _log_capital(value_E[None], mean)[0] >= np.log(2 / alpha)
        above_E = _log_capital(-value_E[None], -mean)[0] >= np.log(2 / alpha)
        high_E = np.where(below_E, np.minimum(high_E, mean), high_E)
        low_E = np.where(above_E, np.maximum(low_E, mean), low_E)
    return np.maximum.accumulate(low_E), np.minimum.accumulate(high_E)


def _log_capital(value_RE: np.ndarray, mean: float) -> np.ndarray:
    """The log of the capital after each example, betting that the mean is below `mean`; by row.

    Shares of the most that can be staked without ruin, `BETS` of them, averaged: the wealth of each
    is the product of 1 - stake (value - mean), whose expectation is at most 1 where the values'
    mean is `mean` or more.
    """
    most = 1 / (1 - mean)
    total_RE = np.full(value_RE.shape, -np.inf)
    for bet in np.geomspace(0.01, 0.95, BETS):
        grown_RE = np.cumsum(np.log1p(-bet * most * (value_RE - mean)), axis=1)
        total_RE = np.logaddexp(total_RE, grown_RE)
    return total_RE - np.log(BETS)


def _checked(differences: np.ndarray, alpha: float) -> np.ndarray:
    value_E = np.asarray(differences, dtype=float)
    if not 0 < alpha < 1:
        raise ValueError(f"alpha {alpha} is no chance; write one between 0 and 1, such as 0.05")
    if len(value_E) and not (np.abs(value_E) <= 1).all():
        raise ValueError("a difference of two scores lies between -1 and 1")
    return value_E
