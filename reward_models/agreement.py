"""How far a reward agrees with the task's score, on answers for which both are known.

All figures come with 95 % intervals over examples: the answers to one question are not independent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from reward_models.calibration import gold_agreement
from reward_models.margins import figures
from reward_models.rules import Line, judged, noted

RESAMPLES = 1000
TIE = 1e-9
UNKNOWN = (float("nan"), float("nan"), float("nan"))  # no value, and no interval
THIRDS = ("smallest", "middle", "largest")
FEWEST_PAIRS = 12  # in a third, without which it says nothing
FEWEST_EXAMPLES = 8  # that have a say, without which there is no interval: they may all be alike


@dataclass(frozen=True, eq=False)
class Sample:
    """Answers with reward, score and length, one an entry; `group_A` numbers their examples."""

    reward_A: np.ndarray
    score_A: np.ndarray
    correct_A: np.ndarray
    length_A: np.ndarray
    group_A: np.ndarray

    @classmethod
    def of(
        cls,
        reward: ArrayLike,
        score: ArrayLike,
        correct: ArrayLike,
        length: ArrayLike,
        example_id: Sequence[str],
    ) -> Sample:
        group_A = np.unique(np.asarray(example_id, dtype=object), return_inverse=True)[1]
        reward_A, score_A, length_A = (np.asarray(x, float) for x in (reward, score, length))
        return cls(reward_A, score_A, np.asarray(correct, bool), length_A, group_A)

    def where(self, keep_A: np.ndarray) -> Sample:
        """The answers kept."""
        return Sample(*(getattr(self, field.name)[keep_A] for field in fields(self)))

    @property
    def examples(self) -> int:
        return int(self.group_A.max()) + 1 if len(self.group_A) else 0


def agreement(sample: Sample, seed: int = 0, *, logits: bool = False) -> list[Line]:
    """Pairs in order, AUC, rank correlations, pairs by margin, and calibration: of margins as
    `logits`, or of rewards in [0, 1]."""
    pairs = _pairs(sample)
    return [
        *_in_order(sample, pairs, seed),
        _auc(sample, seed),
        *_by_margin(sample, pairs, seed),
        *_correlations(sample, pairs, seed),
        *(_calibration_of_margins(pairs) if logits else _calibration(sample)),
    ]


def pairs_in_order(sample: Sample, seed: int = 0) -> Line:
    """The share of pairs to the same question in which the better answer is paid more."""
    return _in_order(sample, _pairs(sample), seed)[0]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Every two answers to the same question whose scores differ: the better one's reward minus the
    other's, their example, and whether one is correct and the other not. `untied` counts the pairs
    whose rewards differ, whatever their scores."""

    margin_P: np.ndarray
    group_P: np.ndarray
    crossing_P: np.ndarray
    untied: int


def _pairs(sample: Sample) -> Pairs:
    first, second = [], []
    for places in _places(sample.group_A):
        a, b = np.triu_indices(len(places), 1)
        first.append(places[a])
        second.append(places[b])
    i_P, j_P = (np.concatenate(x) if x else np.zeros(0, int) for x in (first, second))
    apart_P = sample.score_A[i_P] - sample.score_A[j_P]
    keep_P = np.abs(apart_P) > TIE
    untied = int((np.abs(sample.reward_A[i_P] - sample.reward_A[j_P]) > TIE).sum())
    i_P, j_P, apart_P = i_P[keep_P], j_P[keep_P], apart_P[keep_P]
    margin_P = (sample.reward_A[i_P] - sample.reward_A[j_P]) * np.sign(apart_P)
    crossing_P = sample.correct_A[i_P] != sample.correct_A[j_P]
    return Pairs(margin_P, sample.group_A[i_P], crossing_P, untied)


def _places(group_A: np.ndarray) -> list[np.ndarray]:
    order_A = np.argsort(group_A, kind="stable")
    ends = np.flatnonzero(np.diff(group_A[order_A])) + 1
    return np.split(order_A, ends)


