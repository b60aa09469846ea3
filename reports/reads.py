"""How often the test split was read. Dev chooses, test judges: a second reading can choose, too."""

from __future__ import annotations

import json

import pandas as pd

from reports import escape
from reports.load import ReportError, Run

READS = ("arm", "seed", "test_reads")
TOLD = ("against", "n", "of", "delta", "high", "alpha")
STOPPED = ("arm", "seed", "against", "n", "of", "delta", "delta_at_most", "alpha")


def reads(run: Run) -> pd.DataFrame:
    """How often test judged an arm of this name and seed, one row each; columns `READS`.

    It was judged again when its chain, its task or its sampling changed after the last time.
    """
    rows = [(arm.arm, arm.seed, arm.test_reads) for arm in run.arms]
    return pd.DataFrame(rows, columns=pd.Index(READS))


def reads_markdown(run: Run) -> str:
    """One line where test judged every arm once; else who was judged how often, and the catch."""
    again = [arm for arm in run.arms if arm.test_reads > 1]
    if not again:
        return "Test was read once for each arm.\n"
    named = ", ".join(
        f"{arm.test_reads} times for **{escape.markdown(arm.arm)}** (seed {arm.seed})"
        for arm in again
    )
    rest = "; once for each other arm" if len(again) < len(run.arms) else ""
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
    path = run.path / "arms.json"
    try:
        listed = [row for row in json.loads(path.read_text("utf-8")) if row.get("stopped")]
        rows = [(row["arm"], row["seed"], *map(row["stopped"].get, TOLD)) for row in listed]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ReportError(f"{path} cannot be read ({error}); run the spec again") from error
    return pd.DataFrame(rows, columns=pd.Index(STOPPED))
