"""What the stages' self-audits found. A tripped wire stands above every figure of a report."""

from __future__ import annotations

import pandas as pd

from reports import escape
from reports.load import Audit, Run

AUDITS = ("arm", "seed", "method", "audit", "level", "step", "detail")
SHOWN = 400  # characters of a detail in a line of its own


def audits(run: Run) -> pd.DataFrame:
    """Every finding of every stage, one a row; columns `AUDITS`.

    `level` is ok, note or tripped; `step` is missing where a finding concerns the whole stage. A
    stage shared by several arms appears under each.
    """
    rows = [
        (arm.arm, arm.seed, run.stages[key].method, *_fields(found))
        for arm in run.arms
        for key in arm.stages
        for found in run.audits[key]
    ]
    return pd.DataFrame(rows, columns=pd.Index(AUDITS)).astype({"step": "Int64"})


def _fields(found: Audit) -> tuple[str, str, int | None, str]:
    return found.name, found.level, found.step, found.detail


def noteworthy(run: Run) -> pd.DataFrame:
    """The rows of `audits` that are not ok."""
    frame = audits(run)
    return frame.loc[frame["level"] != "ok"].reset_index(drop=True)


def tripped(run: Run) -> list[str]:
    """One line for each tripped wire of the run, safe to print to a terminal."""
    return [
        f"tripped wire: {escape.plain(where)}: {escape.plain(found.name)}: "
        f"{escape.plain(found.detail, limit=SHOWN)}"
        for where, found in _tripped(run)
    ]


def tripped_markdown(run: Run) -> str:
    """The same as one Markdown quotation; "" where no wire has tripped."""
    said = [
        f"> **Tripped wire** in {escape.markdown(where)}: *{escape.markdown(found.name)}*: "
        f"{escape.markdown(found.detail, limit=SHOWN)}\n"
        for where, found in _tripped(run)
    ]
    return ">\n".join(said)


def _tripped(run: Run) -> list[tuple[str, Audit]]:
    """Which arms the work belongs to, and what it tripped; a shared stage counts once."""
    found = []
    for key, stage in run.stages.items():
        users = [arm for arm in run.arms if key in arm.stages]
        arms = ", ".join(dict.fromkeys(arm.arm for arm in users))
        where = f"{stage.method} of {arms} (seed {users[0].seed})"
        found += [(where, audit) for audit in run.audits[key] if audit.level == "tripped"]
    return found
