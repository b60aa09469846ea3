"""The scorer `json`: the answer must be JSON that says what the gold JSON says, field by field."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from tasks.text import normalize, shorten
from tasks.types import Score

FAILURES = {
    "not_json": "The answer holds no JSON object or list.",
    "missing_field": "A field is missing, and what is there is right.",
    "extra_field": "All that is asked for is right, and there is more.",
    "wrong_value": "A field has another value.",
    "empty": "The answer is empty.",
}
FORMAT_FAILURES = ("not_json", "empty")
MAX_DEPTH = 50
Leaf = tuple[str, str]


def read_json(text: str) -> Any:
    """The first JSON object or list in `text`, with or without a fence around it; None when there
    is none. Deeper than `MAX_DEPTH` counts as none."""
    decoder = json.JSONDecoder(parse_constant=lambda _: None)  # NaN is no JSON
    for tried, start in enumerate(i for i, letter in enumerate(text) if letter in "{["):
        if tried == 20:
            break
        try:
            value, _ = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        return value if _depth(value) <= MAX_DEPTH else None
    return None


def judge_json(accepted: Sequence[str], text: str) -> Score:
    """Value: the F1 of fields, a field being its path and its value. Items of a list count in any
    order; texts are compared as by the scorer `exact`, numbers by value."""
    got = read_json(text)
    if got is None:
        return Score(0.0, False, "not_json", "Answer with JSON and nothing else.", shorten(text))
    scores = [
        _compare(Counter(_leaves(read_json(gold))), Counter(_leaves(got))) for gold in accepted
    ]
    best = max(scores, key=lambda score: score.value)
    shown = shorten(json.dumps(got, ensure_ascii=False))
    return Score(best.value, best.correct, best.failure, best.feedback, shown)


def _compare(gold: Counter[Leaf], got: Counter[Leaf]) -> Score:
    both = (gold & got).total()
    if both == gold.total() == got.total():
        return Score(1.0, True)
    lacking, extra = gold - got, got - gold
    value = 2 * both / (gold.total() + got.total())
    paths = {path for path, _ in extra}
    if wrong := next((leaf for leaf in lacking if leaf[0] in paths), None):
        found = next(v for path, v in extra if path == wrong[0])
        why = f"{wrong[0] or 'The value'} should be {wrong[1]}, got {shorten(found, 80)}."
        return Score(value, False, "wrong_value", why)
    if lacking:
        path, wanted = next(iter(lacking))
        return Score(value, False, "missing_field", f"{path} is missing; it should be {wanted}.")
    return Score(value, False, "extra_field", f"{next(iter(extra))[0]} was not asked for.")


def _leaves(value: Any, path: str = "") -> Iterator[Leaf]:
    """(path, value) of everything that is no container; an empty container is one itself."""
    if isinstance(value, dict) and value:
        for key, part in value.items():
            yield from _leaves(part, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and value:
        for part in value:
            yield from _leaves(part, f"{path}[]")
    else:
        yield path, _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return normalize(value)
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        value = int(value)
    return json.dumps(value)


def _depth(value: Any) -> int:
    deepest, waiting = 0, [(value, 1)]
    while waiting and deepest <= MAX_DEPTH:
        part, depth = waiting.pop()
        deepest = max(deepest, depth)
        if isinstance(part, dict | list):
            inner = part.values() if isinstance(part, dict) else part
            waiting += [(item, depth + 1) for item in inner]
    return deepest
