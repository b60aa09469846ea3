"""What `tasklift collect` writes of a task: task.yaml, a JSONL file for each split, CARD.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.collect.card import card
from tasks.collect.clean import json_row
from tasks.collect.work import Collected
from tasks.types import SPLITS

MADE_BY = "Made by tasklift collect"


def is_made_here(folder: Path) -> bool:
    """Whether `folder` holds a task that `write_task` wrote, not one that is only called so."""
    try:
        return MADE_BY in (folder / "task.yaml").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def write_task(found: Collected, folder: Path, command: str) -> None:
    """Write the task into the existing `folder`. `command` is how the card says to do it again."""
    for split in SPLITS:
        rows = (json_row(item, found.answer) + "\n" for item in found.splits[split])
        (folder / f"{split}.jsonl").write_text("".join(rows), encoding="utf-8")
    (folder / "task.yaml").write_text(declaration(found), encoding="utf-8")
    (folder / "CARD.md").write_text(card(found, command), encoding="utf-8")


def declaration(found: Collected) -> str:
    """The task.yaml."""
    import yaml

    keys: dict[str, Any] = {
        "name": found.options.name,
        "data": {split: f"{split}.jsonl" for split in SPLITS},
        "instruction": found.instruction,
        "inputs": list(found.inputs),
        "answer": found.answer,
        "scorer": found.guess.scorer,
    }
    if found.guess.choices:
        keys["choices"] = list(found.guess.choices)
    if found.guess.pattern:
        keys["pattern"] = found.guess.pattern
    body = yaml.safe_dump(keys, sort_keys=False, allow_unicode=True, width=96)
    return f"# {MADE_BY}; CARD.md says from what and how. Edit it as you like.\n{body}"
