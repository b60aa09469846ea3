"""What docs/rewards.md shows is what the code takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from reward_models.config import parse_reward

TEXT = (Path(__file__).parents[2] / "docs/rewards.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.S)


def rewards() -> list[str]:
    """Each `reward:` of a block, alone: a block may list several."""
    parts = [re.split(r"^(?=reward:)", block, flags=re.M) for block in blocks("yaml")]
    return [part for found in parts for part in found if part.startswith("reward:")]


@pytest.mark.parametrize("text", rewards())
def test_every_reward_shown_parses(text: str) -> None:
    parse_reward(yaml.safe_load(text)["reward"])


def test_the_program_shown_runs() -> None:
    [program] = blocks("python")
    names: dict = {}
    exec(program, names)
    example = next(iter(names["examples"].values()))
    [value] = names["reward"]([""], [example.answer], example_id=[example.id])
    assert value == 2.0


def test_there_is_something_to_test() -> None:
    assert len(rewards()) >= 9
