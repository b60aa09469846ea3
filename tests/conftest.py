"""Shared by all tests: nothing reaches the network; which take long is listed in long.txt."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.durations import is_long

os.environ["HF_HUB_OFFLINE"] = "1"  # before any import of huggingface_hub
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# How fast an example is says something of the machine's other work, nothing of the code.
settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ours")

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if is_long(item.nodeid):
            item.add_marker("long")


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's folder."""
    return ROOT
