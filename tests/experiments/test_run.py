"""Whole runs on the tiny model: resume after kill -9, nothing twice, nothing private on disk."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from experiments.cli import main

SPEC: dict[str, Any] = {
    "name": "whole",
    "task": "letters.py",
    "model": "tiny-random",
    "splits": {"train": 24, "dev": 8, "test": 12},
    "sampling": {"max_tokens": 6},
    "methods": {
        "bootstrap": {"candidates": 1, "dev_examples": 4, "train_examples": 8},
        "grpo": {
            "steps": 6,
            "prompts_per_step": 2,
            "group_size": 4,
            "learning_rate": 1e-2,
            "reward": "alnum.py:share",
            "eval_every": 2,
            "checkpoint_every": 2,
        },
    },
    "arms": {"zero-shot": [], "grpo": ["grpo"], "prompt+grpo": ["bootstrap", "grpo"]},
}
# The tiny model knows no task, but it can learn to write letters.
TASK = """
from tasks import Example, Score, Task

class Letters(Task):
    name = "letters"
    instruction = "Answer in letters."
    failure_classes = {"other": "Hardly any letters."}

    def split(self, name):
        rows = range({"train": 24, "dev": 8, "test": 12}[name])
        return [
            Example(f"{name}-{i}", {"input": f"{name} {i}"}, "aeiou", {"even": i % 2 == 0})
            for i in rows
        ]

    def score(self, example, text):
        value = min(1.0, sum(c.isalpha() for c in text) / 6)
        right = text == example.answer
        return Score(value, right, None if right else "other", "" if right else "More letters.")
"""
REWARD = """
def share(prompts, completions, **columns):
    texts = [turns[0]["content"] for turns in completions]
    return [sum(c.isalnum() for c in text) / 6 for text in texts]
