"""Looking after every example: rarely wrong however long one looks, and soon right."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.sequential import confidence_sequence, worse_by_now


def differences(rng: np.random.Generator, n: int, fixed: float, broken: float) -> np.ndarray:
    return rng.choice([1.0, -1.0, 0.0], p=[fixed, broken, 1 - fixed - broken], size=n)


@pytest.mark.parametrize("rates", [(0.25, 0.25), (0.02, 0.02), (0.5, 0.5)])
def test_an_arm_as_good_is_rarely_called_worse_though_one_always_looks(rates) -> None:
    """1,000 runs of 1,000 examples, looked at after each: wrong in at most alpha of them."""
    rng = np.random.default_rng(0)
    wrong = sum(worse_by_now(differences(rng, 1000, *rates)).worse for _ in range(1000))
    assert wrong / 1000 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1000)


def test_looking_at_p_after_every_example_would_be_wrong_often() -> None:
    """Why it is not done with McNemar's test: the same runs, the usual threshold at each step."""
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(300):
        step_E = differences(rng, 1000, 0.25, 0.25)
        differ = np.cumsum(step_E != 0)
        z_E = np.cumsum(step_E) / np.sqrt(np.maximum(differ, 1))
        wrong += bool((z_E[differ >= 10] < -1.96).any())
    assert wrong / 300 > 0.1


def test_graded_scores_too_and_a_margin() -> None:
    rng = np.random.default_rng(1)
    wrong = sum(
        worse_by_now(rng.normal(-0.05, 0.3, 800).clip(-1, 1), margin=0.06).worse for _ in range(500)
    )
    assert wrong / 500 <= 0.05


def test_a_clearly_worse_arm_is_found_early() -> None:
    """35 points worse: found in all runs, half of them within 60 of 1,000 examples."""
    rng = np.random.default_rng(2)
    found = [worse_by_now(differences(rng, 1000, 0.05, 0.4)) for _ in range(200)]
    assert all(one.worse for one in found)
    assert np.median([one.at for one in found]) < 60
    slight = [worse_by_now(differences(rng, 1000, 0.15, 0.25)) for _ in range(100)]
    assert np.mean([one.worse for one in slight]) > 0.9  # 10 points
    assert not any(worse_by_now(differences(rng, 1000, 0.4, 0.05)).worse for _ in range(50))


def test_the_verdict_is_the_same_in_one_look_as_in_many() -> None:
    value_E = differences(np.random.default_rng(3), 300, 0.05, 0.3)
    whole = worse_by_now(value_E)
    assert whole.at is not None
    assert not worse_by_now(value_E[: whole.at - 1]).worse
    assert worse_by_now(value_E[: whole.at]).worse
    assert worse_by_now(value_E[: whole.at]).evidence >= 20


def test_the_confidence_sequence_holds_the_truth_at_all_times_and_shrinks() -> None:
    rng = np.random.default_rng(4)
    missed = 0
    for _ in range(60):
        low_E, high_E = confidence_sequence(differences(rng, 400, 0.3, 0.2), steps=80)
        missed += bool(((low_E > 0.1) | (high_E < 0.1)).any())
        assert (np.diff(low_E) >= 0).all() and (np.diff(high_E) <= 0).all()
    assert missed / 60 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60)
    low_E, high_E = confidence_sequence(differences(rng, 4000, 0.3, 0.2), steps=80)
    assert high_E[-1] - low_E[-1] < 0.15


def test_what_is_no_difference_of_scores_is_refused() -> None:
    for value_E, kind, what in (
        (np.array([2.0]), {}, "between -1 and 1"),
        (np.array([np.nan]), {}, "between -1 and 1"),
        (np.array([0.0]), {"alpha": 5}, "alpha 5"),
        (np.array([0.0]), {"margin": 2}, "margin 2"),
    ):
        with pytest.raises(ValueError, match=what):
            worse_by_now(value_E, **kind)
    assert worse_by_now(np.array([])).n == 0
