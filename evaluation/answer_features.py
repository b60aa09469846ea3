"""What a wrong answer is like, in terms a person can read: 'verb + "ed"', 'says "billing"'.

Terms of two kinds. Some are said of the answer alone (its words, its endings, its length); whether
they mean anything is judged against the *gold answers*, which are answers to the same questions.
Others relate it to its question or its gold (a copy, an edit); whether they mean anything is judged
against the same answers put with *other questions*. `reference` gives either.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise, takewhile
from typing import Any

import numpy as np
import pandas as pd

from evaluation.features import WORD
from tasks.scorers import read_number
from tasks.text import normalize

READ_CHARS = 400  # of an answer: what is wrong with a longer one shows in its beginning
READ_WORDS = 30
SHOWN_CHARS = 40  # of an answer that is named whole
LIKE = 0.5  # share of letters or words in common from which two texts are an edit of each other
COPIED = 10  # letters at least of an input that was copied in part
FACTORS = {10: "10 times the gold", 100: "100 times the gold", -1: "minus the gold"}
FACTORS |= {0.1: "a tenth of the gold", 0.01: "a hundredth of the gold"}
SHAPES = (
    "says ",
    ('"', "gold with", "the gold", "part of"),
    "starts with",
    ("has ", "ends in"),
    ("two to", "more than", "a number", "yes or", "no text"),
)

# how those begin that are said of an answer alone, and no others
ALONE = ('says "', 'starts with "', 'has "', 'ends in "', *SHAPES[-1])


@dataclass(frozen=True)
class Asked:
    """One question with its gold answer, normalized: what an answer may be an edit of."""

    inputs: Mapping[str, str]
    gold: str

    @classmethod
    def of(cls, fields: Mapping[str, Any], gold: str) -> Asked:
        cut = {name: normalize(str(text)[:READ_CHARS]) for name, text in fields.items()}
        return cls(cut, normalize(gold[:READ_CHARS]))


def related(asked: Asked, answer: str) -> list[str]:
    """How a normalized answer relates to its question and gold, most telling first."""
    return list(dict.fromkeys(_related(asked, answer)))


def alone(answer: str) -> list[str]:
    """What can be said of a normalized answer by itself."""
    return list(dict.fromkeys(_alone(answer, _words(answer))))


def answer_text(text: str) -> str:
    """An answer as its terms are made from it."""
    return normalize(text[:READ_CHARS])


def plainness(term: str) -> int:
    """The rank of a term by its shape: a copy or an edit of the input first, mere length last."""
    for rank, shapes in enumerate(SHAPES):
        if term.startswith(shapes):
            return rank + 1
    return 0


def asked_and_said(answers: pd.DataFrame) -> list[tuple[Asked, str]]:
    """The question and the normalized answer of each row, from which its terms are made."""
    return list(zip(_asked(answers), _said(answers), strict=True))


def terms(pairs: Sequence[tuple[Asked, str]]) -> list[frozenset[str]]:
    """All terms of each answer, in their order."""
    return [
        frozenset([*_related(asked, text), *_alone(text, _words(text))]) for asked, text in pairs
    ]


def reference(pairs: Sequence[tuple[Asked, str]]) -> list[frozenset[str]]:
    """What the terms of each answer would be by chance.

    Terms that relate an answer come from the answer put with a question half the list away, the
    others from the gold answer. The list is to be in no telling order.
    """
    half = len(pairs) // 2
    return [
        frozenset([*_related(other, text), *_alone(own.gold, _words(own.gold))])
        for (own, text), (other, _) in zip(pairs, [*pairs[half:], *pairs[:half]], strict=True)
    ]


def having(rule: Sequence[str], answers: pd.DataFrame) -> list[bool]:
    """Of each row of `answers`, whether all terms of `rule` are among its `terms`.

    In a tenth of the time: a row is related to its question only where that may decide.
    """
    by_itself = {term for term in rule if term.startswith(ALONE)}
    rest = set(rule) - by_itself
    said = _said(answers)
    # what a term quotes stands in the answer, word by word: told before all its terms are made
    quoted = [word for term in by_itself for word in term.partition('"')[2][:-1].split()]
    made = _alone if quoted else _shape
    held = [
        all(word in text for word in quoted) and by_itself.issubset(made(text, _words(text)))
        for text in said
    ]
    if not rest:
        return held
    places = np.flatnonzero(held)
    for place, asked in zip(places.tolist(), _asked(answers.iloc[places]), strict=True):
        held[place] = rest.issubset(_related(asked, said[place]))
    return held


def _asked(answers: pd.DataFrame) -> list[Asked]:
    inputs = json.loads(f"[{','.join(answers['inputs'].tolist())}]")  # one call, not a thousand
    return [Asked.of(*row) for row in zip(inputs, answers["gold"].tolist(), strict=True)]


def _said(answers: pd.DataFrame) -> list[str]:
    return [answer_text(text) for text in answers["answer"].tolist()]


def _related(asked: Asked, answer: str) -> Iterator[str]:
    gold = asked.gold
    if not answer or answer == gold:
        return
    from_input = [term for name, text in asked.inputs.items() for term in _copy(name, text, answer)]
    yield from from_input
    if max(len(gold), len(answer)) <= SHOWN_CHARS:
        yield f'"{answer}" for gold "{gold}"'
    yield from _number(gold, answer)
    # `in` first: to make a pattern of every gold answer would take most of the time there is
    if gold in answer and re.search(rf"(?<!\w){re.escape(gold)}(?!\w)", answer):
        yield "the gold with words around it"
    elif f" {answer} " in f" {gold} ":
        yield "part of the gold"
    if not from_input:  # else it was made from the input, and differs from gold as that does
        yield from _edits(gold, answer)


def _copy(name: str, text: str, answer: str) -> Iterator[str]:
    """The input itself, or, of a short one, the input with something at its ends."""
    if answer == text:
        yield f"the {name}, unchanged"
    elif len(answer) >= COPIED and text.startswith(answer):
        yield f"the beginning of the {name}"
    elif _short(text) and _short(answer):
        yield from _affixed(name, text, answer)


def _short(text: str) -> bool:
    return 0 < len(text) <= SHOWN_CHARS and text.count(" ") <= 2


def _affixed(name: str, text: str, answer: str) -> Iterator[str]:
    if answer.endswith(text):
        yield f'"{answer.removesuffix(text)}" + {name}'
        return
    shared = sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(text, answer, strict=False))
    )
    lost, added = text[shared:], answer[shared:]
    if shared < 2 or 2 * shared < len(text):
        return
    if len(lost) <= 1 and len(added) > 1:
        yield f'{name} with the ending "{added[-2:]}"'  # whatever becomes of its last letter
    if added:
        yield f'{name} - "{lost}" + "{added}"' if lost else f'{name} + "{added}"'
    else:
        yield f'{name} - "{lost}"'


def _number(gold: str, answer: str) -> Iterator[str]:
    one = read_number(gold)
    two = read_number(answer) if one else None
    if one is None or two is None or one[0] == two[0]:
        return
    step = two[0] - one[0]
    if abs(step) in (1, 2):
        yield f"the gold {'+' if step > 0 else '-'} {abs(step):g}"
    for factor, said in FACTORS.items():
        if one[0] and abs(two[0] / one[0] / factor - 1) < 1e-9:
            yield said


def _edits(gold: str, answer: str) -> Iterator[str]:
    """What turns gold into the answer, letter by letter in short texts, else word by word."""
    by_letter = _short(gold) and _short(answer)
    a, b = (list(x) if by_letter else x.split()[:READ_WORDS] for x in (gold, answer))
    in_common = sum(map(set(a).__contains__, b))  # at most: a matcher takes ten times as long
    if in_common < LIKE * (len(a) + len(b)) / 2:
        return
    matcher = SequenceMatcher(None, a, b, autojunk=False)
    if matcher.quick_ratio() < LIKE or matcher.ratio() < LIKE:
        return
    glue = "" if by_letter else " "
    for kind, a1, a2, b1, b2 in matcher.get_opcodes():
        lost, added = glue.join(a[a1:a2]), glue.join(b[b1:b2])
        if kind == "delete":
            yield f'gold without "{lost}"'
        elif kind == "insert":
            yield f'gold with "{added}" added'
        elif kind == "replace":
            yield f'"{added}" in place of "{lost}" of gold'


def _alone(answer: str, words: list[str]) -> Iterator[str]:
    if 0 < len(answer) <= SHOWN_CHARS:
        yield f'says "{answer}"'
    if len(words) >= 2:
        yield f'starts with "{" ".join(words[:2])}"'
        yield from (f'has "{a} {b}"' for a, b in pairwise(words))
        yield from (f'has "{word}"' for word in words)
    elif len(answer) > 4:
        yield from (f'ends in "{answer[-size:]}"' for size in (3, 2))
        yield from (f'starts with "{answer[:size]}"' for size in (3, 2))
    yield from _shape(answer, words)


def _shape(answer: str, words: list[str]) -> Iterator[str]:
    """What quotes nothing of it."""
    if not answer:
        yield "no text"
        return
    if len(words) <= 2 and read_number(answer):
        yield "a number"
    if answer in ("yes", "no", "true", "false"):
        yield "yes or no"
    if len(words) >= 2:
        yield "more than five words" if len(words) > 5 else "two to five words"


def _words(answer: str) -> list[str]:
    return WORD.findall(answer)[:READ_WORDS]