"""


def write_spec(folder: Path) -> Path:
    (folder / "letters.py").write_text(TASK)
    (folder / "alnum.py").write_text(REWARD)
    (folder / "spec.yaml").write_text(yaml.safe_dump(SPEC, sort_keys=False))
    return folder / "spec.yaml"


def results(run: Path) -> dict[str, Any]:
    """Everything that must be the same after an undisturbed run: answers, rollouts, weights."""
    found: dict[str, Any] = {}
    for path in sorted(run.rglob("*.parquet")):
        frame = pd.read_parquet(path).drop(columns="seconds", errors="ignore")
        found[str(path.relative_to(run))] = frame.to_json()
    for pattern in ("stages/*/policy/*.json", "stages/*/policy/adapter/*"):
        for path in sorted(run.glob(pattern)):
            found[str(path.relative_to(run))] = path.read_bytes()
    for path in sorted(run.glob("stages/*/ledger.json")):
        ledger = json.loads(path.read_text())
        counts = {
            purpose: {k: v for k, v in usage.items() if k != "seconds"}
            for purpose, usage in ledger["usage"].items()
        }
        found[str(path.relative_to(run))] = (counts, ledger["optimizer_steps"])
    entries = json.loads((run / "arms.json").read_text())
    found["arms"] = [(e["arm"], e["seed"], e["stages"], e["eval"]) for e in entries]
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert main(["run", str(write_spec(folder)), "--out", str(folder / "runs")]) == 0
    return folder / "runs/whole"


def test_run_folder_holds_what_it_should(undisturbed: Path) -> None:
    told = json.loads((undisturbed / "run.json").read_text())
    assert told["complete"] and told["test_opened"] == 1
    entries = json.loads((undisturbed / "arms.json").read_text())
    assert [entry["arm"] for entry in entries] == list(SPEC["arms"])
    for entry in entries:
        assert (undisturbed / "evals" / entry["eval"] / "records.parquet").exists()
    weights = list(undisturbed.glob("stages/*/rollouts.parquet"))
    assert len(weights) == 2
    assert len(pd.read_parquet(weights[0])) == 6 * 2 * 4


def test_weights_moved(undisturbed: Path) -> None:
    """Otherwise the tests below would compare nothing but untouched models."""
    assert len(list(undisturbed.glob("stages/*/policy/adapter/adapter_model.safetensors"))) == 2


def test_nothing_private_is_written(undisturbed: Path) -> None:
    home, folder = str(Path.home()).encode(), str(undisturbed.parent.parent).encode()
    for path in undisturbed.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert home + b"/" not in content, path
            assert folder not in content, path
            assert path.suffix not in {".pkl", ".pt", ".bin", ".pth"}, path


def test_running_again_repeats_nothing(
    undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {p: p.stat().st_mtime_ns for p in undisturbed.rglob("*.parquet")}
    spec = undisturbed.parent.parent / "spec.yaml"
    assert main(["run", str(spec), "--out", str(undisturbed.parent)]) == 0
    assert before == {p: p.stat().st_mtime_ns for p in undisturbed.rglob("*.parquet")}
    assert "grpo]" not in capsys.readouterr().out
    assert json.loads((undisturbed / "run.json").read_text())["test_opened"] == 1


def test_summary_has_the_promised_columns(
    undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["report", str(undisturbed), "--format", "csv", "--table", "summary"]
    assert main(words) == 0
    header = capsys.readouterr().out.splitlines()[0].replace('"', "")
    assert header == (
        "arm,seeds,n,score,ci_low,ci_high,seed_sd,delta,delta_low,delta_high,p,p_adjusted,fixed,"
        "broken,rollouts,completion_tokens,train_steps,seconds"
    )


@pytest.mark.parametrize("table", ["pairs", "failures", "flow", "slices", "cost", "curves"])
@pytest.mark.parametrize("format", ["terminal", "markdown", "csv"])
def test_every_table_prints(
    undisturbed: Path, capsys: pytest.CaptureFixture[str], table: str, format: str
) -> None:
    assert main(["report", str(undisturbed), "--table", table, "--format", format]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 1


def test_verbs_on_a_run(undisturbed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(undisturbed), "zero-shot", "grpo"]) == 0
    assert main(["failures", str(undisturbed), "--arm", "grpo"]) == 0
    assert main(["compare", str(undisturbed), "zero-shot", "gpro"]) == 2
    assert "gpro" in capsys.readouterr().err


def test_eval_of_an_arm_on_dev(undisturbed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = undisturbed.parent.parent / "letters.py"
    words = ["eval", str(task), "--run", str(undisturbed), "--arm", "prompt+grpo"]
    assert main([*words, "--limit", "6", "--max-tokens", "4"]) == 0
    assert "n 6" in capsys.readouterr().out


def start(spec: Path, out: Path, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "experiments.cli", "run", str(spec), "--out", str(out)]
    with log.open("ab") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)


@pytest.mark.slow
def test_killed_again_and_again_it_ends_the_same(undisturbed: Path, tmp_path: Path) -> None:
    """kill -9 each time something new appears in the run folder, then run to the end."""
    spec, log = write_spec(tmp_path), tmp_path / "log"
    run = tmp_path / "runs/whole"
    marks = ["stages/*/answers.jsonl", "checkpoints", "stages/*/DONE", "evals/*"]
    kills = 0
    for mark in marks:
        process = start(spec, tmp_path / "runs", log)
        before = set(run.rglob(mark) if "/" not in mark else run.glob(mark))
        while process.poll() is None:
            now = set(run.rglob(mark) if "/" not in mark else run.glob(mark))
            if now - before:
                os.killpg(process.pid, signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.02)
        process.wait()
    assert kills >= 3, log.read_text()
    assert start(spec, tmp_path / "runs", log).wait() == 0, log.read_text()
    assert results(run) == results(undisturbed)


def test_two_at_once_are_refused(undisturbed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import fcntl

    with (undisturbed / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        spec = undisturbed.parent.parent / "spec.yaml"
        assert main(["run", str(spec), "--out", str(undisturbed.parent)]) == 2
    assert "another tasklift" in capsys.readouterr().err


def test_dry_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = write_spec(tmp_path)
    assert main(["run", str(spec), "--out", str(tmp_path / "runs"), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "rollouts" in said and "power: " in said
    assert not (tmp_path / "runs").exists()


def test_examples_run_with_the_tiny_model(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # a task file outside the working folder
    example = root / "examples/your-own-task"
    assert len((example / "reverse.py").read_text().splitlines()) <= 30
    small = ["--set", "model=tiny-random", "--set", "sampling.max_tokens=4"]
    rows = [*small, "--set", "methods.bootstrap.candidates=1"]
    assert main(["run", str(example / "capitals-spec.yaml"), *rows]) == 0
    code = [
        *rows,
        *("--set", "splits={train: 16, dev: 6, test: 10}"),
        *("--set", "methods.bootstrap.dev_examples=4"),
        *("--set", "methods.grpo={steps: 1, prompts_per_step: 2, group_size: 2}"),
    ]
    assert main(["run", str(example / "reverse-spec.yaml"), *code]) == 0
    shown = capsys.readouterr().out
    assert "prompt+grpo" in shown and "report: runs/reverse/report.md" in shown


def test_an_objective_of_ones_own_runs_and_starts_afresh_when_it_changes(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = shutil.copytree(root / "examples/your-own-objective", tmp_path / "own")
    monkeypatch.chdir(tmp_path)
    tiny = ["--set", "model=tiny-random", "--set", "sampling.max_tokens=4"]
    tiny += ["--set", "splits={train: 8, dev: 4, test: 6}"]
    for name in ("mine", "dapo", "rloo"):
        for option in ("steps: 1", "prompts_per_step: 2", "group_size: 3"):
            tiny += ["--set", f"methods.{name}.{option.replace(': ', '=')}"]
    run = ["run", str(example / "spec.yaml"), *tiny]
    assert main(run) == 0
    rows = [
        json.loads(line)
        for path in Path("runs/own-objective").rglob("metrics.jsonl")
        for line in path.read_text().splitlines()
    ]
    trained = [row for row in rows if row["phase"] == "train"]
    assert len(trained) == 3 and all("objective/clip_ratio" in row for row in trained)

    code = example / "my_objective.py"
    code.write_text(code.read_text().replace("return (losses_BT", "return 2 * (losses_BT"))
    assert main(run) == 0
    stages = list(Path("runs/own-objective").rglob("metrics.jsonl"))
    assert len(stages) == 4  # the changed one anew, the others as they were
    code.write_text("def los(batch):\n    return 0, {}\n")
    assert main(run) == 2
    assert "defines no function 'loss'" in capsys.readouterr().err
