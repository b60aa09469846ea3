"""Format or capability: what an arm's gain over another is made of, as a table and in words."""

from __future__ import annotations

from dataclasses import asdict, fields
from itertools import combinations
from typing import Literal

import pandas as pd

from evaluation.format_split import FormatSplit, Paired, Told, paired, split, told
from reports.load import Arm, ReportError, Run
from reports.once import once_a_run
from reports.render import points

FORMAT = ("arm_a", "arm_b", "seed", "by", *(field.name for field in fields(FormatSplit)))


def formats(run: Run) -> pd.DataFrame:
    """Each pair of arms at each seed, b minus a, columns `FORMAT`.

    `by` is *correct*, the share of right answers, and where scores are graded a second row splits
    the mean *score*. `delta` is `format` + `capability` + `error`, in units of the score.
    Raises ReportError when two arms of one seed have no answer in common.
    """
    met = [(a, b) for a, b in combinations(run.arms, 2) if a.seed == b.seed]
    rows = [row for a, b in met for row in _rows(run, a, b)]
    return pd.DataFrame(rows, columns=pd.Index(FORMAT))


def splits_between(run: Run, a: str, b: str) -> dict[int, FormatSplit]:
    """Arm b against arm a by seed, whichever the spec names first: shares of right answers."""
    met = [(x, y) for x in run.arms for y in run.arms if (x.arm, y.arm) == (a, b)]
    return {x.seed: _split(run, x, y, "correct") for x, y in met if x.seed == y.seed}


def format_in_words(run: Run, a: str, b: str) -> str:
    """'9.0 of its +14.0 points are format, …', averaged over the seeds; '' without a gain."""
    met = list(splits_between(run, a, b).values())
    if not met:
        return ""
    delta, formal, able = (
        sum(getattr(split, name) for split in met) / len(met)
        for name in ("delta", "format", "capability")
    )
    if delta <= 0:
        return ""
    return (
        f"Of {points(delta)} points of right answers {points(formal)} are format (the form "
        f"asked for) and {points(able)} capability"
    )


def _rows(run: Run, a: Arm, b: Arm) -> list[dict[str, object]]:
    named: dict[str, object] = {"arm_a": a.arm, "arm_b": b.arm, "seed": a.seed}
    rows = [{**named, "by": "correct", **asdict(_split(run, a, b, "correct"))}]
    if _graded(run, a) or _graded(run, b):
        rows.append({**named, "by": "score", **asdict(_split(run, a, b, "score"))})
    return rows


def _graded(run: Run, arm: Arm) -> bool:
    found = _told(run, arm.eval)
    return bool((found.score_A != found.correct_A).any())


def _split(run: Run, a: Arm, b: Arm, by: Literal["correct", "score"]) -> FormatSplit:
    try:
        # answers are paired by what was asked, which many arms have in common
        both = _paired(run, run.alike[a.eval], run.alike[b.eval])
    except ValueError as error:
        raise ReportError(f"{run.path}: {a.arm} and {b.arm}, seed {a.seed}: {error}") from error
    return split(_told(run, a.eval), _told(run, b.eval), both, by)


@once_a_run
def _told(run: Run, key: str) -> Told:
    return told(run.answers[key], run.format_failures)


@once_a_run
def _paired(run: Run, a: str, b: str) -> Paired:
    return paired(run.answers[a], run.answers[b])