def _in_order(sample: Sample, pairs: Pairs, seed: int) -> list[Line]:
    """Of two answers to one question, is the better one paid more? Ties count half."""
    won_P = _won(pairs.margin_P)
    found = []
    for check, keep_P, what in (
        ("pairs in order", np.ones(len(won_P), bool), "pairs of answers with different scores"),
        ("AUC, same question", pairs.crossing_P, "pairs of a right and a wrong answer"),
    ):
        count, by = int(keep_P.sum()), pairs.group_P[keep_P]
        value, low, high = _share(won_P[keep_P], by, sample.examples, seed)
        said = f"{what} to the same question, of {len(np.unique(by))} examples"
        found.append(judged("pairs", check, value, low, high, count, said))
    if not pairs.crossing_P.any():
        found[1] = noted(*_nothing(found[1]))
    return found


def _nothing(line: Line) -> tuple[Any, ...]:
    return line.check, line.value, line.low, line.high, line.n, "no pair of a right and a wrong one"


def _won(margin_P: np.ndarray) -> np.ndarray:
    return np.where(np.abs(margin_P) <= TIE, 0.5, margin_P > 0).astype(float)


def _auc(sample: Sample, seed: int) -> Line:
    """Of any right and any wrong answer, is the right one paid more? Ties count half."""
    right, wrong = int(sample.correct_A.sum()), int((~sample.correct_A).sum())
    said = f"answers, {right} right and {wrong} wrong, whatever was asked"
    if not right or not wrong:
        return noted("AUC, all answers", *UNKNOWN, right + wrong, f"{said}: no pair")
    value = float(weighted_auc(sample, np.ones((1, sample.examples)))[0])
    sides = (sample.group_A[sample.correct_A], sample.group_A[~sample.correct_A])
    low, high = UNKNOWN[:2]
    if min(len(np.unique(side)) for side in sides) >= FEWEST_EXAMPLES:
        low, high = _interval(lambda w: weighted_auc(sample, w), sample.examples, seed)
    return judged("overall", "AUC, all answers", value, low, high, right + wrong, said)


def weighted_auc(sample: Sample, weight_RE: np.ndarray) -> np.ndarray:
    """The AUC for each row of weights of the examples; NaN where one side weighs nothing."""
    order_A = np.argsort(sample.reward_A, kind="stable")
    value_A, right_A = sample.reward_A[order_A], sample.correct_A[order_A]
    weight_RA = weight_RE[:, sample.group_A[order_A]]
    start = np.flatnonzero(np.append(True, np.diff(value_A) > TIE))  # of each value
    right_RV = np.add.reduceat(weight_RA * right_A, start, axis=1)
    wrong_RV = np.add.reduceat(weight_RA * ~right_A, start, axis=1)
    below_RV = np.cumsum(wrong_RV, axis=1) - wrong_RV
    won_R = (right_RV * (below_RV + wrong_RV / 2)).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return won_R / (right_RV.sum(axis=1) * wrong_RV.sum(axis=1))


def _by_margin(sample: Sample, pairs: Pairs, seed: int) -> list[Line]:
    """Pairs in order, by thirds of the difference that the reward sees."""
    size_P = np.abs(pairs.margin_P)
    if len(size_P) < len(THIRDS) * FEWEST_PAIRS:
        return []
    third_P = np.searchsorted(np.quantile(size_P, [1 / 3, 2 / 3]), size_P, side="left")
    found = []
    for number, name in enumerate(THIRDS):
        keep_P = third_P == number
        if keep_P.sum() < FEWEST_PAIRS:  # most margins are equal
            continue
        won_P = _won(pairs.margin_P[keep_P])
        value, low, high = _share(won_P, pairs.group_P[keep_P], sample.examples, seed)
        span = f"{size_P[keep_P].min():.3g} to {size_P[keep_P].max():.3g}"
        row = (f"pairs in order, {name} margins", value, low, high, int(keep_P.sum()))
        said = f"pairs whose rewards differ by {span}"
        last = name == THIRDS[-1]
        found.append(judged("confident", *row, said) if last else noted(*row, said))
    return found


