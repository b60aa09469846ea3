"""Goodhart's curve: what the task's score does while the reward it is optimized by rises.

On the axis is how far the policy has moved, as KL divergence from where it started, in nats (Gao,
Schulman and Hilton, 2023, arXiv:2210.10760): along best-of-n from a formula, along RL estimated
from the log-probabilities of what was drawn. `proxy` is the mean reward, `gold` the mean score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import gammaln

from reward_models.agreement import mean_over_examples
from reward_models.rules import Line, judged, noted

BEST_OF_N = ("n", "kl", "proxy", "gold", "gold_low", "gold_high", "examples")
ALONG_RL = (
    *("step", "kl", "kl_k3", "proxy", "gold", "gold_low", "gold_high", "rollouts", "dev_score"),
)
TIE = 1e-9
BLOCKS = 12  # points of a curve along RL
SURE = 3.0  # standard errors: the highest of a dozen points is high by chance, too


def best_of_n_kl(n: int) -> float:
    """log n - (n - 1) / n nats: what picking the best of n answers moves a policy at most.

    It is exact where no two answers are alike, and an upper bound where they are, as in short
    answers (Beirami et al., 2024, arXiv:2401.01879).
    """
    return math.log(n) - (n - 1) / n


def best_of_n_curve(
    reward_EK: Sequence[Sequence[float]],
    score_EK: Sequence[Sequence[float]],
    seed: int = 0,
    ids: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Proxy and gold of the best of n = 1, 2, 4, … of the K answers drawn for each example.

    Unbiased (order statistics): the mean over all subsets of n answers, of which the one with the
    highest reward is taken; among equal ones any. Columns `BEST_OF_N`, 95 % intervals over
    examples. Examples may have different K; n goes up to the smallest. Rows of one of `ids` are of
    one example, answered by several policies; without them each row is an example of its own.
    """
    rows, ids_E = [], _ids(ids, len(reward_EK))
    for n in _sizes(reward_EK):
        picked_E2 = _picked_of_all(reward_EK, score_EK, n)
        gold, low, high = mean_over_examples(picked_E2[:, 1], ids_E, seed)
        proxy = float(picked_E2[:, 0].mean())
        rows.append((n, best_of_n_kl(n), proxy, gold, low, high, len(np.unique(ids_E))))
    return pd.DataFrame(rows, columns=pd.Index(BEST_OF_N))


def _ids(ids: Sequence[str] | None, count: int) -> np.ndarray:
    return np.arange(count) if ids is None else np.array(ids)


def _sizes(reward_EK: Sequence[Sequence[float]]) -> list[int]:
    """1, 2, 4, … and the most answers that every example has."""
    most = min(map(len, reward_EK), default=0)
    return sorted({2**power for power in range(most.bit_length())} | {most} - {0})


def _picked_of_all(
    reward_EK: Sequence[Sequence[float]], score_EK: Sequence[Sequence[float]], n: int
) -> np.ndarray:
    """`picked` of every example, one a row."""
    pairs = zip(reward_EK, score_EK, strict=True)
    return np.array([picked(np.asarray(r, float), np.asarray(s, float), n) for r, s in pairs])


def picked(reward_K: np.ndarray, score_K: np.ndarray, n: int) -> tuple[float, float]:
    """The expected reward and score of the best of n of these answers, drawn without replacement.

    The i-th lowest of K is the best of C(i-1, n-1) of the C(K, n) subsets; equal ones share theirs.
    """
    order_K = np.argsort(reward_K, kind="stable")
    reward_K, score_K = reward_K[order_K], score_K[order_K]
    place_K = np.arange(1, len(reward_K) + 1)
    weight_K = np.where(
        place_K >= n,
        np.exp(_log_choose(place_K - 1, n - 1) - _log_choose(np.array(len(reward_K)), n)),
        0.0,
    )
    tie_K = np.cumsum(np.append(True, np.diff(reward_K) > TIE)) - 1
    share_V = np.bincount(tie_K, weight_K) / np.bincount(tie_K)
    weight_K = share_V[tie_K]
    return float(weight_K @ reward_K), float(weight_K @ score_K)


def _log_choose(total: np.ndarray, size: int) -> np.ndarray:
    return gammaln(total + 1) - gammaln(size + 1) - gammaln(np.maximum(total - size, 0) + 1)


@dataclass(frozen=True)
class Rollout:
    """One answer of RL: the log-probability of its tokens under the policy that drew it, and under
    the policy that the stage began with."""

    step: int
    example_id: str
    reward: float
    score: float
    logprobs: Sequence[float]
    start_logprobs: Sequence[float]


