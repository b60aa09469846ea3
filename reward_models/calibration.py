"""How far a reward's margins can be believed: of pairs it calls 80 %, is it right about 80 %?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

BINS = 10


@dataclass(frozen=True)
class Figures:
    """Of a reward's margins (chosen minus rejected, in logits) on `pairs`.

    `accuracy` is the share of margins above 0, ties counting half; `log_loss` is in nats (0.693
    says nothing); `brier` is the mean squared error of the probability given to the chosen answer
    (0.25 says nothing); `ece` the expected calibration error (Guo et al., 2017, arXiv:1706.04599):
    how far, on average, the share of right calls is from the confidence given, in `BINS` bins of
    confidence from 0.5 to 1. `low` to `high` is the accuracy's 95 % Wilson interval.
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
    right = [0.5 if m == 0 else float(m > 0) for m in margins]
    sure = [_sigmoid(m) for m in margins]
    accuracy = fmean(right)
    low, high = wilson(accuracy, len(margins))
    return Figures(
        len(margins),
        accuracy,
        low,
        high,
        fmean(_softplus(-m) for m in margins),
        fmean((1 - p) ** 2 for p in sure),
        _ece([max(p, 1 - p) for p in sure], right),
    )


def wilson(share: float, count: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % interval of a share of `count` (Wilson, 1927)."""
    middle = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def _ece(confidence: Sequence[float], right: Sequence[float]) -> float:
    bins: dict[int, list[tuple[float, float]]] = {}
    for sure, hit in zip(confidence, right, strict=True):
        place = min(BINS - 1, int((sure - 0.5) * 2 * BINS))
        bins.setdefault(place, []).append((sure, hit))
    gaps = (abs(sum(s - h for s, h in rows)) for rows in bins.values())
    return sum(gaps) / len(right)


def _sigmoid(x: float) -> float:
    return math.exp(-_softplus(-x))


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
