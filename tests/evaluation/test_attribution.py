"""Main effects and interaction against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from evaluation.attribution import attribute
from evaluation.compare import contrast


def scores(*values: float) -> pd.Series:
    return pd.Series(values, index=[f"e{i}" for i in range(len(values))], dtype=float)


def test_effects_by_hand():
    base, prompt = scores(0, 0, 0, 1), scores(1, 0, 0, 1)
    weights, both = scores(1, 1, 0, 1), scores(1, 1, 1, 1)
    found = attribute(base, prompt, weights, both)
    # example by example: weights ½, 1, ½, 0; prompt ½, 0, ½, 0; interaction -1, 0, 1, 0
    assert found.weights.value == pytest.approx(0.5)
    assert found.prompt.value == pytest.approx(0.25)
    assert found.interaction.value == pytest.approx(0.0)
    # 16 ways to set the signs: of the three figures that are not 0, all alike in 2 of 8
    assert found.weights.p == pytest.approx(2 / 8)
    assert found.prompt.p == pytest.approx(2 / 4)
    assert found.interaction.p == pytest.approx(1.0)


def test_main_effects_and_interaction_rebuild_the_cells():
    rng = np.random.default_rng(0)
    cells = [scores(*rng.random(30)) for _ in range(4)]
    base, _, weights, both = (cell.mean() for cell in cells)
    found = attribute(*cells)
    assert found.weights.value + found.prompt.value == pytest.approx(both - base)
    assert found.weights.value - found.interaction.value / 2 == pytest.approx(weights - base)
    assert found.prompt.value + found.interaction.value / 2 == pytest.approx(both - weights)


def test_the_order_of_the_examples_changes_nothing():
    rng = np.random.default_rng(1)
    cells = [scores(*rng.random(20)) for _ in range(4)]
    turned = [cell[::-1] for cell in cells]
    assert attribute(*cells) == attribute(*turned)


def test_the_interval_is_paired_and_close_to_the_normal_one():
    rng = np.random.default_rng(2)
    hard = rng.random(400) / 2  # common to all four cells, so it must cancel
    noise = rng.random((4, 400)) / 10
    base, prompt, weights, both = (scores(*(hard + part)) for part in noise)
    found = attribute(base, prompt, weights, both).interaction
    figures = noise[3] - noise[1] - noise[2] + noise[0]
    half = 1.96 * figures.std(ddof=1) / np.sqrt(400)
    assert (found.low, found.high) == pytest.approx(
        (figures.mean() - half, figures.mean() + half), abs=half / 5
    )
    assert found.sign == int(found.low > 0) - int(found.high < 0)


def test_equal_figures_do_not_claim_certainty_and_rounding_is_no_effect():
    """0.3 - 0.2 - 0.1 + 0 is not 0 in floating point, the same way for every example."""
    cells = [scores(*[value] * 20) for value in (0.0, 0.1, 0.2, 0.3)]
    found = attribute(*cells).interaction
    assert (found.value, found.p, found.sign) == (0.0, 1.0, 0)
    assert found.low == pytest.approx(-2 * (1 - 0.025 ** (1 / 20)))
    assert found.high == -found.low


def test_no_example_and_other_examples_are_refused():
    with pytest.raises(ValueError, match="different examples"):
        attribute(scores(1), scores(1), scores(1), scores(1, 0))
    with pytest.raises(ValueError, match="no example"):
        attribute(scores(), scores(), scores(), scores())
    with pytest.raises(ValueError, match="no example"):
        contrast(np.array([]), reach=1)
