"""Attribution on the tiny model: only missing cells are asked, whenever it is switched on."""

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

from evaluation.types import Policy
from experiments import answering
from experiments.attribution import cells, describe_cells
from experiments.cli import main
from experiments.plan import make_plan
from experiments.spec import parse_spec
from tasks.types import Prompt

METHODS: dict[str, Any] = {
    "bootstrap": {"candidates": 1, "dev_examples": 4, "train_examples": 8},
    "labeled": {"candidates": 6, "demos": 2, "dev_examples": 8},
    "grpo": {
        "steps": 3,
        "prompts_per_step": 2,
        "group_size": 4,
        "learning_rate": 1e-2,
        "eval_every": 1,
        "checkpoint_every": 2,
    },
}
SPEC: dict[str, Any] = {
    "name": "apart",
    "task": "letters.py",
    "model": "tiny-random",
    "splits": {"train": 24, "dev": 8, "test": 12},
    "sampling": {"max_tokens": 6},
    "methods": METHODS,
    "arms": {
        "zero-shot": [],
        "prompt": ["bootstrap"],
        "prompt+grpo": ["bootstrap", "grpo"],
        "grpo+prompt": ["grpo", "labeled"],
    },
}
ON = ("--set", "attribution=true")
APART = ("prompt+grpo", "grpo+prompt")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, kinds_task: str) -> Path:
    """A finished run without attribution; copy it before writing into it."""
    folder = tmp_path_factory.mktemp("plain")
    (folder / "letters.py").write_text(kinds_task)
    (folder / "spec.yaml").write_text(yaml.safe_dump(SPEC, sort_keys=False))
    assert run(folder) == 0
    return folder


@pytest.fixture
def folder(plain: Path, tmp_path: Path) -> Path:
    return shutil.copytree(plain, tmp_path / "copy")


def run(folder: Path, *more: str) -> int:
    return main(["run", str(folder / "spec.yaml"), "--out", str(folder / "runs"), *more])


def entries(folder: Path) -> dict[str, dict[str, Any]]:
    found = json.loads((folder / "runs/apart/arms.json").read_text())
    return {entry["arm"]: entry for entry in found}


def opened(folder: Path) -> int:
    return json.loads((folder / "runs/apart/run.json").read_text())["test_opened"]


def stamps(folder: Path) -> dict[str, int]:
    """When each stage and each evaluation was last written, by path."""
    kinds = ("stages/*/ledger.json", "evals/*/records.parquet")
    paths = [path for kind in kinds for path in (folder / "runs/apart").glob(kind)]
    return {f"{p.parent.parent.name}/{p.parent.name}": p.stat().st_mtime_ns for p in paths}


def answers(folder: Path, key: str) -> str:
    path = folder / f"runs/apart/evals/{key}/records.parquet"
    return pd.read_parquet(path).drop(columns="seconds").to_json()


