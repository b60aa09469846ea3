"""From a short message to one JSON object: orders, invitations and flats to let, made here.

The input lists the fields with their types. `value` is the F1 over fields: the share of fields
that are there with the right value, of those written and of those asked for; a tenth less when
words stand around the object. Text is compared without regard to case and white space, numbers as
numbers, dates as YYYY-MM-DD. Half of the test messages are phrased as no message of train is
(`meta["phrasing"]`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.json_scorer import read_json
from tasks.known import json_texts
from tasks.known.json_texts import FIELDS, Kind, make_examples, same
from tasks.text import MAX_CHARS, shorten
from tasks.types import Example, Score, SplitName, Task

FENCE = re.compile(r"\A```(?:json)?\s*\n(.*?)\n?```\Z", re.DOTALL | re.IGNORECASE)
WITH_WORDS = 0.9  # of the F1 that is given when words stand around the object
FAILURES = {
    "empty": "The answer is empty.",
    "not_json": "The answer holds no JSON object.",
    "extra_text": "All fields are right, but words stand around the object.",
    "schema_violation": "A value is not of the type asked for (a number as text).",
    "missing_field": "A field that was asked for is missing.",
    "wrong_value": "All fields are there, and a value is wrong.",
    "extra_field": "All is right, and there is a field that nobody asked for.",
}


class JsonExtraction(Task):
    """300 train, 75 dev and 150 test messages; as many of each of three kinds."""

    name = "json-extraction"
    instruction = "Read the message and write the fields as one JSON object and nothing else."
    inputs = ("message", "fields")
    output = "json"
    failure_classes = FAILURES
    format_failures = ("empty", "not_json", "extra_text")
    files = (Path(json_texts.__file__),)

    def split(self, name: SplitName) -> Sequence[Example]:
        return make_examples(name)

    def score(self, example: Example, text: str) -> Score:
        gold: dict[str, Any] = json.loads(example.answer)
        if not text.strip():
            return Score(0.0, False, "empty", f"The answer is empty; write {example.answer}.")
        got, alone = read_object(text)
        if got is None:
            why = f"There is no JSON object; write {example.answer} and nothing else."
            return Score(0.0, False, "not_json", why, shorten(text))
        right = [name for name in gold if name in got and same(gold[name], got[name])]
        value = 2 * len(right) / (len(gold) + len(got)) * (1.0 if alone else WITH_WORDS)
        found = _mistake(FIELDS[example.meta["kind"]], gold, got, right)
        failure, what = found or (None if alone else "extra_text", "the whole reply")
        if failure is None:
            return Score(1.0, True, answer=example.answer)
        why = f"{FAILURES[failure]} Look at {what}. The right object is {example.answer}."
        return Score(value, False, failure, why, shorten(json.dumps(got)))


def read_object(text: str) -> tuple[dict[str, Any] | None, bool]:
    """The first JSON object in a reply, and whether the reply is that, perhaps fenced, alone."""
    text = text[:MAX_CHARS].strip()
    if fenced := FENCE.match(text):
        text = fenced[1].strip()
    found = read_json(text)
    if not isinstance(found, dict):
        return None, False
    try:
        return found, json.loads(text) is not None
    except (ValueError, RecursionError):
        return found, False


def _mistake(
    kinds: Mapping[str, Kind], gold: Mapping[str, Any], got: Mapping[str, Any], right: Sequence[str]
) -> tuple[str, str] | None:
    """The first class that fits, in the order of FAILURES, and the field that shows it."""
    for name, value in got.items():
        if name in kinds and not kinds[name].fits(value):
            return "schema_violation", f'"{name}" ({kinds[name].told})'
    found = {
        "missing_field": [name for name in gold if name not in got],
        "wrong_value": [name for name in gold if name not in right],
        "extra_field": [name for name in got if name not in gold],
    }
    for failure, names in found.items():
        if names:
            return failure, f'"{shorten(names[0], 40)}"'
    return None
