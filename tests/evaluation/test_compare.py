"""compare against scipy and statsmodels on stored cases, against itself, and against simulation."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from evaluation.compare import adjust, compare, score_interval
from evaluation.significance import sign_flip


def _series(values) -> pd.Series:
    return pd.Series(values, index=[f"e{i}" for i in range(len(values))], dtype=float)


def _arms(both: int, fixed: int, broken: int, neither: int) -> tuple[pd.Series, pd.Series]:
    rows = [(1, 1)] * both + [(0, 1)] * fixed + [(1, 0)] * broken + [(0, 0)] * neither
    return _series([a for a, _ in rows]), _series([b for _, b in rows])


@pytest.mark.parametrize("cells", [(50, 20, 5, 25), (0, 6, 0, 10), (3, 1, 1, 3), (10, 2, 9, 0)])
def test_binary_arms_get_exact_mcnemar(cells):
    both, fixed, broken, neither = cells
    result = compare(*_arms(*cells))
    reference = mcnemar([[both, broken], [fixed, neither]], exact=True)
    assert result.p == pytest.approx(reference.pvalue)  # type: ignore[attr-defined]
    assert (result.fixed, result.broken, result.n) == (fixed, broken, sum(cells))
    assert result.delta == pytest.approx((fixed - broken) / sum(cells))
    assert result.low <= result.delta <= result.high


def test_known_p_values():
    assert compare(*_arms(0, 6, 0, 10)).p == pytest.approx(2 / 64)
    assert compare(*_arms(5, 0, 0, 5)).p == 1.0


def test_the_interval_is_close_to_the_normal_one_on_many_examples():
    a, b = _arms(700, 200, 100, 1000)
    result = compare(a, b)
    error = np.sqrt((0.15 - 0.05**2) / 2000)
    assert result.low == pytest.approx(0.05 - 1.96 * error, abs=0.002)
    assert result.high == pytest.approx(0.05 + 1.96 * error, abs=0.002)


def test_graded_arms_get_an_exact_permutation_test_when_small():
    rng = np.random.default_rng(4)
    a, b = rng.random(9), rng.random(9)
    found = sign_flip(b - a, 0)
    signs = np.array(np.meshgrid(*[[-1, 1]] * 9)).reshape(9, -1)
    means = np.abs(((b - a)[:, None] * signs).mean(axis=0))
    assert found == pytest.approx((means >= abs((b - a).mean()) - 1e-12).mean())
    assert compare(_series(a), _series(b)).p >= found


@pytest.mark.parametrize(("n", "rate", "samples"), [(50, 0.03, 5), (100, 0.02, 8)])
def test_an_arm_that_always_says_the_same_is_not_called_different(n, rate, samples):
    """Both are right equally often; one answers alike in all its samples, the other anew."""
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(300):
        a = rng.binomial(1, rate, n).astype(float)
        b = rng.binomial(samples, rate, n) / samples
        wrong += compare(_series(a), _series(b), unseen=1.0).p < 0.05
    assert wrong <= 0.05 * 300 + 3 * np.sqrt(300 * 0.05 * 0.95)


def test_graded_test_agrees_with_the_t_test_on_many_examples():
    rng = np.random.default_rng(5)
    a = rng.random(300)
    b = np.clip(a + rng.normal(0.01, 0.1, 300), 0, 1)
    result = compare(_series(a), _series(b))
    assert result.p == pytest.approx(stats.ttest_rel(b, a).pvalue, abs=0.02)


def test_swapping_the_arms_mirrors_and_row_order_changes_nothing():
    a, b = _arms(30, 12, 4, 10)
    there, back = compare(a, b), compare(b, a)
    assert there.delta == -back.delta
    assert there.p == back.p
    assert (there.fixed, there.broken) == (back.broken, back.fixed)
    assert compare(a, b.sample(frac=1, random_state=1)) == there


def test_equal_differences_do_not_claim_certainty():
    a, b = _arms(0, 0, 0, 20)
    same = compare(a, b)
    assert (same.delta, same.p) == (0.0, 1.0)
    assert same.low == -same.high < -0.1
    half = _series([0.5] * 20)
    graded = compare(half, half)
    # the bound is Clopper and Pearson's for no event in 20
    bound = proportion_confint(0, 20, method="beta")[1]
    assert (graded.low, graded.high) == (pytest.approx(-bound), pytest.approx(bound))
    shifted = compare(_series([0.1, 0.2]), _series([0.3, 0.4]))
    assert shifted.low < 0.2 < shifted.high
    one = compare(_series([0.1]), _series([0.3]))
    assert (one.p, one.n) == (1.0, 1)


def test_arms_over_other_examples_are_refused():
    with pytest.raises(ValueError, match=r"different examples.*'e1' is in one only"):
        compare(_series([1]), _series([1, 0]))
    with pytest.raises(ValueError, match="nothing to compare"):
        compare(_series([]), _series([]))
    with pytest.raises(ValueError, match="'x' is in an arm twice"):
        compare(_series([1, 0]), pd.Series([1.0, 0.0], index=["x", "x"]))


def test_adjust_is_holm_by_hand():
    family = [compare(*_arms(0, k, 0, 5)) for k in (6, 9, 7)]
    raw = [2 / 2**6, 2 / 2**9, 2 / 2**7]
    by_hand = [max(2 * raw[2], raw[0]), 3 * raw[1], 2 * raw[2]]
    assert [c.p_adjusted for c in adjust(family)] == pytest.approx(by_hand)
    assert adjust([]) == []
    assert [c.p_adjusted for c in adjust(family[:1])] == pytest.approx(raw[:1])


def test_score_interval_is_exact_for_binary_and_a_bayesian_bootstrap_for_graded():
    exact = stats.binomtest(15, 20).proportion_ci(method="exact")
    assert score_interval([1.0] * 15 + [0.0] * 5) == pytest.approx(exact)
    low, high = score_interval([0.2, 0.4, 0.6, 0.8] * 50)
    assert low == pytest.approx(0.5 - 1.96 * np.sqrt(0.05 / 200), abs=0.003)
    assert high == pytest.approx(0.5 + 1.96 * np.sqrt(0.05 / 200), abs=0.003)
    assert score_interval([0.9, 0.1, 0.4]) == score_interval([0.1, 0.4, 0.9])
    with pytest.raises(ValueError, match="no score"):
        score_interval([])


@pytest.mark.parametrize("graded", [False, True])
def test_170000_examples_take_a_fifth_of_a_second(graded):
    rng = np.random.default_rng(8)
    ids = pd.Index([f"test-{i}" for i in range(170_000)], dtype="str")
    values = rng.random((2, 170_000)).round(2) if graded else rng.random((2, 170_000)) < 0.5
    a, b = (pd.Series(row, ids, dtype=float) for row in values)
    spent = []
    for _ in range(3):
        start = time.process_time()
        compare(a, b)
        spent.append(time.process_time() - start)
    assert min(spent) < 0.2
