"""The base of tasks whose examples are rows of a Hub dataset: which split is what, and what not.

Test is the split that others publish figures on, whole and in its order. Dev, where the dataset
has none, is cut from train by a hash of each row's question, so that it stays the same when rows
are added. What stands in test and again in train or dev, whole or nearly (`tasks.overlap`), is
left out of train and dev; of train, also what stands in dev.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from tasks.dealt import cut
from tasks.hub import FOLDER, hub_rows
from tasks.overlap import set_apart
from tasks.text import shorten
from tasks.types import Example, SplitName, Task, TaskError

DEV_SIZE, DEV_SHARE = 500, 0.2  # so many rows of train become dev, and no larger share of them


@dataclass(frozen=True)
class Source:
    """Where the rows of a split are."""

    dataset: str
    config: str | None
    split: str
    columns: tuple[str, ...]


class HubTask(Task):
    """`sources` has "train" and "test", and "dev" where the dataset has such a split."""

    sources: Mapping[SplitName, Source]

    def split(self, name: SplitName) -> Sequence[Example]:
        return _splits(type(self), os.environ.get(FOLDER, ""))[name]

    def build(self, row: Mapping[str, Any], id: str) -> Example:
        """The example a row makes; `id` is its split and number. Raises what an odd row raises."""
        raise NotImplementedError


@cache
def _splits(kind: type[HubTask], copies: str) -> Mapping[str, tuple[Example, ...]]:
    task = kind()
    found = {name: _read(task, source) for name, source in task.sources.items()}
    dev = found["dev"] if "dev" in found else cut(found["train"], DEV_SIZE, DEV_SHARE)
    kept = {e.id for e in dev}
    train = [e for e in found["train"] if e.id not in kept]
    return set_apart({"test": found["test"], "dev": dev, "train": train})


def _read(task: HubTask, source: Source) -> list[Example]:
    rows = hub_rows(source.dataset, source.config, source.split, columns=source.columns)
    examples = []
    for number, row in enumerate(rows):
        try:
            examples.append(task.build(row, f"{source.split}-{number}"))
        except (TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
            where = f'dataset "{source.dataset}", {source.split} row {number}'
            raise TaskError(f"{where}: not as expected ({shorten(str(error), 120)})") from error
    return examples