def _correlations(sample: Sample, pairs: Pairs, seed: int) -> list[Line]:
    from scipy import stats

    found = []
    reward_A, score_A = (
        _ranked_within(x, sample.group_A) for x in (sample.reward_A, sample.score_A)
    )
    rho, both = _correlation_within(reward_A, score_A, sample, seed)
    said = "examples on which reward and score both vary; mean over them"
    found.append(noted("Spearman, same question", *rho, both, said))
    if np.ptp(sample.reward_A) > 0 and np.ptp(sample.score_A) > 0:
        count = len(sample.reward_A)
        for name, correlate in (("Spearman", stats.spearmanr), ("Kendall", stats.kendalltau)):
            value = float(correlate(sample.reward_A, sample.score_A).statistic)  # type: ignore[attr-defined]
            found.append(noted(f"{name}, all answers", value, np.nan, np.nan, count, "answers"))
    if len(pairs.margin_P) and pairs.untied:
        ahead = float(np.sign(np.where(np.abs(pairs.margin_P) <= TIE, 0, pairs.margin_P)).sum())
        tau = ahead / float(np.sqrt(len(pairs.margin_P) * pairs.untied))
        said = "pairs to the same question with different scores: tau-b over them all"
        row = ("Kendall, same question", tau, np.nan, np.nan, len(pairs.margin_P))
        found.insert(1, noted(*row, said))
    return found


def _ranked_within(value_A: np.ndarray, group_A: np.ndarray) -> np.ndarray:
    """Average ranks within each example, centred."""
    from scipy.stats import rankdata

    ranked_A = np.empty(len(value_A))
    for places in _places(group_A):
        ranked = rankdata(value_A[places])
        ranked_A[places] = ranked - ranked.mean()
    return ranked_A


def _correlation_within(
    x_A: np.ndarray, y_A: np.ndarray, sample: Sample, seed: int
) -> tuple[tuple[float, float, float], int]:
    xy_E, xx_E, yy_E = (
        np.bincount(sample.group_A, product, sample.examples)
        for product in (x_A * y_A, x_A**2, y_A**2)
    )
    vary_E = (xx_E > TIE) & (yy_E > TIE)
    rho_E = np.where(vary_E, xy_E / np.sqrt(np.where(vary_E, xx_E * yy_E, 1)), 0)
    return _ratio(rho_E, vary_E.astype(float), seed), int(vary_E.sum())


def length_correlation(sample: Sample, seed: int = 0) -> Line:
    """The partial rank correlation of reward and length, given score, correctness and example.

    Ranks among all answers, centred within each example, and what score and correctness explain of
    either taken out by least squares.
    """
    from scipy.stats import rankdata

    def centred(value_A: np.ndarray) -> np.ndarray:
        mean_E = np.bincount(sample.group_A, value_A) / np.bincount(sample.group_A)
        return value_A - mean_E[sample.group_A]

    known = [rankdata(sample.score_A), sample.correct_A.astype(float)]
    given_AK = np.stack([centred(column) for column in known], axis=1)

    def left_over(value_A: np.ndarray) -> np.ndarray:
        own_A = centred(rankdata(value_A))
        return own_A - given_AK @ np.linalg.lstsq(given_AK, own_A, rcond=None)[0]

    x_A, y_A = left_over(sample.length_A), left_over(sample.reward_A)
    sums = [
        np.bincount(sample.group_A, product, sample.examples)
        for product in (x_A * y_A, x_A**2, y_A**2)
    ]
    count, said = len(x_A), "answers; at equal score, to the same question"
    if min(np.sqrt(sums[1].sum()), np.sqrt(sums[2].sum())) < 1e-6 * count:
        return judged("length", "length", 0.0, 0.0, 0.0, count, f"{said}: one of them never varies")

    def correlated(weight_RE: np.ndarray) -> np.ndarray:
        xy_R, xx_R, yy_R = (weight_RE @ sum_E for sum_E in sums)
        return xy_R / np.sqrt(np.maximum(xx_R * yy_R, TIE))

    value = float(correlated(np.ones((1, sample.examples)))[0])
    low, high = _interval(correlated, sample.examples, seed)
    return judged("length", "length", value, low, high, count, said)


