"""A reward model that has learned something, on the tiny model; an endpoint for judges."""

from __future__ import annotations

from pathlib import Path

import pytest

from lm.tiny import write_tiny_model
from reward_models.pairs import Pair
from reward_models.training import Training, train_reward
from tasks.types import Prompt
from tests.lm.conftest import server

__all__ = ["server"]

PROMPT = Prompt("Say it in vowels.", ("word",))
TRAINING = Training(passes=4, batch=8, learning_rate=5e-3, rank=4, checkpoint_every=3)


def vowel_pairs(first: int, last: int) -> list[Pair]:
    """Answers of vowels are preferred to answers of consonants."""
    return [
        Pair(
            f"w{i}",
            PROMPT.messages({"word": f"word {i}"}),
            "".join("aeiou"[(i * k) % 5] for k in range(1, 2 + i % 6)),
            "".join("bcdfgklm"[(i * k) % 8] for k in range(1, 2 + (i + 3) % 6)),
        )
        for i in range(first, last)
    ]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def vowels(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """The folder of a reward model that likes vowels; do not write into it."""
    out = tmp_path_factory.mktemp("rewards") / "vowels"
    train_reward(
        str(tiny), vowel_pairs(0, 64), vowel_pairs(64, 96), out,
        prompt=PROMPT, training=TRAINING, device="cpu",
    )  # fmt: skip
    return out
