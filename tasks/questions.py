"""Questions, to be told by the kind of answer they ask for: six classes a small model can learn.

The field calls it question classification (Li & Roth, 2002, "Learning Question Classifiers"). The
756 questions were written for this suite, each by itself, on no one's list; what counts is what is
asked for, not what is true. A `hard` one lacks the words its class is mostly asked by (who, which
animal, where, when, how many, how much, why), and some have words that mislead: "Who barks all
night?" wants an animal. The stored split was dealt once, by SHA-256 of the text within class and
`hard`: 74, 20 and 32 questions of each class. Every six lines in a row hold one of each.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tasks.labels import LabelTask
from tasks.types import Example, SplitName

DATA = Path(__file__).with_suffix(".jsonl")

KINDS: Mapping[str, str] = {
    "person": "a human being, by name or by the part played: who",
    "animal": "a beast, bird, fish or insect, by kind or by name: which animal",
    "place": "a country, town, building, room or any other spot: where",
    "time": "when something happens or how long it goes on",
    "number": "how many, how much, or a size, distance, price or other figure, but no time",
    "reason": "a cause, motive or purpose: why",
}
PAIRS = (("person", "animal"), ("time", "number"))

FAILURES = {
    "empty": "There is no word in the answer.",
    "extra_text": "The right kind, and no other, with words around it.",
    "several": "More than one kind.",
    "invented": "One or two words that name no kind (city, a name).",
    "no_choice": "A longer text that names no kind, such as an answer to the question.",
    "confused_pair": "Person for animal, time for number, or the other way round.",
    "wrong_kind": "Any other wrong kind (reason: place).",
}
ADVICE = {
    "empty": "The answer is empty",
    "extra_text": "The answer must be the kind and nothing else",
    "several": "Name one kind only",
    "invented": f"The kinds are {', '.join(KINDS)}, and no others",
    "no_choice": "Do not answer the question, name the kind of answer it asks for",
}


class Questions(LabelTask):
    """444 train, 120 dev and 192 test questions; as many of each kind; 40 % hard in each."""

    name = "questions"
    instruction = "Choose the kind of answer that the question asks for. Answer with one word."
    # Told the kinds in the instruction, a 135M model answers the question instead, always: then
    # what learns from its own right answers (RL, SIMBA) has none to begin with.
    inputs = ("question", "choices")
    output = "kind"
    labels, pairs, wrong = KINDS, PAIRS, "wrong_kind"
    failure_classes = FAILURES
    advice = ADVICE
    elsewhere = '"{label}" is for another question ({about})'
    told = 'this question asks for "{label}" ({about}).'
    files = (DATA,)

    def split(self, name: SplitName) -> Sequence[Example]:
        return tuple(_build_example(row) for row in _read_rows() if row["split"] == name)


@cache
def _read_rows() -> tuple[dict[str, Any], ...]:
    return tuple(map(json.loads, DATA.read_text(encoding="utf-8").splitlines()))


def _build_example(row: Mapping[str, Any]) -> Example:
    text, kind = row["text"], row["label"]
    meta = {"kind": kind, "hard": row["hard"], "words": len(text.split())}
    return Example(row["id"], {"question": text, "choices": " / ".join(KINDS)}, kind, meta)
