"""Our fast Fisher and Holm against scipy's and statsmodels'."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from evaluation.exact import holm, upper_tail


def test_the_tail_is_scipys_where_more_fail_than_expected():
    rng = np.random.default_rng(0)
    total = rng.integers(2, 3_000, size=2_000)
    n, failing = rng.integers(1, total + 1), rng.integers(1, total + 1)
    k = rng.hypergeometric(failing, total - failing, n)
    k = np.minimum(k + rng.integers(0, 6, size=2_000), np.minimum(n, failing))
    expected = stats.hypergeom.sf(k - 1, total, failing, n)
    above = k * total > n * failing
    assert above.sum() > 500
    assert upper_tail(k, n, failing, total)[above] == pytest.approx(expected[above], rel=1e-8)
    assert (upper_tail(k, n, failing, total)[~above] == 1).all()


def test_it_is_fishers_exact_test_and_takes_scalars():
    one = stats.fisher_exact([[10, 30], [23, 437]], alternative="greater").pvalue
    assert float(upper_tail(10, 40, 33, 500)) == pytest.approx(one, rel=1e-9)


@pytest.mark.parametrize("size", [0, 1, 7])
def test_holm_is_statsmodels(size):
    values = np.random.default_rng(1).random(size) ** 4
    expected = multipletests(values, method="holm")[1] if size else []
    assert holm(list(values)) == pytest.approx(list(expected))