def test_switched_on_later_it_asks_the_missing_cells_and_nothing_else(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = stamps(folder)
    assert "cells" not in str(entries(folder)) and opened(folder) == 1
    capsys.readouterr()
    assert run(folder, *ON) == 0
    shown, after = capsys.readouterr().out, stamps(folder)
    assert "bootstrap]" not in shown and "grpo]" not in shown  # no stage ran
    assert before.items() <= after.items()
    by_arm = entries(folder)
    chain = by_arm["prompt+grpo"]
    assert chain["cells"]["base"] == by_arm["zero-shot"]["eval"]
    assert chain["cells"]["prompt"] == by_arm["prompt"]["eval"]
    assert chain["cells"]["both"] == chain["eval"]
    for arm in APART:  # else the tiny model's weights or prompt did not move, and nothing is shown
        assert len(set(by_arm[arm]["cells"].values())) == 4
    known = {entry["eval"] for entry in by_arm.values()}
    needed = {key for arm in APART for key in by_arm[arm]["cells"].values()}
    assert {f"evals/{key}" for key in needed - known} == set(after) - set(before)
    assert opened(folder) == 2
    assert {entry["test_reads"] for entry in by_arm.values()} == {1}

    assert run(folder, *ON) == 0  # and once more: nothing
    assert (stamps(folder), opened(folder)) == (after, 2)


def test_on_from_the_start_it_is_the_same(
    folder: Path, plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    for name in ("letters.py", "spec.yaml"):
        shutil.copy(plain / name, fresh)
    assert run(fresh, *ON) == 0 and opened(fresh) == 1
    assert run(folder, *ON) == 0
    assert entries(fresh) == entries(folder)
    for entry in entries(fresh).values():
        for key in entry.get("cells", {}).values():
            assert answers(fresh, key) == answers(folder, key)
    capsys.readouterr()
    assert main(["report", str(fresh / "runs/apart"), "--table", "attribution"]) == 0
    shown = capsys.readouterr().out
    assert "prompt+grpo: from" in shown and "grpo+prompt: from" in shown
    assert "zero-shot" not in shown
    assert "## Weights or prompt" in (fresh / "runs/apart/report.md").read_text()


def test_stopped_between_cells_it_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate, asked = answering._evaluate, []

    def stop_at_the_second(*arguments: Any) -> None:
        asked.append(arguments[1].name)
        if len(asked) == 2:
            raise KeyboardInterrupt
        evaluate(*arguments)

    monkeypatch.setattr(answering, "_evaluate", stop_at_the_second)
    assert run(folder, *ON) == 130
    assert entries(folder)["grpo+prompt"]["cells"] is None
    assert main(["report", str(folder / "runs/apart")]) == 0
    first = stamps(folder)
    monkeypatch.setattr(answering, "_evaluate", evaluate)
    assert run(folder, *ON) == 0
    assert first.items() <= stamps(folder).items()
    assert all(entries(folder)[arm]["cells"] for arm in APART)


@pytest.mark.slow
def test_killed_among_the_cells_it_ends_the_same(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    words = ["run", "spec.yaml", "--out", "runs", *ON]
    command = [sys.executable, "-m", "experiments.cli", *words]
    process = subprocess.Popen(command, cwd=folder, start_new_session=True)
    evals = folder / "runs/apart/evals"
    before = len(list(evals.iterdir()))
    while process.poll() is None and len(list(evals.iterdir())) == before:
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert run(folder, *ON) == 0 and run(other, *ON) == 0
    assert entries(folder) == entries(other)
    for key in {key for arm in APART for key in entries(folder)[arm]["cells"].values()}:
        assert answers(folder, key) == answers(other, key)


def test_switched_off_again_what_is_there_stays(folder: Path) -> None:
    assert run(folder, *ON) == 0
    before, stamped = entries(folder), stamps(folder)
    assert run(folder) == 0
    assert (entries(folder), stamps(folder)) == (before, stamped)
    key = before["grpo+prompt"]["cells"]["prompt"]  # no arm's: gone, nobody asks for it now
    shutil.rmtree(folder / f"runs/apart/evals/{key}")
    assert run(folder) == 0
    assert "cells" not in entries(folder)["grpo+prompt"]
    assert run(folder, *ON) == 0
    assert entries(folder) == before


def test_a_folder_from_before_the_key_existed_is_gone_on_with(folder: Path) -> None:
    path = folder / "runs/apart/spec.yaml"
    told = yaml.safe_load(path.read_text())
    del told["attribution"]
    path.write_text(yaml.safe_dump(told, sort_keys=False))
    before = stamps(folder)
    assert run(folder) == 0 and stamps(folder) == before
    assert yaml.safe_load(path.read_text())["attribution"] is False


def test_another_spec_is_still_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, *ON, "--set", "sampling.max_tokens=5") == 2
    assert "sampling.max_tokens differs" in capsys.readouterr().err


def test_a_changed_task_has_other_cells(folder: Path) -> None:
    assert run(folder, *ON) == 0
    before = entries(folder)
    task = folder / "letters.py"
    task.write_text(task.read_text().replace("/ 6)", "/ 5)"))
    assert run(folder, *ON) == 0
    for arm in APART:
        old, new = (set(found[arm]["cells"].values()) for found in (before, entries(folder)))
        assert not old & new


def test_dry_run_says_how_many_cells_at_most(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, "--dry-run") == 0
    assert "attribution" not in capsys.readouterr().out
    assert run(folder, *ON, "--dry-run") == 0
    # tuned weights of either chain, and the prompt that was made for tuned weights
    line = "attribution: 2 arms with both prompt and weights moved; at most 3 more policies"
    assert line in capsys.readouterr().out
    assert "cells" not in str(entries(folder))


@pytest.mark.parametrize(
    ("arms", "number"),
    [
        ({"both": ["bootstrap", "grpo"]}, 3),
        ({"zero": [], "both": ["bootstrap", "grpo"]}, 2),
        ({"zero": [], "p": ["bootstrap"], "both": ["bootstrap", "grpo"]}, 1),
        ({"zero": [], "g": ["grpo"], "both": ["grpo", "bootstrap"]}, 1),
        ({"zero": [], "p": ["bootstrap"], "three": ["bootstrap", "grpo", "bootstrap"]}, 2),
        ({"zero": [], "two": ["bootstrap", "grpo"], "again": ["bootstrap", "grpo", "grpo"]}, 3),
    ],
)
def test_cells_are_counted_once(tmp_path: Path, arms: dict[str, Any], number: int) -> None:
    raw = {**SPEC, "task": "inflection", "arms": arms, "attribution": True}
    spec = parse_spec(raw, "test")
    [line] = describe_cells(spec, make_plan(spec, "w", tmp_path))
    assert f"at most {number} more" in line


def test_every_kind_of_weights_changes_hands(tmp_path: Path) -> None:
    start = Policy("m", Prompt("Base.", ("x",), "y"))
    tuned = Prompt("Tuned.", ("x",), "y")
    last = Policy("m", tuned, tmp_path / "adapter", tmp_path / "weights", "nf4")
    found = cells(start, last)
    assert (found["base"], found["both"]) == (start, last)
    assert found["prompt"] == Policy("m", tuned)
    assert found["weights"] == last.with_prompt(start.prompt)


def test_every_kind_of_weights_runs(kinds: Path, kinds_spec: Any, tmp_path: Path) -> None:
    """On the run with 4 bits: base weights are those the spec names, in full."""
    spec = kinds_spec(tmp_path)
    shutil.copytree(kinds, tmp_path / "runs/kinds")
    assert main(["run", str(spec), "--out", str(tmp_path / "runs"), *ON]) == 0
    found = {e["arm"]: e for e in json.loads((tmp_path / "runs/kinds/arms.json").read_text())}
    entry = found["qlora+prompt"]
    assert entry["cells"]["base"] == found["untouched"]["eval"]
    assert [arm for arm in found if "cells" in found[arm]] == ["qlora+prompt"]
