"""What each arm cost, and how it learned: ledgers and metrics of the stages it is made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pandas as pd

from lm.ledger import Ledger
from reports.load import Arm, Run

COST = (
    *("arm", "seed", "purpose", "calls", "completions", "prompt_tokens", "completion_tokens"),
    *("seconds", "train_tokens", "optimizer_steps", "shared_with"),
)
CURVES = ("arm", "seed", "method", "stage", "step", "rollouts", "name", "value")


def cost(run: Run) -> pd.DataFrame:
    """What each arm spent at each seed, one row a purpose; columns `COST`.

    Purposes are the ledger's (there `eval` is scoring on dev inside a stage), `training` (tokens
    and optimizer steps of weight updates), `test` (the final evaluation) and `attribution` (that
    of the arm's cells which are no arm's policy). Sums run along the arm's stages; `shared_with`
    names the other arms that use some of this very work, which was done once. So rows of different
    arms must not be added up without looking there.
    """
    rows: list[dict[str, Any]] = []
    for arm in run.arms:
        totals: dict[str, dict[str, Any]] = {}
        for key, purpose, spent in _spent(run, arm):
            row = totals.setdefault(purpose, dict.fromkeys(COST[3:-1], 0) | {"keys": set()})
            row["keys"].add(key)
            for name, value in spent.items():
                row[name] += value
        for purpose, row in totals.items():
            shared = _sharing(run, arm, row.pop("keys"))
            rows.append(
                {"arm": arm.arm, "seed": arm.seed, "purpose": purpose}
                | row
                | {"shared_with": shared}
            )
    return pd.DataFrame(rows, columns=pd.Index(COST))


def curves(run: Run) -> pd.DataFrame:
    """Every figure of every step of every stage, one a row; columns `CURVES`.

    `rollouts` is what that stage alone had drawn by then, missing where it did not say; `stage`
    is the stage's key. A stage shared by several arms appears under each.
    """
    rows = [
        (arm.arm, arm.seed, run.stages[key].method, key, step["step"], step.get("rollouts"), *point)
        for arm in run.arms
        for key in arm.stages
        for step in run.metrics[key]
        for point in _figures(step)
    ]
    return pd.DataFrame(rows, columns=pd.Index(CURVES)).astype({"rollouts": "Int64"})


def _figures(step: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in step.items():
        if name not in ("step", "rollouts") and isinstance(value, int | float):
            yield name, float(value)


def _spent(run: Run, arm: Arm) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(stage or eval key, purpose, figures) for everything the arm is made of."""
    for key in arm.stages:
        ledger = run.stages[key].ledger
        yield from ((key, purpose, asdict(usage)) for purpose, usage in ledger.usage.items())
        if ledger.optimizer_steps:
            yield key, "training", _training(ledger)
    for usage in run.test_ledgers[arm.eval].usage.values():
        yield arm.eval, "test", asdict(usage)
    for key in _cells_of_no_arm(run, arm):
        for usage in run.test_ledgers[key].usage.values():
            yield key, "attribution", asdict(usage)


def _cells_of_no_arm(run: Run, arm: Arm) -> list[str]:
    evals = {other.eval for other in run.arms}
    return [key for key in dict.fromkeys(arm.evals) if key not in evals]


def _training(ledger: Ledger) -> dict[str, Any]:
    return {
        "seconds": ledger.train_seconds,
        "train_tokens": ledger.train_tokens,
        "optimizer_steps": ledger.optimizer_steps,
    }


def _sharing(run: Run, arm: Arm, keys: set[str]) -> str:
    others = [
        o for o in run.arms if o != arm and keys & {*o.stages, o.eval, *_cells_of_no_arm(run, o)}
    ]
    return ", ".join(o.arm if o.seed == arm.seed else f"{o.arm} (seed {o.seed})" for o in others)
