"""Splits of questions that come without any: a generator's, or a benchmark's single list."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice
from math import isfinite
from typing import Any

from tasks.overlap import normal_form, set_apart
from tasks.types import Example, SplitName

MAX_WORD = 40  # characters of a text that can be a feature
TEN: tuple[SplitName, ...] = (
    *("train", "test", "train", "dev", "train"),
    *("train", "test", "train", "test", "train"),
)


def deal(examples: Iterable[Example], size: int | None = None) -> dict[str, tuple[Example, ...]]:
    """The first `size` examples that ask something new, dealt in tens: six to train, one to dev,
    three to test. What is nearly an example of test is then left out of dev and train."""
    splits: dict[str, list[Example]] = {"test": [], "dev": [], "train": []}
    for number, example in enumerate(islice(_new(examples), size)):
        splits[TEN[number % len(TEN)]].append(example)
    return set_apart(splits)


def _new(examples: Iterable[Example]) -> Iterable[Example]:
    seen = set()
    for example in examples:
        form = tuple((name, normal_form(text)) for name, text in sorted(example.inputs.items()))
        if form not in seen:
            seen.add(form)
            yield example


def cut(train: Sequence[Example], size: int, share: float) -> list[Example]:
    """Those of train that become dev, in their order: `size` of them, at most `share` of all.

    By a hash of what they ask, so that they stay the same when others are added.
    """
    count = min(size, int(share * len(train)))
    chosen = {example.id for example in sorted(train, key=_rank)[:count]}
    return [example for example in train if example.id in chosen]


def _rank(example: Example) -> tuple[str, str]:
    asked = "\n".join(text for _, text in sorted(example.inputs.items()))
    return hashlib.sha256(asked.encode("utf-8", "replace")).hexdigest(), example.id


def features(metadata: Mapping[str, Any], hidden: Collection[str] = ()) -> dict[str, Any]:
    """What of another library's metadata can be a feature: numbers, flags and short words."""
    return {
        name: value
        for name, value in metadata.items()
        if name not in hidden
        and (_is_number(value) or (isinstance(value, str) and len(value) <= MAX_WORD))
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float) and isfinite(value)
