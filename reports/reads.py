"""How often the test split was read. Dev chooses, test judges: a second reading can choose, too."""

from __future__ import annotations

import pandas as pd

from reports import escape
from reports.load import Run

READS = ("arm", "seed", "test_reads")


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
        "may be too good and their p too small. Examples that no reading has seen would tell.\n"
    )
