"""Score against cost: how well an arm did on dev by what it had spent, all arms on one axis.

The curve of an arm at a seed is a step function of cost. It begins at cost 0 with the score of the
untouched policy, as the arm's first stage measured it. From each later measurement on it has the
best dev score that the stage under way has seen so far, since that is the policy the stage would
give back. A next stage begins with its own measurement of what it was given: the methods look at
samples of dev of their own (`dev_examples`), so scores of two stages are not of the same examples.

The area under it is the mean height from cost 0 to the common cost: the integral divided by the
common cost, in score units. The common cost is the largest that every arm of the seed has reached,
that is the smallest total among the arms that spent anything on this axis. An arm that spent
nothing there (`sft` draws no rollouts) has the height it ends with.

Costs are those of `Ledger`, summed along the chain, shared stages in full; scoring on dev by weight
methods is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lm.flops import training_flops
from reports.cost import stage_flops
from reports.load import Arm, Run
from reports.tables import seeds

AXES: tuple[str, ...] = ("rollouts", "completion_tokens", "flops", "seconds")
POINTS = ("arm", "seed", "method", "step", "dev_score", "best_dev", *AXES)
EFFICIENCY = (
    *("arm", "seed", "axis", "spent", "common_cost", "dev_start", "dev_end", "area"),
    *("test_delta", "cost_per_point"),
)


@dataclass(frozen=True)
class Point:
    """A measurement on dev; `costs` by axis are what the chain had spent when it was made."""

    method: str
    step: int
    dev_score: float
    best_dev: float
    costs: dict[str, float]


def dev_curves(run: Run) -> pd.DataFrame:
    """Every measurement on dev of every arm and seed, in order, with what its whole chain had spent
    by then; columns `POINTS`. The first row of an arm is the untouched policy, at no cost.

    A cost is missing where a run did not note it by point.
    """
    rows = [
        {"arm": arm.arm, "seed": arm.seed, **_shown(point)}
        for arm in run.arms
        for point in points(run, arm)
    ]
    return pd.DataFrame(rows, columns=pd.Index(POINTS))


def _shown(point: Point) -> dict[str, Any]:
    names = ("method", "step", "dev_score", "best_dev")
    return {name: getattr(point, name) for name in names} | point.costs


def efficiency(run: Run) -> pd.DataFrame:
    """What each arm got for what it spent, a row for each seed and axis; columns `EFFICIENCY`.

    `spent` is the arm's total, `dev_start` and `dev_end` are the ends of its curve, `area` the mean
    height up to `common_cost` (see above). `test_delta` is the score on test minus the baseline's,
    `cost_per_point` the total divided by it in points, missing where nothing was gained. Arms
    without methods cost nothing and are left out; what was not measured is missing.
    """
    deltas = seeds(run).set_index(["arm", "seed"])["delta"].to_dict()
    rows = []
    for seed in dict.fromkeys(arm.seed for arm in run.arms):
        arms = [arm for arm in run.arms if arm.seed == seed and arm.stages]
        curves = {arm.arm: points(run, arm) for arm in arms}
        totals = {arm.arm: total_costs(run, arm) for arm in arms}
        for axis in AXES:
            common = min((t[axis] for t in totals.values() if t[axis] > 0), default=float("nan"))
            rows += [
                _row(arm, axis, totals[arm.arm][axis], common, curves[arm.arm])
                | _gain(deltas.get((arm.arm, seed)), totals[arm.arm][axis])
                for arm in arms
            ]
    frame = pd.DataFrame(rows, columns=pd.Index(EFFICIENCY))
    order = {name: place for place, name in enumerate(run.arm_names)}
    return frame.sort_values("arm", key=lambda names: names.map(order), kind="stable").reset_index(
        drop=True
    )


def _row(arm: Arm, axis: str, spent: float, common: float, curve: list[Point]) -> dict[str, Any]:
    costs = np.array([point.costs[axis] for point in curve])
    heights = np.array([point.best_dev for point in curve])
    return {
        "arm": arm.arm,
        "seed": arm.seed,
        "axis": axis,
        "spent": spent,
        "common_cost": common,
        "dev_start": heights[0] if curve else None,
        "dev_end": heights[-1] if curve else None,
        "area": area(costs, heights, common) if spent else (heights[-1] if curve else None),
    }


def _gain(delta: float | None, spent: float) -> dict[str, float | None]:
    price = spent / (100 * delta) if delta is not None and delta > 0 else None
    return {"test_delta": delta, "cost_per_point": price}


def area(costs: np.ndarray, heights: np.ndarray, end: float) -> float:
    """The mean from 0 to `end` of the step function that has `heights[i]` from `costs[i]` on.

    `costs` begin with 0 and do not fall; of points at one cost the last counts. NaN where a cost is
    missing, or nothing was measured.
    """
    if not len(costs) or np.isnan(costs).any() or not end > 0:
        return float("nan")
    edges = np.minimum(np.append(costs, np.inf), end)
    return float(np.sum(heights * np.diff(edges)) / end)


def points(run: Run, arm: Arm) -> list[Point]:
    """The curve of one arm, none where no stage has measured anything."""
    found: list[Point] = []
    before = dict.fromkeys(AXES, 0.0)
    for key in arm.stages:
        found += _stage_points(run, key, before)
        before = {axis: before[axis] + cost for axis, cost in _stage_costs(run, key).items()}
    if not found:
        return []
    first = found[0]
    start = Point(first.method, 0, first.dev_score, first.dev_score, dict.fromkeys(AXES, 0.0))
    return [start, *found]


def total_costs(run: Run, arm: Arm) -> dict[str, float]:
    """What an arm has spent along its chain, by axis."""
    costs = [_stage_costs(run, key) for key in arm.stages]
    return {axis: float(sum(cost[axis] for cost in costs)) for axis in AXES}


def _stage_costs(run: Run, key: str) -> dict[str, float]:
    ledger = run.stages[key].ledger
    known = {axis: float(getattr(ledger, axis)) for axis in AXES if axis != "flops"}
    return known | {"flops": stage_flops(run, key)}


def _stage_points(run: Run, key: str, before: dict[str, float]) -> Iterator[Point]:
    best = float("-inf")
    for row in run.metrics[key]:
        if "dev_score" not in row:
            continue
        best = max(best, row["dev_score"])
        spent = _spent(run, key, row)
        costs = {axis: before[axis] + spent[axis] for axis in AXES}
        yield Point(run.stages[key].method, row["step"], row["dev_score"], best, costs)


def _spent(run: Run, key: str, row: dict[str, Any]) -> dict[str, float]:
    """What a stage had spent at a row of its metrics. A proposer of another size is not told apart
    by point: the FLOPs of all answers are shared out by their tokens."""
    told = {"rollouts": row.get("rollouts"), **row.get("spent", {})}
    told = {name: value for name, value in told.items() if value is not None}
    known = {axis: float(told.get(axis, "nan")) for axis in AXES if axis != "flops"}
    if "tokens" not in told:
        return known | {"flops": float("nan")}
    ledger, size = run.stages[key].ledger, run.info.get("parameters")
    trained = training_flops(size, ledger.train_tokens) if size else 0
    asked = (stage_flops(run, key) - trained) * told["tokens"] / (ledger.tokens or 1)
    return known | {"flops": asked + (training_flops(size, told["train_tokens"]) if size else 0)}
