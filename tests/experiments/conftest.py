"""A run whose arms end with every kind of weights, on the tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.cli import main

SMALL = {
    "steps": 6,
    "prompts_per_step": 4,
    "group_size": 8,
    "eval_every": 1,
    "checkpoint_every": 2,
}
LORA = {**SMALL, "learning_rate": 1e-2, "lora": {"r": 4}}
SPEC: dict[str, Any] = {
    "name": "kinds",
    "task": "letters.py",
    "model": "tiny-random",
    "splits": {"train": 24, "dev": 8, "test": 12},
    "sampling": {"max_tokens": 6},
    "methods": {
        "bootstrap": {"candidates": 1, "dev_examples": 4, "train_examples": 8},
        "lora": {"method": "grpo", **LORA},
        "qlora": {"method": "grpo", "weights": "qlora", **LORA},
        "full": {"method": "grpo", "weights": "full", "learning_rate": 2e-3, **SMALL},
    },
    "arms": {
        "untouched": [],
        "lora": ["lora"],
        "full": ["full"],
        "full+lora": ["full", "lora"],
        "lora+full": ["lora", "full"],
        "qlora+prompt": ["qlora", "bootstrap"],
    },
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
        return [Example(f"{name}-{i}", {"input": f"{name} {i}"}, "aeiou") for i in rows]

    def score(self, example, text):
        value = min(1.0, sum(c.isalpha() for c in text) / 6)
        right = text == example.answer
        return Score(value, right, None if right else "other", "" if right else "More letters.")
"""


def write_kinds_spec(folder: Path) -> Path:
    (folder / "letters.py").write_text(TASK)
    (folder / "spec.yaml").write_text(yaml.safe_dump(SPEC, sort_keys=False))
    return folder / "spec.yaml"


@pytest.fixture(scope="session")
def kinds_task() -> str:
    """The source of that run's task."""
    return TASK


@pytest.fixture(scope="session")
def kinds_spec():
    """Writes the spec of that run, with its task, into a folder."""
    return write_kinds_spec


@pytest.fixture(scope="session")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished run; do not write into it."""
    folder = tmp_path_factory.mktemp("kinds")
    assert main(["run", str(write_kinds_spec(folder)), "--out", str(folder / "runs")]) == 0
    return folder / "runs/kinds"
