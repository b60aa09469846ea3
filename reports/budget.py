"""What arms were given to spend, and what they made of it."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from reports.load import ReportError, Run

BUDGET = ("arm", "seed", "limit", "budget", "used", "used_share")


def budget(run: Run) -> pd.DataFrame:
    """Used and given, a row for each arm, seed and limit of the spec's `budget`; columns `BUDGET`.

    Limits are `rollouts`, `tokens` and `seconds` as the ledger counts them along the arm's chain,
    shared stages in full, scoring on dev by weight methods not at all. `used_share` may pass 1: a
    batch under way is not broken off. Empty where the spec gave no budget.
    """
    given = run.info.get("budget") or {}
    rows = [
        (arm.arm, arm.seed, limit, float(cap), used, used / cap)
        for arm in run.arms
        if arm.stages
        for limit, cap in given.items()
        if cap is not None
        for used in [float(sum(getattr(run.stages[k].ledger, limit) for k in arm.stages))]
    ]
    return pd.DataFrame(rows, columns=pd.Index(BUDGET))


ALLOCATION = ("rung", "arm", "seed", "budget", "rollouts", "drawn", "dev_score", "decision")


def allocation(run: Run) -> pd.DataFrame:
    """How successive halving shared the budget out: a row for each rung, arm and seed; columns
    `ALLOCATION`.

    `budget` is what the arm might have spent by the end of the rung, along its chain and from its
    beginning, `rollouts` what it had. `drawn` are the rollouts drawn in this rung for this row:
    steps that a weight method took again are in it, stages shared with a row above are not; so the
    sum of `drawn` is what a search that was never killed has cost (a killed rung forgets what it
    had drawn). `dev_score` is the evaluator's on all of dev,
    `decision` kept or dropped. A dropped arm was not opened on test. Empty without `allocate`.
    """
    rows = [
        {**row, "budget": _limits(row["budget"]), "decision": "kept" if row["kept"] else "dropped"}
        for row in _read(run)
    ]
    return pd.DataFrame(rows, columns=pd.Index(ALLOCATION))


def _read(run: Run) -> list[dict[str, Any]]:
    path = run.path / "allocation.json"
    try:
        rows = json.loads(path.read_text("utf-8"))["rows"] if path.is_file() else []
        return [{name: row[name] for name in (*ALLOCATION[:-1], "kept")} for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReportError(f"{path} cannot be read ({error}); run the spec again") from error


def _limits(given: dict[str, float]) -> str:
    return ", ".join(f"{cap:,g} {name}" for name, cap in given.items())
