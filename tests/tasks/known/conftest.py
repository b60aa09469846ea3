"""Copies of Hub datasets, a handful of rows written by hand with the datasets' own columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

Rows = Sequence[Mapping[str, Any]]


@pytest.fixture(scope="module")
def hub_copy(tmp_path_factory) -> Callable[..., None]:
    """`hub_copy("owner/name", {"train": rows}, "config")` for the tests of one module."""
    top = tmp_path_factory.mktemp("hub")

    def write(dataset: str, splits: Mapping[str, Rows], config: str = "") -> None:
        folder: Path = top / dataset / config
        folder.mkdir(parents=True, exist_ok=True)
        for split, rows in splits.items():
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TASKLIFT_DATA", str(top))
        yield write
