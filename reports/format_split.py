"""Format or capability: what an arm's gain over another is made of, as a table and in words."""

from __future__ import annotations

from dataclasses import asdict, fields
from itertools import combinations

import pandas as pd

from evaluation.format_split import FormatSplit, format_split
from reports.load import Arm, ReportError, Run
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
    frame = run.answers[arm.eval]
    return bool((frame["score"] != frame["correct"]).any())


def _split(run: Run, a: Arm, b: Arm, by: str) -> FormatSplit:
    try:
        answers = run.answers[a.eval], run.answers[b.eval]
        return format_split(*answers, run.format_failures, "score" if by == "score" else "correct")
    except ValueError as error:
        raise ReportError(f"{run.path}: {a.arm} and {b.arm}, seed {a.seed}: {error}") from error
