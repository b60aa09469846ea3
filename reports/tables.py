"""The two tables that answer the question: each arm against the baseline, and every pair of arms.

All comparisons of a report (every pair of arms at every seed) are one Holm family, and both
tables show the same adjusted p for the same pair: looking at a second table finds nothing new.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations
from statistics import fmean

import pandas as pd

from evaluation.compare import Comparison, adjust, compare, score_interval
from reports.load import Arm, ReportError, Run

SUMMARY = (
    *("arm", "seed", "n", "score", "ci_low", "ci_high"),
    *("delta", "delta_low", "delta_high", "p", "p_adjusted", "fixed", "broken"),
    *("rollouts", "completion_tokens", "train_steps", "seconds"),
)
PAIRS = (
    *("arm_a", "arm_b", "seed", "n", "delta", "delta_low", "delta_high"),
    *("p", "p_adjusted", "fixed", "broken"),
)
Pair = tuple[str, str, int]  # arm a, arm b, seed


@lru_cache(maxsize=1)
def comparisons(run: Run) -> dict[Pair, Comparison]:
    """Every pair of arms at every seed, b against a, a first in the spec; one Holm family.

    Raises ReportError when two arms of one seed answered different examples.
    """
    found: dict[Pair, Comparison] = {}
    for a, b in _pairs(run):
        try:
            found[a.arm, b.arm, a.seed] = compare(_scores(run, a), _scores(run, b))
        except ValueError as error:
            raise ReportError(f"{run.path}: {a.arm} and {b.arm}, seed {a.seed}: {error}") from error
    return dict(zip(found, adjust(list(found.values())), strict=True))


def summary(run: Run) -> pd.DataFrame:
    """One row for each arm and seed, columns `SUMMARY`.

    `score`, its 95 % interval and `delta` are in score units. Deltas, p, fixed and broken are
    against the baseline arm at the same seed, and missing for the baseline itself. Costs add up
    along the arm's chain of stages, shared stages in full; answers drawn to evaluate are not
    counted, but `seconds` is the stages' wall time, scoring on dev included.
    """
    frame = pd.DataFrame([_row(run, arm) for arm in run.arms], columns=pd.Index(SUMMARY))
    return frame.astype({"fixed": "Int64", "broken": "Int64"})  # whole numbers, some missing


def pairs(run: Run) -> pd.DataFrame:
    """One row for each pair of arms and seed, columns `PAIRS`; `delta` is arm_b minus arm_a."""
    rows = [
        {"arm_a": a, "arm_b": b, "seed": seed, "n": found.n, **_against(found)}
        for (a, b, seed), found in comparisons(run).items()
    ]
    return pd.DataFrame(rows, columns=pd.Index(PAIRS))


def pair(run: Run, a: str, b: str) -> pd.DataFrame:
    """Arm b against arm a at each seed they share, columns `PAIRS`, p of the whole family.

    Raises ReportError when they share none.
    """
    seeds = dict.fromkeys(arm.seed for arm in run.arms)
    met = [(seed, found) for seed in seeds if (found := versus(run, a, b, seed)) is not None]
    if not met:
        raise ReportError(f"{run.path}: {a} and {b} share no seed")
    rows = [{"arm_a": a, "arm_b": b, "seed": s, "n": f.n, **_against(f)} for s, f in met]
    return pd.DataFrame(rows, columns=pd.Index(PAIRS))


def versus(run: Run, a: str, b: str, seed: int) -> Comparison | None:
    """Arm b against arm a, whichever of them the spec names first; None if they never met."""
    family = comparisons(run)
    if (found := family.get((a, b, seed))) is not None:
        return found
    found = family.get((b, a, seed))
    return None if found is None else found.reversed()


def best_arm(run: Run, but: str | None = None) -> str:
    """The arm (`but` aside) with the highest score over its seeds; the first among equals.

    Raises ReportError when no arm is left to choose from.
    """
    names = [name for name in run.arm_names if name != but]
    if not names:
        raise ReportError(f"{run.path}: {but} is the only arm evaluated; nothing to compare it to")
    return max(names, key=lambda name: fmean(arm_scores(run, name)))


def arm_scores(run: Run, name: str) -> list[float]:
    """The mean score of an arm at each of its seeds."""
    return [float(_scores(run, arm).mean()) for arm in run.arms if arm.arm == name]


def _pairs(run: Run) -> Iterator[tuple[Arm, Arm]]:
    return ((a, b) for a, b in combinations(run.arms, 2) if a.seed == b.seed)


def _scores(run: Run, arm: Arm) -> pd.Series:
    return run.scores[arm.eval]


def _row(run: Run, arm: Arm) -> dict[str, object]:
    scores = _scores(run, arm)
    low, high = score_interval(scores)
    chain = [run.stages[key].ledger for key in arm.stages]
    return {
        "arm": arm.arm,
        "seed": arm.seed,
        "n": len(scores),
        "score": float(scores.mean()),
        "ci_low": low,
        "ci_high": high,
        **_against(versus(run, run.baseline, arm.arm, arm.seed)),
        "rollouts": sum(ledger.rollouts for ledger in chain),
        "completion_tokens": sum(ledger.completion_tokens for ledger in chain),
        "train_steps": sum(ledger.optimizer_steps for ledger in chain),
        "seconds": sum(ledger.wall_seconds for ledger in chain),
    }


def _against(found: Comparison | None) -> dict[str, object]:
    if found is None:
        return {}
    return {
        "delta": found.delta,
        "delta_low": found.low,
        "delta_high": found.high,
        "p": found.p,
        "p_adjusted": found.p_adjusted,
        "fixed": found.fixed,
        "broken": found.broken,
    }
