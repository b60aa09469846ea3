"""Power as said against power as it is: the real tests on simulated data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from evaluation.power import (
    discordance,
    mcnemar_power,
    needed_examples,
    smallest_difference,
    t_power,
)
from evaluation.significance import mcnemar, sign_flip


@pytest.mark.parametrize(
    ("n", "rate", "change", "correlation", "alpha"),
    [
        (50, 0.5, 0.2, 0.0, 0.05),
        (200, 0.5, 0.1, 0.5, 0.05),
        (200, 0.02, 0.05, 0.0, 0.05),
        (1000, 0.97, -0.02, 0.3, 0.05 / 6),
        (200, 0.5, 0.0, 0.0, 0.05),
    ],
)
def test_mcnemar_power_is_within_3_points_of_the_tests(n, rate, change, correlation, alpha):
    fixed, broken = discordance(rate, change, correlation)
    rng = np.random.default_rng(0)
    draws = rng.multinomial(n, [fixed, broken, 1 - fixed - broken], 4000)[:, :2]
    outcomes, counts = np.unique(draws, axis=0, return_counts=True)
    found = sum(k for (b, c), k in zip(outcomes, counts, strict=True) if mcnemar(b, c) <= alpha)
    assert mcnemar_power(n, fixed, broken, alpha) == pytest.approx(found / 4000, abs=0.03)


def test_the_usual_formula_would_promise_too_much():
    """Why it is summed over outcomes: Miettinen's approximation, 25 pairs of which half differ."""
    n, fixed, broken = 25, 0.4, 0.1
    differ, change = fixed + broken, fixed - broken
    z = stats.norm.ppf(0.975)
    usual = stats.norm.cdf(
        (change * math.sqrt(n) - z * math.sqrt(differ)) / math.sqrt(differ - change**2)
    )
    assert usual - mcnemar_power(n, fixed, broken) > 0.05


@pytest.mark.parametrize(("n", "change", "sd"), [(30, 0.1, 0.2), (100, 0.05, 0.2), (100, 0, 0.2)])
def test_graded_power_is_within_3_points_of_the_tests(n, change, sd):
    rng = np.random.default_rng(1)
    rounds = 1000
    found = np.mean(
        [sign_flip(rng.normal(change, sd, n).clip(-1, 1)) <= 0.05 for _ in range(rounds)]
    )
    assert t_power(n, change, sd) == pytest.approx(found, abs=0.03 + 1 / math.sqrt(rounds) / 3)
    if change:
        theirs = TTestPower().power(change / sd, n, 0.05)
        assert t_power(n, change, sd) == pytest.approx(theirs, abs=1e-6)


def test_what_is_needed_and_what_is_seen_agree():
    def power(n: int, change: float) -> float:
        return mcnemar_power(n, *discordance(0.6, change, 0.3))

    n = needed_examples(lambda n: power(n, 0.1), 0.8)
    assert power(n, 0.1) >= 0.8
    assert min(power(n + more, 0.1) for more in range(20)) >= 0.8
    assert power(n - 1, 0.1) < 0.8
    seen = smallest_difference(lambda change: power(n, change), 0.4, 0.8)
    assert 0.09 < seen <= 0.1 + 1e-6
    assert math.isnan(smallest_difference(lambda change: power(5, change), 0.4, 0.8))
    with pytest.raises(ValueError, match="would show so small"):
        needed_examples(lambda n: 0.0, 0.8)


def test_rates_that_cannot_be_are_refused_and_correlation_leaves_less_to_differ():
    assert discordance(0.5, 0.1) == pytest.approx((0.3, 0.2))
    assert sum(discordance(0.5, 0.1, 0.8)) < 0.25
    assert discordance(0.5, 0.1, 1.0)[1] == pytest.approx(0, abs=0.01)
    with pytest.raises(ValueError, match=r"baseline at 97 % cannot change by \+10 points"):
        discordance(0.97, 0.1)
