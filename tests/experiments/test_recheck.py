"""`tasklift recheck`: arms again on test examples that nothing has seen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from evaluation.compare import compare
from evaluation.records import mean_scores, read_answers
from experiments.cli import main
from reports import load_run, recheck, report_markdown

GRPO = {"steps": 6, "prompts_per_step": 2, "group_size": 4, "eval_every": 2, "checkpoint_every": 6}
SPEC: dict[str, Any] = {
    "name": "again",
    "task": "letters.py",
    "model": "tiny-random",
    "splits": {"test": 24},
    "sampling": {"max_tokens": 6},
    "methods": {"quick": {"method": "grpo", **GRPO, "learning_rate": 1e-2}},
    "arms": {"zero-shot": [], "quick": ["quick"]},
}


def command(folder: Path, task: str, **changes: Any) -> list[str]:
    (folder / "letters.py").write_text(task.replace('"test": 12', '"test": 60'))
    (folder / "spec.yaml").write_text(yaml.safe_dump({**SPEC, **changes}, sort_keys=False))
    return ["run", str(folder / "spec.yaml"), "--out", str(folder / "runs")]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, kinds_task: str) -> Path:
    folder = tmp_path_factory.mktemp("again")
    assert main(command(folder, kinds_task)) == 0
    return folder / "runs/again"


@pytest.fixture
def run(done: Path, tmp_path: Path) -> Path:
    """A copy, its spec's folder with it."""
    return Path(shutil.copytree(done.parent.parent, tmp_path / "copy")) / "runs/again"


def test_all_arms_are_asked_what_no_one_has_seen(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recheck", str(run)]) == 0
    assert "again: recheck" in capsys.readouterr().out
    told = json.loads((run / "recheck.json").read_text())
    assert told["examples"] == 36 and [len(row["evals"]) for row in told["arms"]] == [1, 1]
    places = [run / "evals" / row["eval"] for row in told["arms"]]
    answers = [read_answers(place / "records.parquet") for place in places]
    for own in answers:
        assert list(own["example_id"]) == [f"test-{i}" for i in range(24, 60)]
    base, quick = recheck(load_run(run)).to_dict("records")
    found = compare(*map(mean_scores, answers))
    assert (quick["delta"], quick["p"], quick["n"]) == (found.delta, found.p, 36)
    assert base["delta"] != base["delta"]  # missing
    assert quick["test_score"] == load_run(run).scores[load_run(run).arms[1].eval].mean()
    assert "Again, on test examples never seen" in report_markdown(load_run(run))


def test_what_was_asked_is_not_asked_again_but_other_examples_are_and_it_is_counted(
    run: Path,
) -> None:
    assert main(["recheck", str(run), "--limit", "10"]) == 0
    before = {p: p.stat().st_mtime_ns for p in run.glob("evals/*/records.parquet")}
    assert main(["recheck", str(run), "--limit", "10"]) == 0
    assert {p: p.stat().st_mtime_ns for p in run.glob("evals/*/records.parquet")} == before
    assert recheck(load_run(run))["reads"].tolist() == [1, 1]
    assert main(["recheck", str(run)]) == 0
    assert recheck(load_run(run))["reads"].tolist() == [2, 2]
    rows = [pq.read_metadata(p).num_rows for p in run.glob("evals/*/records.parquet")]
    assert sorted(rows) == [10, 10, 24, 24, 36, 36]
    assert main(["recheck", str(run), "--limit", "10"]) == 0
    assert recheck(load_run(run))["reads"].tolist() == [2, 2]  # what was read stays read


def test_a_folder_of_another_name_is_refused_and_the_working_folder_may_be_the_run(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run)
    assert main(["recheck", ".", "--limit", "3"]) == 0
    assert not (run / "again").exists()
    moved = run.rename(run.with_name("kept"))
    assert main(["recheck", str(moved)]) == 2
    assert "'again'" in capsys.readouterr().err and not run.exists()


def test_other_examples_are_asked_anew_and_what_test_has_asked_is_not_unseen(
    run: Path, kinds_task: str
) -> None:
    """The task's hash knows nothing of a file it reads; nor need ids tell a repeated question."""
    reading = "extra = open(__file__[:-10] + 'extra.txt').read()\n        return [Example"
    asked = "{name} {i if i != 59 else 0}{extra if i == 58 else str()}"
    task = kinds_task.replace("return [Example", reading).replace("{name} {i}", asked)
    folder = run.parent.parent
    shutil.rmtree(run)
    (folder / "extra.txt").write_text("")
    assert main(command(folder, task)) == 0
    assert main(["recheck", str(run)]) == 0
    told = json.loads((run / "recheck.json").read_text())
    assert told["examples"] == 35  # the last repeats the first, which test has asked
    (folder / "extra.txt").write_text(" or so")
    assert main(["recheck", str(run)]) == 0
    again = json.loads((run / "recheck.json").read_text())
    assert again["arms"][0]["eval"] != told["arms"][0]["eval"]


@pytest.mark.parametrize(("test", "limit", "said"), [(None, [], "all of test"), (24, ["37"], "36")])
def test_where_nothing_is_left_it_says_so(
    run: Path, kinds_task: str, capsys: pytest.CaptureFixture[str], test: Any, limit: Any, said: str
) -> None:
    if test is None:
        shutil.rmtree(run)
        assert main(command(run.parent.parent, kinds_task, splits={"test": None})) == 0
    assert main(["recheck", str(run), *(["--limit", *limit] if limit else [])]) == 2
    assert said in capsys.readouterr().err
    assert not (run / "recheck.json").exists()


def test_a_run_that_is_not_finished_is_not_rechecked(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**told, "complete": False}))
    assert main(["recheck", str(run)]) == 2
    assert "not finished" in capsys.readouterr().err
    assert main(["recheck", str(run.parent)]) == 2
