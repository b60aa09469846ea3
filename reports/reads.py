"""How often the test split was read. Dev chooses, test judges: a second reading can choose, too."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from reports import escape
from reports.load import ReportError, Run

READS = ("arm", "seed", "test_reads")
TOLD = ("against", "n", "of", "delta", "high", "alpha")
STOPPED = ("arm", "seed", "against", "n", "of", "delta", "delta_at_most", "alpha")


def listed(run: Run) -> list[dict[str, Any]]:
    """The rows of arms.json: all arms, also those that are not evaluated. Raises ReportError."""
    path = run.path / "arms.json"
    try:
        return [dict(row) for row in json.loads(path.read_text("utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise ReportError(f"{path} cannot be read ({error}); run the spec again") from error


def reads(run: Run) -> pd.DataFrame:
    """How often test judged an arm of this name and seed, one row each; columns `READS`.

    It was judged again when its chain, its task or its sampling changed after the last time. Arms
    that `stop_early` stopped were judged, too.
    """
    evaluated = {(arm.arm, arm.seed) for arm in run.arms}
    rows = [
        (row["arm"], row["seed"], row.get("test_reads", 1))
        for row in listed(run)
        if (row["arm"], row["seed"]) in evaluated or row.get("stopped")
    ]
    return pd.DataFrame(rows, columns=pd.Index(READS))


def reads_markdown(run: Run) -> str:
    """One line where test judged every arm once; else who was judged how often, and the catch."""
    counts = reads(run)
    again = counts[counts["test_reads"] > 1]
    if again.empty:
        return "Test was read once for each arm.\n"
    named = ", ".join(
        f"{count} times for **{escape.markdown(str(arm))}** (seed {seed})"
        for arm, seed, count in again.itertuples(index=False)
    )
    rest = "; once for each other arm" if len(again) < len(counts) else ""
    return (
        f"> **Test was read more than once**: {named}{rest}. Whoever changed these arms in between "
        "could know how they had scored, so test may have helped to choose them: their scores "
        "may be too good and their p too small. `tasklift recheck` asks examples that no "
        "reading has seen.\n"
    )


def stopped(run: Run) -> pd.DataFrame:
    """Arms whose evaluation `stop_early` ended as clearly worse, one row each; columns `STOPPED`.

    After `n` of `of` test examples the arm scored `delta` more than the arm `against` on the same
    ones, in score units. With a chance of 1 - `alpha` the true difference is below `delta_at_most`,
    however often it was looked at. Such an arm stands in no other table.
    """
    told = [row for row in listed(run) if row.get("stopped")]
    rows = [(row["arm"], row["seed"], *map(row["stopped"].get, TOLD)) for row in told]
    return pd.DataFrame(rows, columns=pd.Index(STOPPED))
