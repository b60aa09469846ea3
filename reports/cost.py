"""What each arm cost, and how it learned: ledgers and metrics of the stages it is made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pandas as pd

from lm.flops import forward_flops, training_flops
from lm.ledger import Ledger
from reports.load import Arm, Run

COST = (
    *("arm", "seed", "purpose", "calls", "completions", "prompt_tokens", "completion_tokens"),
    *("seconds", "train_tokens", "optimizer_steps", "shared_with"),
    *("flops", "peak_memory_gb", "peak_gpu_gb", "dollars"),
)
_COUNTS = COST[3:10]
OTHERS = {  # purposes that another model may serve, and where stage.json has its size
    "proposal": "proposer_parameters",
    "reflection": "proposer_parameters",
    "judge": "judge_parameters",
    "reward": "reward_parameters",
}
CURVES = ("arm", "seed", "method", "stage", "step", "rollouts", "name", "value")


def cost(run: Run) -> pd.DataFrame:
    """What each arm spent at each seed, one row a purpose; columns `COST`.

    Purposes are the ledger's (there `eval` is scoring on dev inside a stage), `training` (tokens
    and optimizer steps of weight updates), `test` (the final evaluation; a judge or a reward model
    that it asks stands apart, as `test judge`), `attribution` (that of
    the arm's cells which are no arm's policy) and `other` (wall time that none of these counts:
    loading, scoring, saving). Sums run along the arm's stages; `shared_with`
    names the other arms that use some of this very work, which was done once. So rows of different
    arms must not be added up without looking there.

    `flops` are estimated (lm/flops.py), missing where the size of a model is not known.
    `peak_memory_gb` and `peak_gpu_gb` (1e9 bytes) are the most held in any of the stages or
    evaluations that the row sums up. `dollars` are `seconds` at the spec's price per hour.
    """
    rows: list[dict[str, Any]] = []
    for arm in run.arms:
        totals: dict[str, dict[str, Any]] = {}
        for key, purpose, spent in _spent(run, arm):
            row = totals.setdefault(
                purpose, dict.fromkeys(_COUNTS, 0) | {"keys": set(), "flops": 0}
            )
            row["keys"].add(key)
            for name, value in spent.items():
                row[name] += value
            row["flops"] += _flops(run, key, purpose, spent)
        for purpose, row in totals.items():
            keys = row.pop("keys")
            rows.append(
                {"arm": arm.arm, "seed": arm.seed, "purpose": purpose}
                | row
                | {"shared_with": _sharing(run, arm, keys)}
                | _peaks(run, keys)
                | {"dollars": _dollars(run, row["seconds"])}
            )
    frame = pd.DataFrame(rows, columns=pd.Index(COST))
    return frame.astype(dict.fromkeys(COST[-4:], float))


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
    for purpose, usage in run.test_ledgers[arm.eval].usage.items():
        yield arm.eval, "test" if purpose == "eval" else f"test {purpose}", asdict(usage)
    for key in _cells_of_no_arm(run, arm):
        for usage in run.test_ledgers[key].usage.values():
            yield key, "attribution", asdict(usage)
    for key in (*arm.stages, arm.eval, *_cells_of_no_arm(run, arm)):
        ledger = _ledger_of(run, key)
        counted = sum(usage.seconds for usage in ledger.usage.values()) + ledger.train_seconds
        if ledger.wall_seconds > counted:
            yield key, "other", {"seconds": ledger.wall_seconds - counted}


def _ledger_of(run: Run, key: str) -> Ledger:
    return run.stages[key].ledger if key in run.stages else run.test_ledgers[key]


def _flops(run: Run, key: str, purpose: str, spent: dict[str, Any]) -> float:
    """What the tokens of a row took, NaN where the size of the model that spent them is unknown."""
    size = run.info.get("parameters")
    if purpose in OTHERS:  # another model's, where stage.json names one
        size = run.stages[key].told.get(OTHERS[purpose], size)
    tokens = spent.get("prompt_tokens", 0) + spent.get("completion_tokens", 0)
    trained = spent.get("train_tokens", 0)
    if size is None:
        return float("nan") if tokens or trained else 0.0
    return forward_flops(size, tokens) + training_flops(size, trained)


def stage_flops(run: Run, key: str) -> float:
    """What a stage spent to improve its policy: scoring on dev is left out, as in `rollouts`."""
    ledger = run.stages[key].ledger
    asked = ((purpose, asdict(usage)) for purpose, usage in ledger.usage.items())
    rows = [(purpose, spent) for purpose, spent in asked if purpose != "eval"]
    return sum(_flops(run, key, *row) for row in [*rows, ("training", _training(ledger))])


def _peaks(run: Run, keys: set[str]) -> dict[str, float | None]:
    ledgers = [_ledger_of(run, key) for key in keys]
    memory = max(ledger.peak_bytes for ledger in ledgers)  # 0: written before this was noted
    gpu = max(ledger.peak_gpu_bytes for ledger in ledgers)
    return {"peak_memory_gb": memory / 1e9 or None, "peak_gpu_gb": gpu / 1e9 or None}


def _dollars(run: Run, seconds: float) -> float | None:
    price = run.info.get("price_per_hour")
    return None if price is None else price * seconds / 3600


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
