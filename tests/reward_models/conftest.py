"""A reward model that has learned something, and the endpoint of `lm`'s tests, for judges."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lm.conftest import server
from tests.reward_models.vowels import PROMPT, vowel_pairs

__all__ = ["server"]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from lm.tiny import write_tiny_model

    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def training():
    from reward_models.training import Training

    return Training(passes=4, batch=8, learning_rate=5e-3, rank=4, checkpoint_every=3)


@pytest.fixture(scope="session")
def vowels(tmp_path_factory: pytest.TempPathFactory, tiny: Path, training) -> Path:
    """The folder of a reward model that likes vowels; do not write into it."""
    from reward_models.training import train_reward

    out = tmp_path_factory.mktemp("rewards") / "vowels"
    train_reward(
        str(tiny), vowel_pairs(0, 64), vowel_pairs(64, 96), out,
        prompt=PROMPT, training=training, device="cpu",
    )  # fmt: skip
    return out
