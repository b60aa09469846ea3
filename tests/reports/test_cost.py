"""FLOPs, memory and dollars of the cost table, worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from reports import cost, load_run, table
from reports.cost import COST, stage_flops


def told(path: Path, **more: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}))


@pytest.fixture
def priced(folder: Path) -> Path:
    """A model of 1000 weights at 3.6 $ an hour: a second is 0.001 $."""
    told(folder / "run.json", parameters=1000, price_per_hour=3.6)
    told(folder / "stages/S2/ledger.json", peak_bytes=3_000_000_000, peak_gpu_bytes=10**9)
    told(folder / "stages/S1/ledger.json", peak_bytes=2_000_000_000)
    return folder


def test_flops_by_hand(priced: Path) -> None:
    frame = cost(load_run(priced)).set_index(["arm", "purpose"])["flops"]
    # 30 answers of 10 + 2 tokens, 64 of them, 700 trained tokens, 20 test answers
    assert frame["shots", "metric"] == 2 * 1000 * 30 * 12
    assert frame["shots+grpo", "metric"] == 2 * 1000 * 30 * 12
    assert frame["shots+grpo", "rollout"] == 2 * 1000 * 64 * 12
    assert frame["shots+grpo", "training"] == 6 * 1000 * 700
    assert frame["zero", "test"] == 2 * 1000 * 20 * 12
    assert frame["zero", "other"] == 0
    run = load_run(priced)
    assert stage_flops(run, "S1") == 2 * 1000 * 30 * 12  # without the 5 answers on dev
    assert stage_flops(run, "S2") == 2 * 1000 * 64 * 12 + 6 * 1000 * 700


def test_a_proposer_counts_by_its_own_size(priced: Path) -> None:
    ledger = json.loads((priced / "stages/S1/ledger.json").read_text())
    ledger["usage"]["reflection"] = {**ledger["usage"].pop("metric")}
    (priced / "stages/S1/ledger.json").write_text(json.dumps(ledger))
    told(priced / "stages/S1/stage.json", proposer_parameters=7)
    frame = cost(load_run(priced)).set_index(["arm", "purpose"])["flops"]
    assert frame["shots", "reflection"] == 2 * 7 * 30 * 12
    told(priced / "stages/S1/stage.json", proposer_parameters=None)  # at an address
    frame = cost(load_run(priced)).set_index(["arm", "purpose"])["flops"]
    assert pd.isna(frame["shots", "reflection"]) and frame["shots", "eval"] == 2 * 1000 * 5 * 12


def test_dollars_add_up_to_the_wall_time(priced: Path) -> None:
    frame = cost(load_run(priced))
    sums = frame.groupby("arm")["dollars"].sum().to_dict()
    # stages of 60 and 40 s, and 3 s of test for each arm
    assert sums == pytest.approx({"zero": 0.003, "shots": 0.063, "shots+grpo": 0.103})
    rows = frame.set_index(["arm", "purpose"])
    assert rows.loc[("shots+grpo", "training"), "dollars"] == pytest.approx(0.004)
    # of 100 s wall: 1.5 metric, 1.5 eval, 1.5 rollout, 4 training; of 3 s of test 1.5
    assert rows.loc[("shots+grpo", "other"), "seconds"] == pytest.approx(91.5 + 1.5)


def test_peaks_are_the_highest_of_what_a_row_sums_up(priced: Path) -> None:
    frame = cost(load_run(priced)).set_index(["arm", "purpose"])
    assert frame.loc[("shots", "metric"), "peak_memory_gb"] == 2.0
    assert frame.loc[("shots+grpo", "rollout"), "peak_memory_gb"] == 3.0
    assert frame.loc[("shots+grpo", "other"), "peak_memory_gb"] == 3.0
    assert frame.loc[("shots+grpo", "training"), "peak_gpu_gb"] == 1.0
    assert pd.isna(frame.loc[("shots", "metric"), "peak_gpu_gb"])


def test_what_a_run_did_not_note_is_missing_and_not_shown(folder: Path) -> None:
    frame = cost(load_run(folder))
    assert tuple(frame.columns) == COST
    spent = frame[frame["purpose"] != "other"]
    assert spent[["flops", "dollars", "peak_memory_gb"]].isna().all(axis=None)
    header = table(folder, "cost", "markdown").splitlines()[0]
    assert "$" not in header and "peak" not in header
