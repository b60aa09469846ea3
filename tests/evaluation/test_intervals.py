"""Intervals against published values, other programs, and themselves."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats
from statsmodels.stats.proportion import proportion_confint

from evaluation import intervals
from evaluation.intervals import (
    bca,
    difference_interval,
    difference_p,
    mean_interval,
    pair_interval,
    share_interval,
    tango,
    tango_z,
)

Z = float(stats.norm.ppf(0.975))


@pytest.mark.parametrize(
    ("one_way", "other_way", "n", "low", "high"),
    [
        # R contingencytables::Tango_asymptotic_score_CI_paired_2x2 has both as examples: the limits
        # of Cavo et al. 2012 stand in its tests; of Bentur et al. 2009, solved as it solves them
        (6, 16, 161, -0.1240, -0.0054),
        (1, 7, 21, -0.517, -0.026),
    ],
)
def test_tango_gives_the_published_limits(one_way, other_way, n, low, high):
    (found_low,), (found_high,) = tango(one_way, other_way, n, Z)
    places = 4 if n == 161 else 3
    assert (round(found_low, places), round(found_high, places)) == (low, high)


@pytest.mark.parametrize(("fixed", "broken", "n"), [(9, 2, 40), (40, 20, 160), (0, 3, 30)])
@pytest.mark.parametrize("delta", [-0.3, -0.05, 0.0, 0.1, 0.4])
def test_the_score_statistic_has_the_most_likely_nuisance_rate(fixed, broken, n, delta):
    """The closed form of q against a search for it."""

    def unlikely(rate: float) -> float:
        chances = np.array([rate + delta, rate, 1 - 2 * rate - delta])
        counts = np.array([fixed, broken, n - fixed - broken])
        return -float((counts * np.log(np.maximum(chances, 1e-300))).sum())

    bounds = (max(0.0, -delta), (1 - delta) / 2)
    rate = float(optimize.minimize_scalar(unlikely, bounds=bounds, method="bounded").x)
    by_search = (fixed - broken - n * delta) / np.sqrt(n * (2 * rate + delta * (1 - delta)))
    found = tango_z(np.array([fixed]), np.array([broken]), n, np.array([delta]))
    if delta == 0:  # there it is McNemar's statistic
        assert found[0] == pytest.approx((fixed - broken) / np.sqrt(fixed + broken))
    assert found[0] == pytest.approx(by_search, rel=1e-3, abs=1e-3)


def test_pair_interval_is_tango_a_little_further_out_and_mirrors():
    low, high = pair_interval(20, 5, 100)
    (near_low,), (near_high,) = tango(20, 5, 100, Z)
    assert low < near_low < 0.15 < near_high < high
    assert high - low < 1.03 * (near_high - near_low)
    assert pair_interval(5, 20, 100) == pytest.approx((-high, -low))
    assert pair_interval(30, 0, 30)[1] == 1.0
    assert pair_interval(0, 0, 30) == pytest.approx((-pair_interval(0, 0, 30)[1], -low_of_none(30)))


def low_of_none(n: int) -> float:
    """Tango's limit where no pair differs, by hand: z² / (n + z²)."""
    z = intervals.CAUTION * Z
    return -(z**2) / (n + z**2)


def test_share_interval_is_clopper_and_pearsons():
    for right, n in ((0, 10), (3, 40), (40, 40)):
        assert share_interval(right, n) == pytest.approx(
            proportion_confint(right, n, method="beta"), abs=1e-9
        )


def test_mean_interval_of_shares_is_jeffreys():
    """What a saddlepoint approximation gives away is under 0.1 points."""
    for right, n in ((15, 20), (3, 50), (400, 1000)):
        scores = np.array([1.0] * right + [0.0] * (n - right))
        assert mean_interval(scores, 0, 1) == pytest.approx(
            proportion_confint(right, n, method="jeffreys"), abs=1e-3
        )


def test_mean_interval_is_the_bayesian_bootstrap_of_random_draws():
    rng = np.random.default_rng(0)
    score_E = rng.beta(0.4, 2.0, 40)
    weight_RE = rng.gamma(np.append(np.ones(40), [0.5, 0.5]), size=(100_000, 42))
    mean_R = weight_RE @ np.append(score_E, [0, 1]) / weight_RE.sum(axis=1)
    assert mean_interval(score_E, 0, 1) == pytest.approx(
        np.quantile(mean_R, [0.025, 0.975]), abs=2e-3
    )


def test_mean_interval_knows_no_order_no_units_and_no_step_at_large_n(monkeypatch):
    score_E = np.random.default_rng(1).random(3000)
    found = mean_interval(score_E, 0, 1)
    assert mean_interval(score_E[::-1], 0, 1) == found
    assert mean_interval(10 * score_E - 3, -3, 7) == pytest.approx([10 * x - 3 for x in found])
    monkeypatch.setattr(intervals, "LARGE", 1000)
    assert mean_interval(score_E, 0, 1) == pytest.approx(found, abs=3e-4)
    with pytest.raises(ValueError, match="nothing to be unsure of"):
        mean_interval(score_E, 1, 1)


def test_difference_interval_allows_for_what_has_not_shown():
    value_E = np.array([0.0] * 45 + [0.2] * 5)
    low, high = difference_interval(value_E, 1.0)
    wide_low, wide_high = difference_interval(value_E, 1.0, unseen=1.0)
    assert wide_low < low < 0.02 < high < wide_high
    share = 1 - 0.025 ** (1 / 50)  # of what n equal ones could have missed
    assert difference_interval(np.full(50, 0.2), 1.0) == pytest.approx(
        (0.2 - share * 1.2, 0.2 + share * 0.8)
    )


@pytest.mark.parametrize("seed", range(4))
def test_difference_p_is_that_of_the_interval(seed):
    value_E = np.random.default_rng(seed).normal(0.05, 0.3, 60).clip(-1, 1).round(2)
    p = difference_p(value_E, 1.0)
    ends = difference_interval(value_E, 1.0, 1 - p)
    assert min(abs(end) for end in ends) < 1e-6
    assert difference_p(-value_E, 1.0) == pytest.approx(p)
    equal = np.full(20, 0.3)
    assert min(map(abs, difference_interval(equal, 1.0, 1 - difference_p(equal, 1.0)))) < 1e-9


def test_bca_is_the_textbook_formula_and_knows_no_order():
    """Efron and Tibshirani 1993, chapter 14, on their law school example's differences."""
    value_E = np.array([576, 635, 558, 578, 666, 580, 555, 661, 651, 605, 653, 575, 545, 572, 594])
    value_E = (value_E - 500) / 500
    rng = np.random.default_rng(3)
    mean_R = value_E[rng.integers(0, 15, (200_000, 15))].mean(axis=1)
    bias = stats.norm.ppf((mean_R < value_E.mean()).mean())
    gone = np.array([np.delete(value_E, i).mean() for i in range(15)])
    pull = gone.mean() - gone
    skew = (pull**3).sum() / (6 * (pull**2).sum() ** 1.5)
    level = stats.norm.cdf([bias + (bias + z) / (1 - skew * (bias + z)) for z in (-Z, Z)])
    assert bca(value_E, resamples=50_000) == pytest.approx(np.quantile(mean_R, level), abs=2e-3)
    assert bca(value_E[::-1]) == bca(value_E)
