"""What a run folder may be trusted with: nothing stale, nothing mixed, nothing private."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.cli import main

TASK = """
from helper import grade
from tasks import Example, Task

class Echo(Task):
    name = "echo"
    instruction = "Say it again."
    failure_classes = {"other": "Something else."}

    def split(self, name):
        rows = open(__file__.replace("echo.py", f"{name}.txt")).read().split()
        return [Example(row, {"input": row}, row) for row in rows]

    def score(self, example, text):
        return grade(example, text)
"""
HELPER = """
from tasks import Score

def grade(example, text):
    return Score(%s, False, "other", "No.")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "echo.py").write_text(TASK)
    (tmp_path / "helper.py").write_text(HELPER % "0.25")
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.txt").write_text(" ".join(f"{split}{i}" for i in range(4)))
    write_spec(tmp_path)
    return tmp_path


def write_spec(folder: Path, **changes: Any) -> None:
    spec = {
        "name": "echo",
        "task": "echo.py",
        "model": "tiny-random",
        "sampling": {"max_tokens": 3},
        "arms": {"a": [], "b": []},
        **changes,
    }
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    """In a process of its own: imported modules of a user's must not linger."""
    command = [sys.executable, "-m", "experiments.cli", "run", "spec.yaml"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def entries(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "runs/echo/arms.json").read_text())


def test_other_test_examples_are_another_evaluation(folder: Path) -> None:
    assert run(folder).returncode == 0
    before = entries(folder)
    (folder / "test.txt").write_text("quite other words now")
    assert run(folder).returncode == 0
    assert not {e["eval"] for e in before} & {e["eval"] for e in entries(folder)}


def test_an_arm_judged_again_was_judged_before(folder: Path) -> None:
    assert run(folder).returncode == 0
    assert [e["test_reads"] for e in entries(folder)] == [1, 1]
    (folder / "helper.py").write_text(HELPER % "0.75")
    for _ in range(2):  # the second time there is nothing new, so nobody is judged
        assert run(folder).returncode == 0
        assert [e["test_reads"] for e in entries(folder)] == [2, 2]
    report = (folder / "runs/echo/report.md").read_text()
    assert (folder / "runs/echo/report.html").read_text("utf-8").startswith("<!doctype html>")
    assert "read more than once**: 2 times for **a** (seed 0), 2 times for **b** (seed 0)" in report


def test_a_helper_of_the_task_counts_and_is_kept(folder: Path) -> None:
    assert run(folder).returncode == 0
    before = entries(folder)
    kept = {p.name for p in (folder / "runs/echo/task").rglob("*.py")}
    assert kept == {"echo.py", "helper.py"}
    (folder / "helper.py").write_text(HELPER % "0.75")
    done = run(folder)
    assert done.returncode == 0 and "75.0 %" in done.stdout
    assert not {e["eval"] for e in before} & {e["eval"] for e in entries(folder)}


def test_arms_of_one_report_sat_the_same_test(folder: Path) -> None:
    """Killed after the first arm of a changed task: the other's old answers must not count."""
    assert run(folder).returncode == 0
    (folder / "helper.py").write_text(HELPER % "0.75")
    path = folder / "runs/echo/arms.json"
    stale = entries(folder)
    assert run(folder).returncode == 0
    half = entries(folder)
    half[1] = stale[1]
    path.write_text(json.dumps(half))
    assert run(folder).returncode == 0
    assert entries(folder)[0]["eval"] == entries(folder)[1]["eval"] != stale[1]["eval"]


def test_doing_nothing_changes_nothing(folder: Path) -> None:
    assert run(folder).returncode == 0
    path = folder / "runs/echo/run.json"
    told = {**json.loads(path.read_text()), "device": "another machine", "git_commit": "older"}
    path.write_text(json.dumps(told))
    assert run(folder).returncode == 0
    assert json.loads(path.read_text()) == told


def test_a_changed_chat_template_is_another_model(folder: Path) -> None:
    from lm.source import resolve

    shutil.copytree(resolve("tiny-random"), folder / "model")
    write_spec(folder, model="./model")
    assert run(folder).returncode == 0
    before = entries(folder)
    template = folder / "model/chat_template.jinja"
    template.write_text(template.read_text().replace("assistant", "ASSISTANT"))
    assert run(folder).returncode == 0
    assert not {e["eval"] for e in before} & {e["eval"] for e in entries(folder)}


def test_answers_that_cannot_be_read_are_asked_again(folder: Path) -> None:
    assert run(folder).returncode == 0
    for path in (folder / "runs/echo/evals").glob("*/records.parquet"):
        path.write_bytes(b"garbage")
    assert main(["report", "runs/echo"]) == 2
    assert run(folder).returncode == 0
    assert main(["report", "runs/echo"]) == 0


@pytest.mark.parametrize("name", ["arms.json", "run.json", "spec.yaml"])
@pytest.mark.parametrize("content", [b"[1", b"\xff\xfe", b"[1, 2]"])
def test_a_damaged_run_folder_is_one_line(
    folder: Path, name: str, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "spec.yaml"]) == 0
    capsys.readouterr()
    (folder / "runs/echo" / name).write_bytes(content)
    assert main(["run", "spec.yaml"]) == 2
    line = capsys.readouterr().err.strip()
    assert "\n" not in line and line.startswith("tasklift: "), line


def test_a_mistake_found_late_can_be_mended(folder: Path) -> None:
    """No results yet: the spec may still change under the same name."""
    methods = {"grpo": {"steps": 1, "prompts_per_step": 2, "group_size": 2, "reward": "tsak"}}
    write_spec(folder, arms={"a": ["grpo"]}, methods=methods)
    assert run(folder).returncode == 2
    methods["grpo"]["reward"] = "task"
    write_spec(folder, arms={"a": ["grpo"]}, methods=methods)
    assert run(folder).returncode == 0


def test_home_is_written_nowhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    reward = "def fn(prompts, completions, **columns):\n    return [1.0] * len(completions)\n"
    (folder / "rw.py").write_text(reward)
    methods = {"grpo": {"steps": 1, "prompts_per_step": 2, "group_size": 2}}
    methods["grpo"]["reward"] = f"{folder}/rw.py:fn"  # type: ignore[assignment]
    write_spec(folder, task=f"{folder}/echo.py", arms={"a": ["grpo"]}, methods=methods)
    assert run(folder).returncode == 0
    for path in (folder / "runs").rglob("*"):
        assert not path.is_file() or str(folder).encode() not in path.read_bytes(), path
    assert (folder / "runs/echo/task/grpo/rw.py").read_text() == reward


def test_a_pipe_that_closes_early_is_no_success(folder: Path) -> None:
    command = f"{sys.executable} -m experiments.cli run spec.yaml | true; exit ${{PIPESTATUS[0]}}"
    assert subprocess.run(["bash", "-c", command], cwd=folder).returncode == 1


def test_files_with_the_names_of_built_ins_do_not_shadow_them(folder: Path) -> None:
    (folder / "inflection").mkdir()
    (folder / "tiny-random").mkdir()
    write_spec(folder, task="inflection", splits={"train": 4, "dev": 4, "test": 4})
    assert run(folder).returncode == 0


def test_eval_asks_an_arm_as_its_run_did(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder).returncode == 0
    assert main(["eval", "echo.py", "--run", "runs/echo", "--arm", "a", "--limit", "2"]) == 0
    assert "n 2" in capsys.readouterr().out
    with pytest.raises(SystemExit) as exit:
        main(["eval", "echo.py", "--limit", "0"])
    assert exit.value.code == 2
