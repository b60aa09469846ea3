"""The tables that answer the question: each arm against the baseline, and every pair of arms.

An arm's score and its difference to another are means over its seeds, with what varies between
seeds in their intervals. All comparisons of a report (one for each pair of arms) are one Holm
family, and every table shows the same adjusted p for the same pair: looking at a second table finds
nothing new. Single seeds are there to be looked at, without p.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from statistics import fmean
from typing import TypeVar

import pandas as pd

from evaluation.compare import Comparison, adjust, compare
from evaluation.seeds import Estimate, compare_seeds, score_seeds
from reports.load import Arm, ReportError, Run
from reports.once import once_a_run

SUMMARY = (
    *("arm", "seeds", "n", "score", "ci_low", "ci_high", "seed_sd"),
    *("delta", "delta_low", "delta_high", "p", "p_adjusted", "fixed", "broken"),
    *("rollouts", "completion_tokens", "train_steps", "seconds"),
)
PAIRS = (
    *("arm_a", "arm_b", "seeds", "n", "delta", "delta_low", "delta_high", "seed_sd"),
    *("p", "p_adjusted", "fixed", "broken"),
)
SEEDS = (
    *("arm", "seed", "n", "score", "ci_low", "ci_high"),
    *("delta", "delta_low", "delta_high", "fixed", "broken"),
    *("rollouts", "completion_tokens", "train_steps", "seconds"),
)
COSTS = SUMMARY[-4:]
T = TypeVar("T")
Pair = tuple[str, str]  # arm a, arm b


@once_a_run
def comparisons(run: Run) -> dict[Pair, Comparison]:
    """Every pair of arms over the seeds they share, b against a, a first in the spec.

    One Holm family; pairs that share no seed are left out. Raises ReportError when two arms
    answered different examples.
    """
    found: dict[Pair, Comparison] = {}
    for a, b in combinations(run.arm_names, 2):
        if shared_seeds(run, a, b):
            found[a, b] = _compared(run, a, b)
    return dict(zip(found, adjust(list(found.values())), strict=True))


@once_a_run
def summary(run: Run) -> pd.DataFrame:
    """One row for each arm, columns `SUMMARY`.

    `score`, its 95 % interval, `seed_sd` (the standard deviation of the seeds' scores, missing for
    one seed) and `delta` are in score units. Deltas, p, fixed and broken are against the baseline
    arm over the seeds both have, and missing for the baseline itself. Costs are a seed's, on
    average; they add up along the arm's chain of stages, shared stages in full. Answers drawn to
    evaluate are not counted, but `seconds` is the stages' wall time, scoring on dev included.
    """
    return _whole([_row(run, name) for name in run.arm_names], SUMMARY)


def pairs(run: Run) -> pd.DataFrame:
    """One row for each pair of arms, columns `PAIRS`; `delta` is arm_b minus arm_a.

    Scores are means over the `seeds` both arms have, for `fixed` and `broken` too; `seed_sd` is the
    standard deviation of the seeds' deltas, missing for one seed.
    """
    rows = [_pair_row(a, b, found) for (a, b), found in comparisons(run).items()]
    return pd.DataFrame(rows, columns=pd.Index(PAIRS))


def pair(run: Run, a: str, b: str, margin: float | None = None) -> pd.DataFrame:
    """Arm b against arm a over the seeds they share: one row, columns `PAIRS`, p of the family.

    With a `margin` (in score units) two more: `margin`, and `p_noninferior`, the one-sided p of "b
    is worse than a by the margin or more", not adjusted. Raises ReportError when the arms share
    no seed, and when the margin is not between 0 and 1.
    """
    found = versus(run, a, b)
    if found is None:
        raise ReportError(f"{run.path}: {a} and {b} share no seed")
    if margin is None:
        return pd.DataFrame([_pair_row(a, b, found)], columns=pd.Index(PAIRS))
    asked = _compared(run, a, b, margin)
    row = _pair_row(a, b, found) | {"margin": margin, "p_noninferior": asked.p_noninferior}
    return pd.DataFrame([row], columns=pd.Index([*PAIRS, "margin", "p_noninferior"]))


@once_a_run
def seeds(run: Run) -> pd.DataFrame:
    """One row for each arm and seed, columns `SEEDS`; deltas against the baseline at that seed.

    To look at, not to test: intervals are of that one seed's policy, and there is no p.
    """
    return _whole([_seed_row(run, arm) for arm in run.arms], SEEDS)


def versus(run: Run, a: str, b: str) -> Comparison | None:
    """Arm b against arm a, whichever of them the spec names first; None if they never met."""
    family = comparisons(run)
    if (found := family.get((a, b))) is not None:
        return found
    found = family.get((b, a))
    return None if found is None else found.reversed()


def shared_seeds(run: Run, a: str, b: str) -> list[int]:
    """The seeds at which both arms are evaluated, in the order of the spec."""
    both = {arm.seed for arm in run.arms if arm.arm == a}
    return [arm.seed for arm in run.arms if arm.arm == b and arm.seed in both]


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
    return [float(run.scores[arm.eval].mean()) for arm in run.arms if arm.arm == name]


def _compared(run: Run, a: str, b: str, margin: float | None = None) -> Comparison:
    met = shared_seeds(run, a, b)
    a_S, b_S = ([_key(run, name, seed) for seed in met] for name in (a, b))
    if len(met) == 1 and margin is None:
        return said(run, f"{a} and {b}", lambda: _at_one_seed(run, a_S[0], b_S[0]))
    unseen = 1.0 if right_or_wrong(run) else None
    scores_a, scores_b = ([run.scores[key] for key in keys] for keys in (a_S, b_S))
    return said(
        run, f"{a} and {b}", lambda: compare_seeds(scores_a, scores_b, margin=margin, unseen=unseen)
    )


@once_a_run
def _at_one_seed(run: Run, a: str, b: str) -> Comparison:
    """Two evaluations, which `summary` may compare for an arm of one seed, and `seeds` does."""
    unseen = 1.0 if right_or_wrong(run) else None
    return compare(run.scores[a], run.scores[b], unseen=unseen)


@once_a_run
def estimate(run: Run, keys: tuple[str, ...]) -> Estimate:
    """The mean score over several evaluations of an arm, one a seed."""
    return score_seeds([run.scores[key] for key in keys])


@once_a_run
def right_or_wrong(run: Run) -> bool:
    """Whether every single answer scores 0 or 1, whatever means over samples are."""
    scores = (run.answers[arm.eval]["score"].to_numpy() for arm in run.arms)
    return all(bool(((score == 0) | (score == 1)).all()) for score in scores)


def _key(run: Run, name: str, seed: int) -> str:
    [key] = [arm.eval for arm in run.arms if (arm.arm, arm.seed) == (name, seed)]
    return key


def said(run: Run, who: str, found: Callable[[], T]) -> T:
    try:
        return found()
    except ValueError as error:
        raise ReportError(f"{run.path}: {who}: {error}") from error


def _row(run: Run, name: str) -> dict[str, object]:
    arms = [arm for arm in run.arms if arm.arm == name]
    score = said(run, name, lambda: estimate(run, tuple(arm.eval for arm in arms)))
    costs = [_costs(run, arm) for arm in arms]
    return {
        "arm": name,
        "seeds": score.seeds,
        **_score(score),
        "seed_sd": score.seed_sd,
        **_against(versus(run, run.baseline, name)),
        **{what: _mean(what, [cost[what] for cost in costs]) for what in COSTS},
    }


def _pair_row(a: str, b: str, found: Comparison) -> dict[str, object]:
    about = {"arm_a": a, "arm_b": b, "seeds": found.seeds, "n": found.n, "seed_sd": found.seed_sd}
    return about | _against(found)


def _seed_row(run: Run, arm: Arm) -> dict[str, object]:
    base = [a.eval for a in run.arms if (a.arm, a.seed) == (run.baseline, arm.seed)]
    found = None
    if base and arm.arm != run.baseline:
        who = f"{arm.arm}, seed {arm.seed}"
        found = said(run, who, lambda: _at_one_seed(run, base[0], arm.eval))
    return {
        "arm": arm.arm,
        "seed": arm.seed,
        **_score(estimate(run, (arm.eval,))),
        **_against(found),
        **_costs(run, arm),
    }


def _score(found: Estimate) -> dict[str, object]:
    return {"n": found.n, "score": found.score, "ci_low": found.low, "ci_high": found.high}


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


def _costs(run: Run, arm: Arm) -> dict[str, float]:
    chain = [run.stages[key].ledger for key in arm.stages]
    return {
        "rollouts": sum(ledger.rollouts for ledger in chain),
        "completion_tokens": sum(ledger.completion_tokens for ledger in chain),
        "train_steps": sum(ledger.optimizer_steps for ledger in chain),
        "seconds": sum(ledger.wall_seconds for ledger in chain),
    }


def _mean(what: str, costs: Sequence[float]) -> float:
    """Counts stay whole numbers."""
    return fmean(costs) if what == "seconds" else round(fmean(costs))


def _whole(rows: list[dict[str, object]], columns: Sequence[str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=pd.Index(columns))
    return frame.astype({"fixed": "Int64", "broken": "Int64"})  # whole numbers, some missing
