"""A task that shows pictures from spec to report, and what cannot be done with it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from evaluation.records import read_records
from experiments.cli import main
from experiments.store import RunFolder
from tests.experiments.test_bad_input import refused

SPEC: dict[str, Any] = {
    "name": "look",
    "task": "digit-image",
    "model": "tiny-random-vision",
    "splits": {"train": 4, "dev": 4, "test": 6},
    "sampling": {"max_tokens": 4},
    "arms": {"untouched": []},
}


def write(folder: Path, **changes: Any) -> str:
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump({**SPEC, **changes}, sort_keys=False))
    return str(path)


def test_a_run_keeps_names_in_records_and_pictures_beside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for out in ("runs", "again"):
        assert main(["run", write(tmp_path), "--out", str(tmp_path / out)]) == 0
    run = tmp_path / "runs/look"
    [entry] = RunFolder(run).arms()
    found = [
        read_records(tmp_path / out / "look/evals" / entry["eval"] / "records.parquet")
        for out in ("runs", "again")
    ]
    assert [(r.text, r.score) for r in found[0]] == [(r.text, r.score) for r in found[1]]
    assert len(found[0]) == 6
    for record in found[0]:
        name = json.loads(record.inputs)["picture"]
        kept = (run / "images" / f"{name.rpartition(':')[2]}.png").read_bytes()
        assert name == f"image:png:{hashlib.sha256(kept).hexdigest()}"
    assert len(list((run / "images").iterdir())) == 6
    assert main(["report", str(run), "--table", "failures"]) == 0
    assert (run / "report.html").stat().st_size > 10_000
    capsys.readouterr()
    assert main(["eval", "digit-image", "--model", "tiny-random-vision", "--limit", "3"]) == 0
    assert "n 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "tiny-random"}, ["'tiny-random' reads text only", "vision-language model"]),
        ({"arms": {"a": ["bootstrap"]}}, ["arm a: bootstrap", "pictures yet", "[]"]),
        ({"arms": {"a": [], "b": ["sft"]}}, ["arm b: sft", "pictures yet"]),
        ({"arms": {"a": [{"best_of": {"n": 2, "reward": "majority"}}]}}, ["best_of", "pictures"]),
    ],
)
def test_what_cannot_look_is_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    words: list[str],
) -> None:
    line = refused(capsys, "run", write(tmp_path, **changes))
    assert all(word in line for word in words), line
    assert not (tmp_path / "runs").exists()


def test_eval_refuses_a_model_of_text(capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, "eval", "digit-image", "--model", "tiny-random")
    assert "reads text only" in line


def test_tasks_of_texts_refuse_a_model_that_looks(capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, "eval", "inflection", "--model", "tiny-random-vision", "--limit", "2")
    assert "looks at pictures, and this works with texts only" in line
