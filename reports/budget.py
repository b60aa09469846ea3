"""What arms were given to spend, and what they made of it."""

from __future__ import annotations

import pandas as pd

from reports.load import Run

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