def _calibration(sample: Sample) -> list[Line]:
    """Of a reward in [0, 1] that is no mere 0 or 1: how far it is from the share that is right."""
    reward_A, nothing = sample.reward_A, (np.nan, np.nan)
    inside = reward_A.min() >= 0 and reward_A.max() <= 1
    if not inside or len(np.unique(reward_A)) < 3:
        return []
    found = gold_agreement(reward_A.tolist(), sample.correct_A.tolist())
    kappa = (found.kappa, found.kappa_low, found.kappa_high)
    said = "answers; above 1/2 against right, beyond chance"
    return [
        noted("Cohen's kappa", *kappa, found.given, said),
        noted("calibration error", found.ece, *nothing, found.given, "answers, in ten bins"),
        noted("Brier score", found.brier, *nothing, found.given, "answers; 0.25 is always 1/2"),
    ]


def _calibration_of_margins(pairs: Pairs) -> list[Line]:
    """Of a Bradley-Terry model: is a pair that it calls 80 % in order in about 80 %?"""
    if not len(pairs.margin_P):
        return []
    found, nothing = figures(pairs.margin_P.tolist()), (np.nan, np.nan)
    said = "pairs; how far the share in order is from what the margins claim"
    return [
        noted("calibration error", found.ece, *nothing, found.pairs, said),
        noted("Brier score", found.brier, *nothing, found.pairs, "pairs; 0.25 is guessing"),
    ]


def _share(
    won_P: np.ndarray, group_P: np.ndarray, examples: int, seed: int
) -> tuple[float, float, float]:
    """The mean of `won_P`, and its interval over examples."""
    won_E = np.bincount(group_P, won_P, examples)
    return _ratio(won_E, np.bincount(group_P, minlength=examples).astype(float), seed)


def _ratio(top_E: np.ndarray, under_E: np.ndarray, seed: int) -> tuple[float, float, float]:
    """sum(top) / sum(under) over examples, with its interval; NaN where there is nothing."""
    if under_E.sum() == 0:
        return np.nan, np.nan, np.nan
    value = float(top_E.sum() / under_E.sum())
    if (under_E > 0).sum() < FEWEST_EXAMPLES:
        return value, *UNKNOWN[:2]

    def ratio(weight_RE: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return (weight_RE @ top_E) / (weight_RE @ under_E)

    return value, *_interval(ratio, len(top_E), seed)


def mean_over_examples(
    value_A: np.ndarray, group_A: np.ndarray, seed: int = 0
) -> tuple[float, float, float]:
    """The mean of values, and its 95 % interval when examples are drawn anew."""
    if not len(value_A):
        return np.nan, np.nan, np.nan
    code_A = np.unique(group_A, return_inverse=True)[1]
    return _share(value_A, code_A, int(code_A.max()) + 1, seed)


def _interval(
    of: Callable[[np.ndarray], np.ndarray], examples: int, seed: int
) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval over examples; NaN of few."""
    if examples < FEWEST_EXAMPLES:
        return UNKNOWN[:2]
    drawn_RE = np.random.default_rng(seed).multinomial(
        examples, np.full(examples, 1 / examples), RESAMPLES
    )
    found_R = of(drawn_RE.astype(float))
    found_R = found_R[~np.isnan(found_R)]
    if not len(found_R):
        return np.nan, np.nan
    low, high = np.percentile(found_R, [2.5, 97.5])
    return float(low), float(high)
