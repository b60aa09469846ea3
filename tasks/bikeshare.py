"""Messages to a city's bike share, to be sent to one of eight teams: a task of understanding.

The 720 messages were written for this suite, each by itself, in four pairs of teams that are
easily confused. What a message asks to be done decides: a refund for a flat tyre is billing. No
word gives a team away, and a `hard` message also names what another team, mostly the other one of
the pair, looks after. The stored split was dealt once, by SHA-256 of the text within team and
`hard`: 53, 14 and 23 messages of each team. Every eight lines in a row hold one of each.
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

TEAMS: Mapping[str, str] = {
    "billing": "money already taken or demanded: a wrong sum, a refund, a receipt",
    "plans": "what a ride or plan will cost or include; joining, changing or ending a plan",
    "repair": "a part of a bike is broken or worn, and nobody came to harm",
    "accident": "somebody fell or was hurt, or a rider or bike hit something, whatever the cause",
    "station": "a dock, the screen or the ground at a station is broken, dirty or blocked",
    "supply": "nothing is broken, but there are too few bikes, free docks or stations",
    "lost": "somebody's own belongings were left behind, taken or found, but no bike of ours",
    "stolen": "a bike of ours was stolen, is missing, or turned up where it does not belong",
}
PAIRS = (("billing", "plans"), ("repair", "accident"), ("station", "supply"), ("lost", "stolen"))

FAILURES = {
    "empty": "There is no word in the answer.",
    "extra_text": "The right team, and no other, with words around it.",
    "several": "More than one team.",
    "invented": "One or two words that name no team (refund, customer service).",
    "no_choice": "A longer text that names no team, such as a reply to the customer.",
    "confused_pair": "The other team of the pair (stolen: lost).",
    "wrong_pair": "A team of another pair (stolen: billing).",
}
ADVICE = {
    "empty": "The answer is empty",
    "extra_text": "The answer must be the team's name and nothing else",
    "several": "Name one team only",
    "invented": "There is no such team",
    "no_choice": "The answer must name a team, not reply to the message",
}


class BikeShare(LabelTask):
    """424 train, 112 dev and 184 test messages; as many of each team; 42 % hard in each."""

    name = "bikeshare"
    instruction = "Choose the team that should get the message. Answer with one word."
    inputs = ("message", "choices")  # a 135M model told the choices in the instruction chats
    output = "team"
    labels, pairs, wrong = TEAMS, PAIRS, "wrong_pair"
    failure_classes = FAILURES
    advice = ADVICE
    told = 'this message goes to "{label}" ({about}).'
    files = (DATA,)

    def split(self, name: SplitName) -> Sequence[Example]:
        return tuple(_build_example(row) for row in _read_rows() if row["split"] == name)


@cache
def _read_rows() -> tuple[dict[str, Any], ...]:
    return tuple(map(json.loads, DATA.read_text(encoding="utf-8").splitlines()))


def _build_example(row: Mapping[str, Any]) -> Example:
    text, team = row["text"], row["label"]
    pair = "/".join(next(pair for pair in PAIRS if team in pair))
    meta = {"team": team, "pair": pair, "hard": row["hard"], "words": len(text.split())}
    return Example(row["id"], {"message": text, "choices": " / ".join(TEAMS)}, team, meta)
