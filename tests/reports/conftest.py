"""A small run folder, written by hand as `experiments` writes one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evaluation.records import write_records
from evaluation.types import EvalRecord
from lm.ledger import Ledger

# what a model might write: ANSI, pipes, HTML, rich markup, line breaks, bidi, links, a novel
EVIL = (
    "\x1b[31mred\x1b[0m | <b>x</b> [bold]*y*[/bold]\n`z` \u202eabc https://evil.example "
    + "w" * 200
)

# example by example: right, or the class of what went wrong
ZERO = ["tense"] * 10 + ["empty"] * 6 + ["correct"] * 4
SHOTS = ["correct"] * 9 + ["tense"] * 7 + ["correct"] * 3 + ["stem"]
BOTH = ["correct"] * 15 + ["tense"] * 2 + ["correct"] * 3


def _record(i: int, outcome: str) -> EvalRecord:
    correct = outcome == "correct"
    return EvalRecord(
        split="test",
        example_id=f"e{i:02}",
        sample=0,
        score=float(correct),
        correct=correct,
        failure=None if correct else outcome,
        answer="" if outcome == "empty" else f"a{i}",
        gold=f"g{i}",
        text=EVIL if outcome == "empty" else f"a{i}",
        feedback="",
        finish="stop",
        prompt_tokens=9,
        completion_tokens=2,
        seconds=0.1,
        inputs=json.dumps({"verb": f"v{i}", "tense": "past"}),
        meta=json.dumps({"regular": i % 2 == 0, "id": i, "tags": ["x"]}),
    )


def _ledger(wall: float, steps: int = 0, **completions: int) -> str:
    ledger = Ledger(wall_seconds=wall)
    for purpose, count in completions.items():
        ledger.add(
            purpose,  # type: ignore[arg-type]
            completions=count,
            prompt_tokens=10 * count,
            completion_tokens=2 * count,
            seconds=1.5,
        )
    if steps:
        ledger.add_training(tokens=100 * steps, steps=steps, seconds=4.0)
    return ledger.to_json()


def _write(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def _stage(run: Path, key: str, method: str, ledger: str, metrics: list[dict]) -> None:
    row = {"method": method, "kind": method, "config": {}, "seed": 0, "parent": None}
    _write(
        run / "stages" / key,
        {
            "stage.json": json.dumps(row),
            "ledger.json": ledger,
            "metrics.jsonl": "".join(json.dumps(line) + "\n" for line in metrics),
            "DONE": "",
        },
    )


def _eval(run: Path, key: str, outcomes: list[str]) -> None:
    _write(run / "evals" / key, {"ledger.json": _ledger(3.0, eval=20), "DONE": ""})
    write_records(
        run / "evals" / key / "records.parquet",
        [_record(i, outcome) for i, outcome in enumerate(outcomes)],
    )


@pytest.fixture
def folder(tmp_path) -> Path:
    run = tmp_path / "verbs"
    info = {
        "name": "verbs",
        "task": "inflect",
        "task_hash": "abc",
        "failure_classes": {"tense": "Another tense.", "stem": "Another verb."},
        "baseline": "zero",
        "versions": {"torch": "2"},
        "git_commit": "0123abc",
        "device": "cpu",
        "dtype": "float32",
        "model": "tiny",
        "model_fingerprint": "f00",
        "test_opened": 3,
        "complete": False,
    }
    arms = [
        {"arm": "zero", "seed": 0, "stages": [], "eval": "E0", "test_reads": 1},
        {"arm": "shots", "seed": 0, "stages": ["S1"], "eval": "E1", "test_reads": 1},
        {"arm": "shots+grpo", "seed": 0, "stages": ["S1", "S2"], "eval": "E2", "test_reads": 1},
        {"arm": "grpo", "seed": 0, "stages": ["S3"], "eval": None, "test_reads": 0},
    ]
    _write(run, {"run.json": json.dumps(info), "arms.json": json.dumps(arms)})
    _stage(run, "S1", "bootstrap", _ledger(60.0, metric=30, eval=5), [])
    metrics = [
        {"step": 1, "phase": "train", "reward": 0.5, "rollouts": 8},
        {"step": 1, "phase": "dev", "dev_score": 0.25, "rollouts": 8},
    ]
    _stage(run, "S2", "grpo", _ledger(40.0, steps=7, rollout=64), metrics)
    for key, outcomes in (("E0", ZERO), ("E1", SHOTS), ("E2", BOTH)):
        _eval(run, key, outcomes)
    return run


PROMPT = {"instruction": "Give a form of the verb.", "inputs": ["verb", "tense"], "output": "form"}
DEMOS = [
    {"inputs": {"verb": f"walk{i}", "tense": "past"}, "output": f"walked{i}", "reasoning": ""}
    for i in range(3)
]


def _prompt(folder: Path, **changed: object) -> None:
    told = PROMPT | {"style": "direct", "demos": []} | changed
    _write(folder, {"prompt.json": json.dumps(told), "policy.json": json.dumps({"adapter": None})})


def _spent(rollouts: int) -> dict:
    tokens = {"tokens": 12 * rollouts, "completion_tokens": 2 * rollouts, "train_tokens": 0}
    return {"rollouts": rollouts, "spent": {"seconds": rollouts / 4, **tokens}}


@pytest.fixture
def rich(folder: Path) -> Path:
    """The same with prompts, learning curves on three axes, training and an attribution."""
    (folder / "prompt.json").write_text(json.dumps(PROMPT | {"style": "direct", "demos": []}))
    _prompt(folder / "stages/S1/policy", instruction="Give the right form.", demos=DEMOS)
    _prompt(folder / "stages/S2/policy", instruction="Give the right form.", demos=DEMOS)
    dev = [{"step": i, "phase": "dev", "dev_score": i / 8, **_spent(10 * i)} for i in range(4)]
    train = [
        {"step": i, "phase": "train", "loss": 0.1, "reward": i / 9, "entropy": 1 / (1 + i)}
        | {"kl": i / 100, "dead_groups": 0.5, "completion_tokens": 3.0, **_spent(8 * i)}
        for i in range(1, 8)
    ]
    dev_later = [{"step": i, "phase": "dev", "dev_score": 0.5 + i / 40, **_spent(8 * i)}
                 for i in (0, 4, 7)]  # fmt: skip
    for key, rows in (("S1", dev), ("S2", [*train, *dev_later])):
        path = folder / "stages" / key / "metrics.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = {"name": "length", "level": "note", "step": 3, "detail": "answers grow longer"}
    (folder / "stages/S2/audits.json").write_text(json.dumps([found]))
    _eval(folder, "E3", SHOTS[::-1])
    arms = json.loads((folder / "arms.json").read_text())
    arms[2]["cells"] = {"base": "E0", "prompt": "E1", "weights": "E3", "both": "E2"}
    (folder / "arms.json").write_text(json.dumps(arms))
    return folder
