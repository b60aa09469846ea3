"""Score against cost, worked out by hand on a run folder of three arms."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import dev_curves, efficiency, load_run
from reports.efficiency import AXES, EFFICIENCY, POINTS, area

N = 1000  # weights of the model


def measured(step: int, score: float, rollouts: int, trained: int = 0) -> dict[str, object]:
    """12 tokens an answer, 2 of them written; half a second an answer."""
    spent = {"tokens": 12 * rollouts, "completion_tokens": 2 * rollouts, "train_tokens": trained}
    spent |= {"rollouts": rollouts, "seconds": 0.5 * rollouts}
    row = {"step": step, "phase": "dev", "dev_score": score, "rollouts": rollouts}
    return row | {"spent": spent}


def write(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def curved(folder: Path) -> Path:
    """shots: 30 rollouts; shots+grpo: 64 more, and 700 trained tokens."""
    told = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**told, "parameters": N}))
    dev = [measured(0, 0.2, 10), measured(1, 0.5, 20), measured(2, 0.4, 30)]
    write(folder / "stages/S1/metrics.jsonl", dev)
    later = [measured(0, 0.45, 0), {"step": 1, "phase": "train", "rollouts": 32}]
    later += [measured(1, 0.7, 32, 350), measured(2, 0.6, 64, 700)]
    write(folder / "stages/S2/metrics.jsonl", later)
    return folder


def test_the_curve_runs_along_the_whole_chain(curved: Path) -> None:
    frame = dev_curves(load_run(curved))
    assert tuple(frame.columns) == POINTS
    both = frame[frame["arm"] == "shots+grpo"]
    assert list(both["rollouts"]) == [0, 10, 20, 30, 30, 62, 94]
    assert list(both["completion_tokens"]) == [0, 20, 40, 60, 60, 124, 188]
    assert list(both["dev_score"]) == [0.2, 0.2, 0.5, 0.4, 0.45, 0.7, 0.6]
    assert list(both["best_dev"]) == [0.2, 0.2, 0.5, 0.5, 0.45, 0.7, 0.7]
    assert list(both["method"]) == ["bootstrap"] * 4 + ["grpo"] * 3
    answer, token = 2 * N * 12, 6 * N
    expected = [0, 10 * answer, 20 * answer, 30 * answer, 30 * answer]
    expected += [62 * answer + 350 * token, 94 * answer + 700 * token]
    assert list(both["flops"]) == pytest.approx(expected)
    # the ledger of S1 says 1.5 s for its 30 answers, and that is what the second stage begins at
    assert list(both["seconds"]) == pytest.approx([0, 5, 10, 15, 1.5, 17.5, 33.5])
    assert "zero" not in set(frame["arm"])


def test_area_and_cost_per_point_by_hand(curved: Path) -> None:
    frame = efficiency(load_run(curved))
    assert tuple(frame.columns) == EFFICIENCY
    assert list(frame["arm"]) == ["shots"] * 4 + ["shots+grpo"] * 4
    assert list(frame["axis"]) == [*AXES] * 2
    rows = frame.set_index(["arm", "axis"])
    shots, both = rows.loc[("shots", "rollouts")], rows.loc[("shots+grpo", "rollouts")]
    assert (shots["spent"], both["spent"]) == (30, 94)
    assert shots["common_cost"] == both["common_cost"] == 30
    # 0.2 up to the 20th rollout, then 0.5: the same first stage, up to the common cost
    assert shots["area"] == both["area"] == pytest.approx((20 * 0.2 + 10 * 0.5) / 30)
    assert (shots["dev_start"], shots["dev_end"]) == (0.2, 0.5)
    assert (both["dev_start"], both["dev_end"]) == (0.2, 0.7)
    assert shots["test_delta"] == pytest.approx(0.4) and both["test_delta"] == pytest.approx(0.7)
    assert shots["cost_per_point"] == pytest.approx(30 / 40)
    assert both["cost_per_point"] == pytest.approx(94 / 70)
    flops = 2 * N * 12 * 94 + 6 * N * 700
    assert rows.loc[("shots+grpo", "flops"), "cost_per_point"] == pytest.approx(flops / 70)


def test_nothing_gained_has_no_price(curved: Path) -> None:
    arms = json.loads((curved / "arms.json").read_text())
    arms[0]["eval"], arms[1]["eval"] = arms[1]["eval"], arms[0]["eval"]
    (curved / "arms.json").write_text(json.dumps(arms))
    rows = efficiency(load_run(curved)).set_index(["arm", "axis"])
    assert rows.loc[("shots", "rollouts"), "test_delta"] == pytest.approx(-0.4)
    assert pd.isna(rows.loc[("shots", "rollouts"), "cost_per_point"])


def test_an_arm_that_spends_nothing_on_an_axis_has_the_height_it_ends_with(curved: Path) -> None:
    """As sft, which draws no rollouts: it does not drag the common cost to 0."""
    arms = json.loads((curved / "arms.json").read_text())
    arms[3]["eval"] = "E1"
    (curved / "arms.json").write_text(json.dumps(arms))
    stage = curved / "stages/S3"
    stage.mkdir()
    (stage / "stage.json").write_text(json.dumps({"method": "sft", "kind": "sft"}))
    ledger = json.loads((curved / "stages/S2/ledger.json").read_text())
    (stage / "ledger.json").write_text(json.dumps({**ledger, "usage": {}}))
    write(stage / "metrics.jsonl", [measured(0, 0.3, 0), measured(1, 0.35, 0, 700)])
    rows = efficiency(load_run(curved)).set_index(["arm", "axis"])
    sft = rows.loc[("grpo", "rollouts")]
    assert (sft["spent"], sft["common_cost"], sft["area"]) == (0, 30, 0.35)
    assert sft["cost_per_point"] == 0


def test_without_costs_by_point_the_area_is_missing_but_for_rollouts(curved: Path) -> None:
    path = curved / "stages/S1/metrics.jsonl"
    old = [json.loads(line) for line in path.read_text().splitlines()]
    write(path, [{k: v for k, v in row.items() if k != "spent"} for row in old])
    rows = efficiency(load_run(curved)).set_index(["arm", "axis"])["area"]
    assert rows["shots", "rollouts"] == pytest.approx(0.3)
    assert rows[[("shots", axis) for axis in AXES[1:]]].isna().all()


STEPS = st.lists(st.tuples(st.integers(0, 50), st.floats(0, 1)), min_size=1, max_size=8)


@given(STEPS, st.integers(1, 60))
def test_the_area_is_the_mean_of_the_step_function(steps: list[tuple[int, float]], end: int):
    """Against the plain definition: the height at every whole cost below the end."""
    costs = np.array([0, *sorted(cost for cost, _ in steps)], dtype=float)
    heights = np.array([0.5, *(height for _, height in steps)])
    plain = [heights[np.flatnonzero(costs <= cost)[-1]] for cost in range(end)]
    assert area(costs, heights, float(end)) == pytest.approx(float(np.mean(plain)))


def test_no_area_of_nothing() -> None:
    assert np.isnan(area(np.array([]), np.array([]), 3.0))
    assert np.isnan(area(np.array([0.0, np.nan]), np.array([0.1, 0.2]), 3.0))
    assert np.isnan(area(np.array([0.0]), np.array([0.1]), float("nan")))
