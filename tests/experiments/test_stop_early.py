"""`stop_early` in a run: the clearly worse arm is asked no further, and no table mixes it in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from experiments.cli import main
from experiments.prepare import prepare
from experiments.spec import load_spec
from experiments.store import RunFolder
from reports import load_run, pairs, reads, recommendation, report_markdown, stopped, summary

GRPO = {"steps": 12, "prompts_per_step": 2, "group_size": 4, "eval_every": 1, "checkpoint_every": 6}
SPEC: dict[str, Any] = {
    "name": "early",
    "task": "letters.py",
    "model": "tiny-random",
    "sampling": {"max_tokens": 6},
    "methods": {
        "quick": {"method": "grpo", **GRPO, "learning_rate": 1e-2},
        "slow": {"method": "grpo", **GRPO, "learning_rate": 1e-3},
    },
    "arms": {"quick": ["quick"], "zero-shot": [], "slow": ["slow"]},
    "baseline": "zero-shot",
    "stop_early": True,
}


def command(folder: Path, task: str, **changes: Any) -> list[str]:
    (folder / "letters.py").write_text(task.replace('"test": 12', '"test": 160'))
    (folder / "spec.yaml").write_text(yaml.safe_dump({**SPEC, **changes}, sort_keys=False))
    return ["run", str(folder / "spec.yaml"), "--out", str(folder / "runs")]


@pytest.fixture(scope="module")
def early(tmp_path_factory: pytest.TempPathFactory, kinds_task: str) -> Path:
    folder = tmp_path_factory.mktemp("early")
    assert main(command(folder, kinds_task)) == 0
    return folder / "runs/early"


def entries(run: Path) -> dict[str, dict[str, Any]]:
    return {entry["arm"]: entry for entry in json.loads((run / "arms.json").read_text())}


def test_the_worse_arm_is_stopped_and_all_others_are_asked_everything(early: Path) -> None:
    found = entries(early)
    assert {name: bool(e.get("stopped")) for name, e in found.items()} == {
        "quick": False, "zero-shot": False, "slow": True,
    }  # fmt: skip
    assert found["slow"]["eval"] is None and found["slow"]["test_reads"] == 1
    why = found["slow"]["stopped"]
    assert why["against"] == "quick" and why["n"] < why["of"] == 160 and why["delta"] < 0
    rows = [pq.read_metadata(p).num_rows for p in early.glob("evals/*/records.parquet")]
    assert sorted(rows) == [why["n"], 160, 160]
    # both whole arms were asked in one order, which is not the stored one
    first, second = (load_run(early).scores[found[a]["eval"]].index for a in ("quick", "zero-shot"))
    assert list(first) == list(second) != [f"test-{i}" for i in range(160)]


def test_no_other_table_has_it_and_the_report_says_so(early: Path) -> None:
    run = load_run(early)
    assert summary(run)["arm"].tolist() == ["quick", "zero-shot"] and len(pairs(run)) == 1
    [row] = stopped(run).to_dict("records")
    assert row["arm"] == "slow" and row["delta"] < row["delta_at_most"] <= 0
    text = report_markdown(run)
    assert "Stopped early, clearly worse" in text and "Not evaluated yet" not in text
    assert "Stopped on test, clearly worse than another: slow." in recommendation(run)


def test_again_nothing_is_asked(early: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {p: p.read_bytes() for p in early.glob("evals/*/*")}
    told = (early / "run.json").read_text()
    assert main(["run", str(early.parent.parent / "spec.yaml"), "--out", str(early.parent)]) == 0
    assert {p: p.read_bytes() for p in early.glob("evals/*/*")} == before
    assert (early / "run.json").read_text() == told
    assert "stopped" not in capsys.readouterr().out.split("early: summary")[0]


def test_a_reason_to_stop_ends_with_the_arm_it_was_held_against(early: Path) -> None:
    spec = load_spec(early.parent.parent / "spec.yaml")
    experiment = prepare(spec, early.parent.parent)
    folder = RunFolder(early)
    before = folder.arms()
    folder.plan_arms(experiment.plan.arms, [], experiment.exam)
    assert folder.arms() == before
    changed = [{**e, "stages": ["other"]} if e["arm"] == "quick" else e for e in before]
    folder.write("arms.json", changed)
    folder.plan_arms(experiment.plan.arms, [], experiment.exam)
    try:
        assert not any(entry.get("stopped") for entry in folder.arms())
        assert reads(load_run(early))["arm"].tolist() == ["zero-shot"]
    finally:
        folder.write("arms.json", before)
    assert reads(load_run(early))["arm"].tolist() == ["quick", "zero-shot", "slow"]


def test_without_it_the_arm_is_asked_everything_anew(early: Path, kinds_task: str) -> None:
    folder = early.parent.parent
    assert main(command(folder, kinds_task, stop_early=False, name="whole")) == 0
    whole = load_run(early.parent / "whole")
    assert summary(whole)["n"].tolist() == [160] * 3 and stopped(whole).empty


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seeds": [0, 1]}, "write one seed"),
        ({"stop_early": {"alpha": 2}}, "stop_early.alpha"),
        ({"stop_early": "yes"}, "stop_early"),
    ],
)
def test_what_cannot_be_stopped_is_refused(
    tmp_path: Path, kinds_task: str, capsys: pytest.CaptureFixture[str], changes: Any, said: str
) -> None:
    assert main(command(tmp_path, kinds_task, **changes)) == 2
    assert said in capsys.readouterr().err
