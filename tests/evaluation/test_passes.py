"""pass@k against all draws there are."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from evaluation.passes import pass_at_k


@pytest.mark.parametrize(("right", "samples", "k"), [(0, 5, 2), (1, 5, 2), (3, 7, 4), (5, 5, 1)])
def test_it_is_the_share_of_draws_that_hold_a_right_answer(right: int, samples: int, k: int):
    answers = [True] * right + [False] * (samples - right)
    drawn = list(combinations(answers, k))
    by_hand = sum(any(one) for one in drawn) / len(drawn)
    found = pass_at_k(np.array([right]), np.array([samples]), k)
    assert found[0] == pytest.approx(by_hand)


def test_it_is_unbiased_where_the_plug_in_is_not():
    """5 answers, each right with 0.2: the chance that one of 3 is right, over many examples."""
    rng = np.random.default_rng(0)
    right_E = rng.binomial(5, 0.2, 200_000)
    truth = 1 - 0.8**3
    assert pass_at_k(right_E, np.full(200_000, 5), 3).mean() == pytest.approx(truth, abs=0.003)
    assert abs((1 - (1 - right_E / 5) ** 3).mean() - truth) > 0.02


def test_more_than_there_are_is_refused():
    with pytest.raises(ValueError, match="pass@4 of 3 answers; write k between 1 and 3"):
        pass_at_k(np.array([1, 1]), np.array([3, 5]), 4)
    assert pass_at_k(np.array([2]), np.array([300]), 300)[0] == 1
