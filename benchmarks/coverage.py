"""How often each interval holds the truth: the table of docs/statistics.md. Minutes; no model.

0/1 scores are counted exactly, over all outcomes; graded scores and seeds are simulated. Where no
interval can cover between 94 and 97 %, the table says so: see `possible_shares`, `least_coverage`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy import optimize, sparse, stats
from statsmodels.stats.proportion import proportion_confint

from evaluation import intervals
from evaluation.power import discordance

SIZES = (50, 200, 1000)
RATES = (0.02, 0.5, 0.97)
CHANGES = (0.0, 0.02, 0.1)  # downwards from 97 %
CORRELATIONS = (0.0, 0.3, 0.6, 0.9)
LEAST, MOST = 0.94, 0.97


@dataclass(frozen=True)
class Pairs:
    """0/1 pairs: `n` of them, a baseline right at `rate`, the other arm at `rate + change`."""

    n: int
    rate: float
    change: float
    correlation: float

    @property
    def rates(self) -> tuple[float, float]:
        """(fixed, broken)"""
        return discordance(self.rate, self.change, self.correlation)


def all_pairs() -> Iterator[Pairs]:
    for n in SIZES:
        for rate in RATES:
            for size in CHANGES:
                for correlation in CORRELATIONS:
                    yield Pairs(n, rate, -size if rate > 0.9 else size, correlation)


def share_coverage(n: int, rate: float, method: str = "ours") -> float:
    """Exact coverage of an interval of one arm's share: ours, or statsmodels' by its name."""
    right = _likely(n, rate)
    if method == "ours":
        found = np.array([intervals.share_interval(int(x), n) for x in right])
    else:
        found = np.array(proportion_confint(right, n, method=method)).T
    inside = (found[:, 0] <= rate) & (rate <= found[:, 1])
    return float(stats.binom.pmf(right, n, rate)[inside].sum())


def possible_shares(n: int, rate: float) -> list[float]:
    """The coverages between 94 and 97 % that an interval of one arm's share can have at all.

    Intervals whose ends rise with the number right hold a given rate for a stretch of numbers, from
    one to another; so all stretches are tried. Empty: no such interval exists.
    """
    upto = np.concatenate([[0.0], stats.binom.cdf(np.arange(n + 1), n, rate)])
    found = upto[None, :] - upto[:, None]
    return sorted(set(found[(found >= LEAST) & (found <= MOST)].tolist()))


@cache
def pair_coverage(case: Pairs, caution: float = intervals.CAUTION) -> float:
    """Exact coverage of Tango's interval, `caution` times as far out as the nominal one."""
    fixed_C, broken_C, chance_C = _outcomes(case.n, *case.rates)
    z = caution * float(stats.norm.ppf(0.975))
    low_C, high_C = intervals.tango(fixed_C, broken_C, case.n, z)
    inside_C = (low_C <= case.change + 1e-9) & (case.change - 1e-9 <= high_C)
    return float(chance_C[inside_C].sum())


def least_coverage(case: Pairs) -> float:
    """The least coverage in this case of any interval that covers 94 % of similar cases.

    Of all intervals that know fixed, broken and n, whose ends rise with fixed and fall with broken
    (and, for no difference, are mirrored when the arms swap): they leave the difference out above
    for some outcomes and below for others, and of the similar cases (the same difference, other
    rates of broken pairs) they may miss 6 %. The largest chance of missing this case is an integer
    programme (HiGHS). Above 97 % there is no interval in the band for this case.
    """
    change, (fixed, broken) = case.change, case.rates
    if change < 0:  # the same case with the arms swapped
        change, fixed, broken = -change, broken, fixed
    similar = [broken * factor for factor in (0.5, 1, 1.5, 2, 3, 4)]
    similar += [extra / case.n for extra in (0.5, 1, 2, 3, 5)]
    similar = [rate for rate in similar if 2 * rate + change <= 0.9]
    top = int(stats.binom.ppf(1 - 1e-4, case.n, max(similar) + change)) + 1
    grid = np.arange((top + 1) ** 2)
    b_C, c_C = grid // (top + 1), grid % (top + 1)

    def chance(rate: float) -> np.ndarray:
        return _chances(case.n, b_C, c_C, rate + change, rate)

    size = len(grid)
    ends = sparse.identity(size, format="csr")
    above = _never_after(b_C, c_C, top, (1, 0), (0, -1))
    below = _never_after(b_C, c_C, top, (-1, 0), (0, 1))
    if change == 0:
        swap: Any = sparse.csr_matrix((np.ones(size), (grid, c_C * (top + 1) + b_C)), (size, size))
        left_out: Any = sparse.identity(size, format="csr") + swap
        ordered = above
    else:
        left_out = sparse.hstack([ends, ends], format="csr")
        ordered = sparse.block_diag([above, below], format="csr")
    missed = np.array([chance(rate) for rate in similar])
    found: Any = optimize.milp(
        -(left_out.T @ chance(broken)),
        integrality=np.ones(left_out.shape[1]),
        bounds=optimize.Bounds(0, 1),
        constraints=[
            optimize.LinearConstraint(ordered, -np.inf, 0),
            optimize.LinearConstraint(left_out, -np.inf, 1),
            optimize.LinearConstraint(missed @ left_out, -np.inf, 1 - LEAST),
        ],
        options={"time_limit": 60},
    )
    return 1 + float(found.mip_dual_bound)


