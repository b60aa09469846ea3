"""A task with tools from spec to report: the same chain with them and without, in one run."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from evaluation.records import read_records
from experiments.chat import called
from experiments.cli import main
from experiments.saved import policy_of_arm
from experiments.store import RunFolder
from reports.escape import plain

TASK = """
from tasks import Example, Score, Task

def look(where: str) -> str:
    '''Looks somewhere.'''
    return "sky"

class Sky(Task):
    name = "sky"
    instruction = "Look."
    failure_classes = {"other": "Another answer."}
    tools = (look,)
    max_turns = 2

    def split(self, name):
        rows = range({"train": 8, "dev": 4, "test": 6}[name])
        return [Example(f"{name}-{i}", {"input": f"{name} {i}"}, "sky") for i in rows]

    def score(self, example, text):
        value = min(1.0, sum(c.isalpha() for c in text) / 8)
        right = text == example.answer
        return Score(1.0 if right else value, right, None if right else "other", "Say sky.")
"""
SMALL = {"steps": 2, "lora": {"r": 4}, "eval_every": 1, "checkpoint_every": 1, "audits": False}
SPEC: dict[str, Any] = {
    "name": "sky",
    "task": "sky.py",
    "model": "tiny-random",
    "sampling": {"max_tokens": 12},
    "methods": {
        "sft": {**SMALL, "rows_per_step": 4},
        "grpo": {**SMALL, "prompts_per_step": 2, "group_size": 4},
    },
    "arms": {
        "acting": ["sft", "grpo"],
        "bare": {"chain": ["sft", "grpo"], "tools": False},
        "untouched": [],
        "untouched-bare": {"chain": [], "tools": False},
        "vote": [{"best_of": {"n": 2, "reward": "majority"}}],
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("acting")
    (folder / "sky.py").write_text(TASK)
    (folder / "spec.yaml").write_text(yaml.safe_dump(SPEC, sort_keys=False))
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    assert main(["run", str(folder / "spec.yaml"), "--out", str(folder / "runs")]) == 0
    return folder / "runs/sky"


def answers(run: Path, arm: str) -> list[Any]:
    [entry] = [entry for entry in RunFolder(run).arms() if entry["arm"] == arm]
    return read_records(run / "evals" / entry["eval"] / "records.parquet")


def test_only_who_may_act_has_transcripts(run: Path) -> None:
    for arm in ("acting", "untouched", "vote"):
        turns = [json.loads(record.transcript) for record in answers(run, arm)]
        assert all(each[-1]["role"] == "assistant" for each in turns)
        assert [e[-1]["content"] for e in turns] == [r.text for r in answers(run, arm)]
    for arm in ("bare", "untouched-bare"):
        assert all(record.transcript is None for record in answers(run, arm))


def test_arms_with_and_without_tools_share_nothing(run: Path) -> None:
    stages = {entry["arm"]: entry["stages"] for entry in RunFolder(run).arms()}
    assert not set(stages["acting"]) & set(stages["bare"])
    evals = [entry["eval"] for entry in RunFolder(run).arms()]
    assert len(set(evals)) == len(evals)
    for arm, offered in (("acting", True), ("bare", False), ("untouched-bare", False)):
        assert bool(policy_of_arm(run, arm).policy.prompt.tools) == offered
        assert ("tools" in json.loads(policy_of_arm(run, arm).policy.prompt.to_json())) == offered


def test_a_second_run_does_nothing_and_another_gives_the_same(run: Path, folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*.parquet")}
    assert main(["run", str(folder / "spec.yaml"), "--out", str(folder / "runs")]) == 0
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*.parquet")} == before
    assert main(["run", str(folder / "spec.yaml"), "--out", str(folder / "again")]) == 0
    for arm in SPEC["arms"]:
        first, second = answers(run, arm), answers(folder / "again/sky", arm)
        assert [(r.text, r.transcript, r.score) for r in first] == [
            (r.text, r.transcript, r.score) for r in second
        ]


def test_reports_take_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for table in ("summary", "failures", "cost", "slices"):
        assert main(["report", str(run), "--table", table]) == 0
    assert "acting" in capsys.readouterr().out
    assert (run / "report.html").stat().st_size > 10_000


def test_chat_uses_the_tools(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = "".join(f"test {i}\n" for i in range(6))
    for arm in ("acting", "bare"):
        monkeypatch.setattr("sys.stdin", io.StringIO(asked))
        capsys.readouterr()
        assert main(["chat", f"{run}:{arm}"]) == 0
        said = [plain(record.text.strip(), 10**6) for record in answers(run, arm)]
        assert capsys.readouterr().out.splitlines() == said


def test_calls_are_shown_on_a_line() -> None:
    turns = [
        {"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": {"a": 1}}]},
        {"role": "tool", "name": "f", "content": "2"},
        {"role": "assistant", "content": "<tool_call>", "malformed": "x"},
        {"role": "tool", "name": "", "content": "error", "error": "malformed_call"},
        {"role": "assistant", "content": "2"},
    ]
    assert called(turns) == ["f(a=1): 2", "malformed call(): error"]


def test_eval_and_export_take_it(
    run: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = str(folder / "sky.py")
    assert main(["eval", task, "--run", str(run), "--arm", "acting", "--split", "dev"]) == 0
    assert "n 4" in capsys.readouterr().out
    assert main(["export", str(run), "acting", "--out", str(folder / "out")]) == 0
    told = (folder / "out/README.md").read_text()
    assert "may call tools (look)" in told and "<tools>" in told
    assert json.loads((folder / "out/prompt.json").read_text())["tools"]
