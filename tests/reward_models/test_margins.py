"""Figures of margins, by hand and against scikit-learn."""

from __future__ import annotations

import math

import pytest
from sklearn.metrics import brier_score_loss, log_loss

from reward_models.margins import figures

MARGINS = [2.0, 1.0, -1.0, 0.0, 3.0]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_accuracy_counts_ties_half():
    found = figures(MARGINS)
    assert found.accuracy == 3.5 / 5 and found.low < 0.7 < found.high


def test_losses_are_those_of_scikit_learn():
    # a margin m says that the chosen answer is better, with probability sigmoid(m), and it is
    found, sure = figures(MARGINS), [sigmoid(m) for m in MARGINS]
    assert found.log_loss == pytest.approx(log_loss([1] * 5, sure, labels=[0, 1]))
    assert found.brier == pytest.approx(brier_score_loss([1] * 5, sure))


def test_calibration_error_by_hand():
    # confidence sigmoid(1) = 0.731, four pairs of which three are right
    assert figures([1, 1, 1, -1]).ece == pytest.approx(abs(0.75 - sigmoid(1)))
    # two bins: one sure and right, one sure and wrong
    assert figures([1, -3]).ece == pytest.approx((1 - sigmoid(1) + sigmoid(3)) / 2)


def test_what_says_nothing_has_the_figures_of_a_coin():
    found = figures([0.0] * 10)
    assert (found.accuracy, found.brier, found.ece) == (0.5, 0.25, 0.0)
    assert found.log_loss == pytest.approx(math.log(2))


def test_extreme_margins_overflow_nowhere():
    found = figures([1000.0, -1000.0])
    assert found.log_loss == 500 and found.brier == 0.5


def test_no_margins_are_no_figures():
    with pytest.raises(ValueError, match="no margins"):
        figures([])
