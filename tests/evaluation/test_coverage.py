"""How often intervals hold the truth: at least 94 %, and at most 97 % wherever that can be.

0/1 scores are counted exactly, over all outcomes. There an interval of few outcomes cannot cover
what it likes: `possible_shares` tries all stretches of outcomes, `least_coverage` bounds every
interval of two arms by an integer programme. docs/statistics.md has the table.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.coverage import (
    LEAST,
    MOST,
    RATES,
    SIZES,
    Graded,
    Pairs,
    all_graded,
    all_pairs,
    draw_graded,
    graded_coverage,
    least_coverage,
    mean_coverage,
    pair_coverage,
    possible_shares,
    share_coverage,
)
from evaluation.compare import compare
from evaluation.intervals import difference_interval, mean_interval, tango


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("rate", RATES)
def test_one_arm_of_0_and_1_is_covered_wherever_that_can_be(n: int, rate: float) -> None:
    found = share_coverage(n, rate)
    assert found >= LEAST
    assert found <= MOST or not possible_shares(n, rate)


def test_it_cannot_be_for_50_examples_at_2_or_97_percent() -> None:
    assert [(n, rate) for n in SIZES for rate in RATES if not possible_shares(n, rate)] == [
        (50, 0.02),
        (50, 0.97),
    ]


def test_pairs_of_0_and_1_are_never_covered_less_than_they_should() -> None:
    assert min(pair_coverage(case) for case in all_pairs()) >= LEAST


def test_pairs_of_0_and_1_are_covered_in_the_band_but_for_few_discordant_ones() -> None:
    """Out of the band are only cases in which fewer than six pairs are expected to differ."""
    out = [case for case in all_pairs() if pair_coverage(case) > MOST]
    assert all(case.n * sum(case.rates) < 6 for case in out)
    inside = [case for case in all_pairs() if case not in out]
    assert len(inside) > 3 * len(out)


def test_without_a_difference_no_interval_could_do_with_less_where_ours_covers_more() -> None:
    out = [c for c in all_pairs() if c.change == 0 and pair_coverage(c) > MOST]
    assert len(out) >= 8
    for case in out:
        least = least_coverage(case)
        assert least > MOST
        assert pair_coverage(case) == pytest.approx(least, abs=1e-3)  # and ours is the least


def test_least_coverage_is_a_bound() -> None:
    """Tango's own interval covers 94 % of the similar cases here, so the bound lies below it."""
    for case in (Pairs(50, 0.5, 0.0, 0.6), Pairs(50, 0.02, 0.02, 0.0), Pairs(50, 0.97, -0.02, 0.3)):
        assert least_coverage(case) <= pair_coverage(case, 1.0) + 1e-9


@pytest.mark.parametrize("case", [Pairs(50, 0.5, 0.1, 0.3), Pairs(200, 0.97, -0.02, 0.6)])
def test_exact_coverage_is_what_compare_covers(case: Pairs) -> None:
    """2,000 draws through `compare` itself: the enumeration is of the interval that is reported."""
    fixed, broken = case.rates
    rng = np.random.default_rng(0)
    seen: dict[tuple[int, int], bool] = {}
    hits = 0
    for b, c, _ in rng.multinomial(case.n, [fixed, broken, 1 - fixed - broken], 2000):
        if (b, c) not in seen:
            a_E = np.array([0] * b + [1] * c + [0] * (case.n - b - c))
            b_E = np.array([1] * b + [0] * c + [0] * (case.n - b - c))
            found = compare(_series(a_E), _series(b_E))
            seen[b, c] = found.low <= case.change <= found.high
        hits += seen[b, c]
    assert hits / 2000 == pytest.approx(pair_coverage(case), abs=0.015)


def _series(values: np.ndarray) -> pd.Series:
    return pd.Series(values, dtype=float)


def test_the_nominal_interval_of_tango_would_cover_too_little() -> None:
    """Why there is CAUTION: 93 % for 200 pairs of which 2 % differ, all one way."""
    case = Pairs(200, 0.02, 0.02, 0.9)
    assert pair_coverage(case, 1.0) < LEAST < pair_coverage(case) < MOST
    (low,), _ = tango(1, 0, 200, 1.96)
    assert low < 0


SOME = [
    Graded(50, "near 0 or 1", 0.02, 0.02, 0.8),
    Graded(50, "quarters", 0.02, 0.1, 0.8),
    Graded(50, "in between", 0.5, 0.1, 0.0),
    Graded(200, "quarters", 0.97, -0.02, 0.8),
    Graded(200, "near 0 or 1", 0.5, 0.0, 0.8),
]


@pytest.mark.parametrize("case", SOME, ids=str)
def test_graded_differences_are_covered(case: Graded) -> None:
    """At least 94 %, less two standard errors of 2,000 draws; the t interval covers 88 to 96 %."""
    found = graded_coverage(case, 2000, seed=1)
    assert found["ours"] >= LEAST - 0.01
    assert found["ours"] >= found["t"] - 0.01


@pytest.mark.parametrize("n", [50, 200])
@pytest.mark.parametrize("kind", ["near 0 or 1", "in between", "quarters"])
@pytest.mark.parametrize("rate", RATES)
def test_graded_scores_of_one_arm_are_covered(n: int, kind: str, rate: float) -> None:
    found = mean_coverage(Graded(n, kind, rate, 0.0, 0.0), 4000, seed=2)["ours"]
    assert LEAST - 0.01 <= found <= MOST + 0.01  # two to three standard errors of 4,000 draws


def test_the_t_interval_would_cover_three_in_four() -> None:
    """Why one arm's graded interval is no t interval."""
    case = Graded(50, "near 0 or 1", 0.02, 0.0, 0.0)
    assert mean_coverage(case, 2000, seed=3)["t"] < 0.8


def test_what_is_simulated_is_the_interval() -> None:
    """The simulation looks at the chance beyond the truth; the interval at where it is 2.5 %."""
    for case in SOME[:3]:
        a_DE, b_DE = draw_graded(case, 25, seed=4)
        inside = [
            low <= case.change <= high
            for low, high in (difference_interval(v, 1.0) for v in (b_DE - a_DE).round(12))
        ]
        assert np.mean(inside) == graded_coverage(case, 25, seed=4)["ours"]
        means = [low <= case.rate <= high for low, high in (mean_interval(v, 0, 1) for v in a_DE)]
        assert np.mean(means) == mean_coverage(case, 25, seed=4)["ours"]


@pytest.mark.slow
def test_every_graded_case_is_covered() -> None:
    """All 162 of them, 2,000 draws each: three standard errors below 94 % would be a finding."""
    for case in all_graded():
        assert graded_coverage(case, 2000, seed=5)["ours"] >= LEAST - 0.015, case
