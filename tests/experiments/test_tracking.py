"""`report_to`: TRL's figures and ours reach the tracker, and a run without it is the same run."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from evaluation.types import Reporting
from experiments import tracking
from experiments.cli import main

RL = {"steps": 9, "prompts_per_step": 4, "group_size": 4, "eval_every": 1, "lora": {"r": 4}}
SPEC: dict[str, Any] = {
    "name": "told",
    "task": "letters.py",
    "model": "tiny-random",
    "splits": {"train": 16, "dev": 4, "test": 4},
    "sampling": {"max_tokens": 6},
    "budget": {"rollouts": 24},  # ends rl in its second step
    "methods": {
        "shots": {
            "method": "bootstrap",
            "candidates": 1,
            "dev_examples": 4,
            "train_examples": 8,
        },
        "rl": {"method": "grpo", **RL},
    },
    "arms": {"shots": ["shots"], "rl": ["rl"]},
}


def write_spec(folder: Path, task: str, **changes: Any) -> str:
    (folder / "letters.py").write_text(task)
    (folder / "spec.yaml").write_text(yaml.safe_dump({**SPEC, **changes}))
    return str(folder / "spec.yaml")


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    tags = found.Tags()["scalars"]
    return {tag: [(e.step, round(e.value, 5)) for e in found.Scalars(tag)] for tag in tags}


def rounded(rows: list[tuple[int, float]]) -> list[tuple[int, float]]:
    return [(step, round(float(value), 5)) for step, value in rows]


def test_tensorboard_holds_trl_s_figures_and_ours(
    tmp_path: Path, kinds_task: str, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("tensorboard", reason="pip install tensorboard")
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    before = dict(os.environ)
    spec = write_spec(tmp_path, kinds_task, report_to=["tensorboard"])
    assert main(["run", spec, "--out", str(tmp_path / "runs")]) == 0
    added = {name for name, value in os.environ.items() if before.get(name) != value}
    assert not added & {"TENSORBOARD_LOGGING_DIR", "WANDB_PROJECT", "MLFLOW_EXPERIMENT_NAME"}

    from reports import load_run

    run = load_run(tmp_path / "runs/told")
    [rl] = (tmp_path / "runs/told/tensorboard").glob("rl-rl-seed0-*")
    found = scalars(rl)
    [metrics] = [run.metrics[key] for key, stage in run.stages.items() if stage.method == "rl"]
    dev = [(row["step"], row["dev_score"]) for row in metrics if row["phase"] == "dev"]
    assert found["eval/dev_score"] == rounded(dev) and [step for step, _ in dev] == [0, 1, 2]
    rewards = [(row["step"], row["reward"]) for row in metrics if row["phase"] == "train"]
    assert found["train/reward"] == rounded(rewards)  # as TRL logs it
    assert found["train/tasklift/score"] == rounded(rewards)
    [shots] = (tmp_path / "runs/told/tensorboard").glob("shots-shots-seed0-*")
    assert "eval/dev_score" in scalars(shots)
    events = [p.read_bytes() for p in (tmp_path / "runs/told/tensorboard").rglob("*tfevents*")]
    assert events and not any(str(tmp_path).encode() in event for event in events)
    for arm in run.arms:
        test = scalars(tmp_path / f"runs/told/tensorboard/{arm.arm}-seed0-test")
        assert test["test/score"] == rounded([(0, run.answers[arm.eval]["score"].mean())])

    plain = tmp_path / "plain"
    plain.mkdir()
    spec = write_spec(plain, kinds_task)
    assert main(["run", spec, "--out", str(plain / "runs")]) == 0
    other = load_run(plain / "runs/told")
    assert other.stages.keys() == run.stages.keys()  # keys do not hang on it
    for key in run.metrics:
        figures = [[row.get("dev_score"), row.get("loss")] for row in run.metrics[key]]
        assert figures == [[row.get("dev_score"), row.get("loss")] for row in other.metrics[key]]
    assert not (plain / "runs/told/tensorboard").exists()


def test_what_is_not_installed_is_one_line_before_anything_runs(
    tmp_path: Path,
    kinds_task: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(tracking, "_installed", lambda module: False)
    spec = write_spec(tmp_path, kinds_task, report_to="wandb")
    for more in ([], ["--dry-run"]):
        assert main(["run", spec, "--out", str(tmp_path / "runs"), *more]) == 2
        assert capsys.readouterr().err == (
            "tasklift: report_to: wandb is not installed; pip install wandb, or leave it out\n"
        )
    assert not (tmp_path / "runs").exists()


def test_an_unknown_tracker_is_one_line(
    tmp_path: Path, kinds_task: str, capsys: pytest.CaptureFixture[str]
):
    spec = write_spec(tmp_path, kinds_task, report_to=["tensorbord"])
    assert main(["run", spec, "--dry-run"]) == 2
    line = capsys.readouterr().err
    assert "report_to" in line and "tensorboard" in line and line.count("\n") == 1


def test_a_folder_of_that_name_is_no_tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "tasklift_no_tracker").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not tracking._installed("tasklift_no_tracker") and tracking._installed("json")


def test_a_tracker_that_fails_at_the_end_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fail(*_: Any) -> None:
        raise OSError("no route\nto host")

    monkeypatch.setitem(tracking.WRITERS, "mlflow", fail)
    tracking.report(Reporting(("mlflow",), "p", "r"), tmp_path, [(0, {"test/score": 1.0})])
    assert capsys.readouterr().out.startswith("report_to: mlflow: OSError: no route to host; ")


def test_nor_does_one_that_fails_while_it_closes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fail() -> None:
        raise OSError("no route\nto host")

    ended: list[str] = []
    mlflow = SimpleNamespace(active_run=lambda: 1, end_run=lambda: ended.append("mlflow"))
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(run=object(), finish=fail))
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    with tracking.reporting(Reporting(("wandb", "mlflow"), "p", "r"), tmp_path):
        pass
    assert ended == ["mlflow"]
    assert capsys.readouterr().out.startswith("report_to: wandb: OSError: no route to host; ")


def test_the_users_own_choice_of_place_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path))
    with tracking.reporting(Reporting(("wandb", "tensorboard"), "p", "r"), tmp_path / "run"):
        assert os.environ["WANDB_PROJECT"] == "mine"
        assert os.environ["TENSORBOARD_LOGGING_DIR"] == str(tmp_path / "r")
        assert os.environ["MLFLOW_EXPERIMENT_NAME"] == "p"
    assert os.environ["TENSORBOARD_LOGGING_DIR"] == str(tmp_path)
    assert "MLFLOW_EXPERIMENT_NAME" not in os.environ


def test_a_stage_ends_its_own_run_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ended: list[str] = []
    wandb = SimpleNamespace(run=object(), finish=lambda: ended.append("wandb"))
    mlflow = SimpleNamespace(active_run=lambda: None, end_run=lambda: ended.append("mlflow"))
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    with tracking.reporting(Reporting(("mlflow",), "p", "r"), tmp_path):
        pass
    assert ended == []  # wandb was the user's
    with tracking.reporting(Reporting(("wandb", "mlflow"), "p", "r"), tmp_path):
        pass
    assert ended == ["wandb"]
