"""How far a reward's margins can be believed: of pairs it calls 80 %, is it right about 80 %?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.intervals import share_interval
from reward_models.calibration import calibration_error


@dataclass(frozen=True)
class Figures:
    """Of a reward's margins (chosen minus rejected, in logits) on `pairs`.

    `accuracy` is the share of margins above 0, ties counting half, `low` to `high` its 95 %
    interval; `log_loss` is in nats (0.693 says nothing); `brier` is the mean squared error of the
    probability given to the chosen answer (0.25 says nothing); `ece` how far, on average, the share
    of right calls is from the confidence given (`calibration_error`).
    """

    pairs: int
    accuracy: float
    low: float
    high: float
    log_loss: float
    brier: float
    ece: float


def figures(margins: Sequence[float]) -> Figures:
    """Raises ValueError when there is no margin."""
    if not margins:
        raise ValueError("no margins")
    margin_P = np.asarray(margins, dtype=float)
    right_P = np.where(margin_P == 0, 0.5, margin_P > 0)
    loss_P = np.logaddexp(0.0, -margin_P)
    sure_P = np.exp(-loss_P)  # sigmoid
    low, high = share_interval(int(right_P.sum()), len(margin_P))
    return Figures(
        pairs=len(margin_P),
        accuracy=float(right_P.mean()),
        low=low,
        high=high,
        log_loss=float(loss_P.mean()),
        brier=float(np.mean((1 - sure_P) ** 2)),
        ece=calibration_error(np.maximum(sure_P, 1 - sure_P), right_P),
    )
