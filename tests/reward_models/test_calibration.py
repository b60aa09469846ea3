"""Agreement with gold, by hand, against scikit-learn, and on planted probabilities."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, cohen_kappa_score, roc_auc_score

from reward_models.calibration import gold_agreement


def test_by_hand():
    values = [0.9, 0.9, 0.2, 0.6, None, 0.1]
    found = gold_agreement(values, [True, True, False, False, True, True])
    assert (found.asked, found.given, found.right) == (6, 5, 3)
    assert found.auc == pytest.approx(4 / 6)  # 0.9, 0.9 beat both wrong ones, 0.1 beats none
    assert found.brier == pytest.approx((0.01 + 0.01 + 0.04 + 0.36 + 0.81) / 5)
    gaps = 2 * (1 - 0.9) + 0.2 + 0.6 + 0.9  # bins 0.9, 0.2, 0.6 and 0.1
    assert found.ece == pytest.approx(gaps / 5)


@pytest.mark.parametrize("seed", range(5))
def test_as_scikit_learn_has_it(seed):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 11, 200) / 10
    right = rng.random(200) < values
    found = gold_agreement(list(values), list(right))
    assert found.auc == pytest.approx(roc_auc_score(right, values))
    assert found.brier == pytest.approx(brier_score_loss(right, values))
    assert found.kappa == pytest.approx(cohen_kappa_score(right, values > 0.5))
    assert found.kappa_low < found.kappa < found.kappa_high


def test_true_probabilities_are_calibrated_and_exaggerated_ones_are_not():
    rng = np.random.default_rng(7)
    share = rng.random(20_000)
    right = list(rng.random(20_000) < share)
    honest = gold_agreement(list(share), right)
    loud = gold_agreement(list((share > 0.5).astype(float)), right)
    assert honest.ece < 0.02 < 0.2 < loud.ece and honest.brier < loud.brier


def test_where_nothing_can_be_said_it_is_nan():
    one = gold_agreement([0.6, 0.7], [True, True])
    assert math.isnan(one.auc) and math.isnan(one.kappa)
    none = gold_agreement([None], [True])
    assert none.given == 0 and math.isnan(none.auc) and math.isnan(none.brier)
