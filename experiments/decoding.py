"""How a policy answers where it is more than one greedy reply: its file in a run folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from evaluation.types import BestOf
from reward_models.config import FUNCTION, dump_reward, parse_reward
from reward_models.mentions import Mention, relocated


def to_told(best_of: BestOf | None, run: Path) -> dict[str, Any] | None:
    """What policy.json says of it; files are named as seen from the run folder."""
    if best_of is None:
        return None

    def seen_from_run(file: str) -> str:
        return os.path.relpath(file, run) if os.path.exists(file) else file

    return {**vars(best_of), "reward": _with_files(json.loads(best_of.reward), seen_from_run)}


def from_told(told: Mapping[str, Any] | None, run: Path) -> BestOf | None:
    """Inverse of `to_told`. Raises ValueError, KeyError or TypeError for what it never wrote."""
    if told is None:
        return None

    def found(file: str) -> str:
        path = os.path.normpath(run / file)
        return path if os.path.exists(path) else file

    return BestOf(**{**told, "reward": json.dumps(_with_files(told["reward"], found))})


def _with_files(raw: Any, change: Callable[[str], str]) -> Any:
    def moved(mention: Mention) -> str:
        match = FUNCTION.fullmatch(mention.name)
        if mention.kind == "code" and match:
            return f"{change(match['file'])}:{match['name']}"
        return change(mention.name)

    return dump_reward(relocated(parse_reward(raw), moved))
