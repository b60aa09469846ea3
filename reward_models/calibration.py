"""How far a reward that speaks as if of probabilities, a judge above all, agrees with gold.

On a sample whose task scores are known: does it order right before wrong, does it call right what
is right, and is what it calls 0.8 right in eight of ten?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from evaluation.labels import agreement
from reward_models.types import Values

CUT = 0.5  # a value above it calls the answer right
BINS = 10  # of equal width, for the calibration error


@dataclass(frozen=True)
class GoldAgreement:
    """Of `asked` answers `given` have a value; those only count in the rest.

    `auc`: how often a right answer is worth more than a wrong one, ties half; NaN without both.
    `kappa` in [-1, 1]: Cohen's, of "above 1/2" with "right", and its 95 % interval, NaN where it is
    not defined (evaluation/labels.py). `brier`: the mean squared difference of value and 0 or 1.
    `ece`: the mean distance of value and share of right answers over `BINS` bins, by their sizes
    (Guo et al., 2017, arXiv:1706.04599). Values outside [0, 1] count as 0 or 1 in these two.
    """

    asked: int
    given: int
    right: int
    auc: float
    kappa: float
    kappa_low: float
    kappa_high: float
    brier: float
    ece: float


def gold_agreement(values: Values, correct: Sequence[bool], *, seed: int = 0) -> GoldAgreement:
    """How `values` agree with which answers the task calls correct, in the same order.

    Raises ValueError where the two are not of one length.
    """
    rows = list(zip(values, correct, strict=True))
    known = [(value, right) for value, right in rows if value is not None]
    value_N = np.array([value for value, _ in known], dtype=float)
    right_N = np.array([right for _, right in known], dtype=bool)
    share_N = np.clip(value_N, 0, 1)
    words = pd.DataFrame(
        {
            "rule": ["right" if right else "wrong" for _, right in rows],
            "label": [None if v is None else "right" if v > CUT else "wrong" for v, _ in rows],
        },
        dtype=object,
    )
    kappa = agreement(words, seed=seed)
    return GoldAgreement(
        asked=len(rows),
        given=len(known),
        right=int(right_N.sum()),
        auc=auc(value_N, right_N),
        kappa=kappa.kappa,
        kappa_low=kappa.low,
        kappa_high=kappa.high,
        brier=float(np.mean((share_N - right_N) ** 2)) if known else np.nan,
        ece=calibration_error(share_N, right_N) if known else np.nan,
    )


def auc(value_N: np.ndarray, right_N: np.ndarray) -> float:
    """The share of (right, wrong) pairs in which the right one is worth more, ties half."""
    from scipy.stats import mannwhitneyu

    if right_N.all() or not right_N.any():
        return np.nan
    wins = mannwhitneyu(value_N[right_N], value_N[~right_N]).statistic
    return float(wins / (right_N.sum() * (~right_N).sum()))


def calibration_error(share_N: np.ndarray, right_N: np.ndarray) -> float:
    """The mean distance of what is claimed and the share that is right, over bins by size."""
    place_N = np.minimum((share_N * BINS).astype(int), BINS - 1)
    gaps = np.bincount(place_N, weights=share_N - right_N, minlength=BINS)
    return float(np.abs(gaps).sum() / len(share_N))
