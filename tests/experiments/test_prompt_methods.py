"""The nine prompt methods through the command line, and a proposer at an address."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.cli import main
from tests.lm.endpoint_server import KEY, VARIABLE, Served, completion

SMALL = {"dev_examples": 6, "train_examples": 8, "rollouts": 40}
METHODS: dict[str, dict[str, Any]] = {
    "labeled": {"candidates": 2},
    "bootstrap": {"candidates": 1},
    "bootstrap_optuna": {"candidates": 2},
    "knn": {"neighbours": [2, 3]},
    "copro": {"breadth": 2, "depth": 1},
    "mipro": {"candidates": 2, "trials": 2},
    "simba": {"steps": 1, "batch_size": 4, "candidates": 2},
    "gepa": {"metric_calls": 20},
    "infer_rules": {"candidates": 2},
}
SPEC: dict[str, Any] = {
    "name": "prompts",
    "task": "inflection",
    "model": "tiny-random",
    "splits": {"train": 16, "dev": 8, "test": 8},
    "sampling": {"max_tokens": 4},
    "methods": {name: {**SMALL, **more} for name, more in METHODS.items()},
    "arms": {"zero-shot": [], **{name: [name] for name in METHODS}},
}


@pytest.fixture
def server() -> Iterator[Served]:
    import threading

    served = Served()
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield served
    served.shutdown()


def written(folder: Path, **changes: Any) -> str:
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump({**SPEC, **changes}))
    return str(path)


def test_all_nine_in_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", written(tmp_path)]) == 0
    stages = {
        json.loads((p / "stage.json").read_text())["kind"]: p
        for p in (tmp_path / "runs/prompts/stages").iterdir()
    }
    assert set(stages) == set(METHODS)
    for name, place in stages.items():
        told = json.loads((place / "stage.json").read_text())
        assert told["config"]["rollouts"] == 40, name
        usage = json.loads((place / "ledger.json").read_text())["usage"]
        assert sum(row["completions"] for row in usage.values()) <= 40, name
        assert (place / "DONE").exists() and (place / "search.json").exists()
    assert main(["report", "runs/prompts"]) == 0
    shown = capsys.readouterr().out
    assert all(name.replace("_", "\\_") in shown for name in METHODS)


def test_an_endpoint_proposes_and_its_key_is_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Served
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, KEY)
    replies = iter(range(1000))
    server.reply = lambda body: completion(f"Write the past form, number {next(replies)} of them.")
    who = {"endpoint": server.url, "model": "big", "key_env": VARIABLE}
    copro = {**SMALL, "breadth": 3, "depth": 1, "reflection": who, "proposals": "plain"}
    spec = written(tmp_path, methods={"copro": copro}, arms={"copro": ["copro"]})
    assert main(["run", spec]) == 0
    assert server.asked and all(h["Authorization"] == f"Bearer {KEY}" for h in server.headers)
    [stage] = (tmp_path / "runs/prompts/stages").iterdir()
    usage = json.loads((stage / "ledger.json").read_text())["usage"]
    assert usage["proposal"]["completions"] == len(server.asked)
    tried = json.loads((stage / "candidates.json").read_text())
    assert any("number" in row["prompt"]["instruction"] for row in tried)
    bare = KEY.replace('"', "")
    for file in (tmp_path / "runs").rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            assert KEY.encode() not in data and bare.encode() not in data, file


def test_a_missing_key_is_told_before_anything_is_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    who = {"endpoint": "http://127.0.0.1:9/v1", "model": "big", "key_env": VARIABLE}
    methods = {"gepa": {**SMALL, "reflection": who}}
    spec = written(tmp_path, methods=methods, arms={"gepa": ["gepa"]})
    assert main(["run", spec]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert VARIABLE in line
    assert not list((tmp_path / "runs").rglob("answers.jsonl"))


def test_a_local_proposer_is_looked_for_first_and_counts_by_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lm.tiny import write_tiny_model

    monkeypatch.chdir(tmp_path)
    copro = {**SMALL, "breadth": 2, "depth": 1}
    keys = set()
    for seed in (0, 1):
        write_tiny_model(tmp_path / "other", seed)
        methods = {"copro": {**copro, "reflection": "other"}}
        assert main(["run", written(tmp_path, methods=methods, arms={"a": ["copro"]})]) == 0
        keys |= {p.name for p in (tmp_path / "runs/prompts/stages").iterdir()}
    assert len(keys) == 2
    capsys.readouterr()
    methods = {"copro": {**copro, "reflection": "no-such-folder/of-mine/x"}}
    assert main(["run", written(tmp_path, methods=methods, arms={"a": ["copro"]})]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert "no-such-folder/of-mine/x" in line