def sequence_kl(logprobs: Sequence[float], start: Sequence[float]) -> tuple[float, float]:
    """Estimates k1 and k3 (Schulman, 2020) of KL(policy || start) over a whole answer, in nats.

    k1 is the sum of log-ratios d, unbiased and of either sign; k3 the sum over tokens of
    exp(-d) - 1 + d, unbiased too where tokens were drawn at temperature 1, and never below 0.
    """
    ratio_T = np.asarray(logprobs, float) - np.asarray(start, float)
    return float(ratio_T.sum()), float((np.exp(-ratio_T) - 1 + ratio_T).sum())


def rl_curve(
    rollouts: Sequence[Rollout], dev: Sequence[tuple[int, float]] = (), seed: int = 0
) -> pd.DataFrame:
    """Proxy and gold along RL, in at most `BLOCKS` blocks of steps; columns `ALONG_RL`.

    `step` is the last of the block, `kl` (k1) and `kl_k3` means over its rollouts. `dev` holds
    (step, score on dev); the last one up to the block's end is shown, NaN before the first.
    """
    kl_A2 = np.array([sequence_kl(r.logprobs, r.start_logprobs) for r in rollouts])
    step_A = np.array([r.step for r in rollouts])
    ids_A = np.array([r.example_id for r in rollouts], dtype=object)
    proxy_A, gold_A = (np.array([getattr(r, n) for r in rollouts]) for n in ("reward", "score"))
    steps = np.unique(step_A)
    rows = []
    for block in np.array_split(steps, min(BLOCKS, len(steps))):
        own_A = np.isin(step_A, block)
        seen = [score for step, score in dev if step <= block[-1]]
        kl, kl_k3 = kl_A2[own_A].mean(axis=0)
        rows.append(
            (
                *(int(block[-1]), float(kl), float(kl_k3), float(proxy_A[own_A].mean())),
                *mean_over_examples(gold_A[own_A], ids_A[own_A], seed),
                *(int(own_A.sum()), seen[-1] if seen else math.nan),
            )
        )
    return pd.DataFrame(rows, columns=pd.Index(ALONG_RL))


def best_of_n_lines(
    reward_EK: Sequence[Sequence[float]],
    score_EK: Sequence[Sequence[float]],
    seed: int = 0,
    ids: Sequence[str] | None = None,
) -> list[Line]:
    """Does the score rise with n, and does it fall again? Paired by example; `ids` as above."""
    sizes, ids_E = _sizes(reward_EK), _ids(ids, len(reward_EK))
    count = len(np.unique(ids_E))
    if len(sizes) < 2 or count < 2:
        return []
    gold_EN = np.stack([_picked_of_all(reward_EK, score_EK, n)[:, 1] for n in sizes], axis=1)
    gain_E = gold_EN[:, -1] - gold_EN[:, 0]
    gain = mean_over_examples(gain_E, ids_E, seed)
    said = f"examples; rise of the score from one answer to the best of {sizes[-1]}"
    peak = int(gold_EN.mean(axis=0).argmax())
    fall_E = gold_EN[:, peak] - gold_EN[:, -1]
    error = _clustered_error(fall_E, ids_E)
    span = f"best of {sizes[peak]} to {sizes[-1]}"
    return [
        noted(f"best of {sizes[-1]}", *gain, count, said),
        _fall(float(fall_E.mean()), error, count, "examples", span),
    ]


def _clustered_error(value_E: np.ndarray, ids_E: np.ndarray) -> float:
    """The standard error of the mean of rows of which those of one example go together."""
    code_E = np.unique(ids_E, return_inverse=True)[1]
    sum_C = np.bincount(code_E, value_E - value_E.mean())
    return float(math.sqrt(len(sum_C) / (len(sum_C) - 1) * (sum_C**2).sum()) / len(value_E))


def rl_line(curve: pd.DataFrame) -> list[Line]:
    """Does the score fall below its peak while the reward does not?"""
    if len(curve) < 3:
        return []
    last, peak = curve.iloc[-1], curve.loc[curve["gold"].idxmax()]
    error = math.hypot(*((row["gold_high"] - row["gold_low"]) / 3.92 for row in (last, peak)))
    drop = float(peak["gold"] - last["gold"]) if last["proxy"] >= peak["proxy"] - TIE else 0.0
    span = f"step {int(peak['step'])} to {int(last['step'])}"
    return [_fall(drop, error, int(last["rollouts"]), "rollouts", span)]


def _fall(drop: float, error: float, n: int, what: str, span: str) -> Line:
    low, high = drop - SURE * error, drop + SURE * error
    said = f"{what}; fall of the score from its peak to the end, {span}, while the reward rose"
    said = said if drop > 0 else f"{what}; the score is at its peak, or fell with the reward"
    return judged("overoptimized", "score past its peak", drop, low, high, n, said)