@dataclass(frozen=True)
class Graded:
    """Graded scores in [0, 1]: `kind` says how they spread about the arms' means."""

    n: int
    kind: str
    rate: float
    change: float
    correlation: float


KINDS = {
    "near 0 or 1": 1.0,  # beta with a + b = 1: most scores are near an end
    "in between": 5.0,  # beta with a + b = 5
    "quarters": 0.0,  # right answers of 4, of examples as hard as the first kind
}


def all_graded() -> Iterator[Graded]:
    for n in SIZES:
        for kind in KINDS:
            for rate in RATES:
                for size in CHANGES:
                    for correlation in (0.0, 0.8):
                        change = -size if rate > 0.9 else size
                        yield Graded(n, kind, rate, change, correlation)


def draw_graded(case: Graded, draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of both arms, (draws, n): a normal copula with the case's correlation."""
    rng = np.random.default_rng(seed)
    a_DE = rng.standard_normal((draws, case.n))
    own_DE = rng.standard_normal((draws, case.n))
    b_DE = case.correlation * a_DE + np.sqrt(1 - case.correlation**2) * own_DE
    means = (case.rate, case.rate + case.change)
    a_DE, b_DE = (
        _scores(case.kind, mean, stats.norm.cdf(z_DE))
        for mean, z_DE in zip(means, (a_DE, b_DE), strict=True)
    )
    return a_DE, b_DE


def graded_coverage(case: Graded, draws: int = 2000, seed: int = 0) -> dict[str, float]:
    """Simulated coverage of the difference by our interval (`ours`) and by the t interval (`t`)."""
    a_DE, b_DE = draw_graded(case, draws, seed)
    value_DE = (b_DE - a_DE).round(12)
    half_D = stats.t.ppf(0.975, case.n - 1) * value_DE.std(axis=1, ddof=1) / np.sqrt(case.n)
    t = np.abs(value_DE.mean(axis=1) - case.change) <= half_D
    return {"ours": float(_holds(value_DE, case.change).mean()), "t": float(t.mean())}


def mean_coverage(case: Graded, draws: int = 2000, seed: int = 0) -> dict[str, float]:
    """Simulated coverage of one arm's mean score by our interval and by the t interval."""
    score_DE, _ = draw_graded(case, draws, seed)
    above_D = intervals.chance_above(score_DE - case.rate, -case.rate, 1 - case.rate)
    ours = (above_D >= 0.025) & (above_D <= 0.975)
    half_D = stats.t.ppf(0.975, case.n - 1) * score_DE.std(axis=1, ddof=1) / np.sqrt(case.n)
    t = np.abs(score_DE.mean(axis=1) - case.rate) <= half_D
    return {"ours": float(ours.mean()), "t": float(t.mean())}


def bca_coverage(case: Graded, draws: int = 2000, seed: int = 0) -> float:
    """That of scipy's BCa with 999 resamples, for the difference; where it is NaN it misses."""
    a_DE, b_DE = draw_graded(case, draws, seed)
    inside = 0
    for value_E in b_DE - a_DE:
        if np.ptp(value_E) > 0:
            low, high = intervals.bca(value_E, resamples=999, seed=seed)
            inside += low <= case.change <= high
    return inside / draws


def _holds(value_DE: np.ndarray, truth: float) -> np.ndarray:
    """By draw: does our interval hold the truth? That is, is 2.5 % or more on either side of it?"""
    end_D = np.minimum(1.0, intervals.BEYOND * np.abs(value_DE).max(axis=1))
    inside_D = np.zeros(len(value_DE), dtype=bool)
    usual_D = (np.ptp(value_DE, axis=1) > 0) & (np.abs(truth) < end_D)
    end_U = end_D[usual_D]
    above_U = intervals.chance_above(value_DE[usual_D] - truth, -end_U - truth, end_U - truth)
    inside_D[usual_D] = (above_U >= 0.025) & (above_U <= 0.975)
    for draw in np.flatnonzero(np.ptp(value_DE, axis=1) == 0):
        low, high = intervals.difference_interval(value_DE[draw], 1.0)
        inside_D[draw] = low <= truth <= high
    return inside_D


def _scores(kind: str, mean: float, chance_DE: np.ndarray) -> np.ndarray:
    if kind == "quarters":
        upto = stats.betabinom.cdf(np.arange(4), 4, mean, 1 - mean)
        return np.searchsorted(upto, chance_DE) / 4
    width = KINDS[kind]
    grid = np.linspace(0, 1, 20001)  # interpolated: the quantile function is slow
    return np.interp(chance_DE, grid, stats.beta.ppf(grid, mean * width, (1 - mean) * width))


def _never_after(b_C: np.ndarray, c_C: np.ndarray, top: int, *steps: tuple[int, int]) -> Any:
    """Rows that say: left out here is left out one step further."""
    rows = []
    for b_step, c_step in steps:
        b, c = b_C + b_step, c_C + c_step
        here = np.flatnonzero((b >= 0) & (b <= top) & (c >= 0) & (c <= top))
        there = b[here] * (top + 1) + c[here]
        row = np.arange(len(here))
        shape = (len(here), len(b_C))
        one = np.ones(len(here))
        rows.append(
            sparse.csr_matrix((one, (row, here)), shape)
            - sparse.csr_matrix((one, (row, there)), shape)
        )
    return sparse.vstack(rows, format="csr")


def _outcomes(n: int, fixed: float, broken: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(fixed, broken, chance) of all outcomes but those of one in a billion."""
    b, c = np.meshgrid(_likely(n, fixed), _likely(n, broken))
    b, c = b.ravel(), c.ravel()
    return b, c, _chances(n, b, c, fixed, broken)


def _likely(n: int, rate: float) -> np.ndarray:
    low, high = stats.binom.ppf([1e-9, 1 - 1e-9], n, rate).astype(int)
    return np.arange(low, high + 1)


def _chances(n: int, b: np.ndarray, c: np.ndarray, fixed: float, broken: float) -> np.ndarray:
    inside = b + c <= n
    counts = np.stack([b, c, np.where(inside, n - b - c, 0)], axis=1)
    return np.where(
        inside, stats.multinomial.pmf(counts, n, [fixed, broken, 1 - fixed - broken]), 0
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=2000, help="of graded scores, for each case")
    parser.add_argument("--bca", action="store_true", help="BCa too, where n = 50; slow")
    chosen = parser.parse_args(argv)
    print("| one arm, 0/1 | rate | ours | Wilson | Jeffreys | can be |\n|---|---|---|---|---|---|")
    for n in SIZES:
        for rate in RATES:
            found = [share_coverage(n, rate, m) for m in ("ours", "wilson", "jeffreys")]
            can = f"{len(possible_shares(n, rate))} ways" if possible_shares(n, rate) else "no way"
            print(f"| n = {n} | {rate} | {' | '.join(f'{x:.4f}' for x in found)} | {can} |")
    print("\n| two arms, 0/1 | rate | change | correlation | ours | Tango | at least |")
    print("|---|---|---|---|---|---|---|")
    for case in all_pairs():
        ours, tango = pair_coverage(case), pair_coverage(case, 1.0)
        least = "" if LEAST <= ours <= MOST else f"{least_coverage(case):.4f}"
        about = f"{case.rate} | {case.change:+} | {case.correlation}"
        print(f"| n = {case.n} | {about} | {ours:.4f} | {tango:.4f} | {least} |")
    print("\n| graded | scores | mean | change | correlation | ours | t | BCa |")
    print("|---|---|---|---|---|---|---|---|")
    for graded in all_graded():
        about = f"n = {graded.n} | {graded.kind} | {graded.rate}"
        if graded.change == graded.correlation == 0:
            one = mean_coverage(graded, chosen.draws)
            print(f"| {about} | one arm | | {one['ours']:.3f} | {one['t']:.3f} | |")
        two = graded_coverage(graded, chosen.draws)
        bca = chosen.bca and graded.n == 50
        row = f"{about} | {graded.change:+} | {graded.correlation} | {two['ours']:.3f}"
        last = f"{bca_coverage(graded, chosen.draws):.3f}" if bca else ""
        print(f"| {row} | {two['t']:.3f} | {last} |", flush=True)


if __name__ == "__main__":
    main()
