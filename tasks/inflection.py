"""Past tense of English verbs: a task with a rule, exceptions to learn, and telling mistakes.

A small model can do part of it, a better prompt or training lifts it, and what still fails is of
interest: regular endings on irregular verbs are what children write, too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import tasks.lexicon
from tasks.lexicon import VOWELS, Verb, deal_verbs, regular_pasts
from tasks.text import contains, normalize, shorten
from tasks.types import Example, Score, SplitName, Task

WORD = re.compile(r"[^\W\d_]+")

FAILURES = {
    "empty": "There is no word in the answer.",
    "unchanged": "The verb itself, unchanged (go: go).",
    "over_regularized": "A regular ending on an irregular verb (go: goed).",
    "wrong_form": "Another form of the verb (go: gone, going, goes).",
    "extra_text": "The right form with words around it.",
    "misspelled": "One or two letters away from the right form (stop: stoped).",
    "other": "Anything else.",
}


class Inflection(Task):
    """512 train, 160 dev and 320 test verbs; 26 % irregular in each; no verb family in two."""

    name = "inflection"
    instruction = "Give the past tense of the verb. Answer with one word."
    inputs = ("verb",)
    output = "past"
    failure_classes = FAILURES
    format_failures = ("empty", "extra_text")
    files = (Path(tasks.lexicon.__file__),)

    def split(self, name: SplitName) -> Sequence[Example]:
        return _build_split(name)

    def score(self, example: Example, text: str) -> Score:
        answer = normalize(text)
        accepted = example.meta["accepted"]
        if answer in accepted:
            return Score(1.0, True, answer=answer)
        failure = _classify(example, answer)
        return Score(0.0, False, failure, _feedback(example, failure), shorten(answer))


@cache
def _build_split(name: SplitName) -> tuple[Example, ...]:
    return tuple(_build_example(verb) for verb in deal_verbs()[name])


def _build_example(verb: Verb) -> Example:
    meta = {
        "pattern": "irregular" if verb.irregular else "regular",
        "change": _describe_change(verb),
        "ending": _describe_ending(verb),
        "length": len(verb.lemma),
        "accepted": list(verb.past),
        "participle": list(verb.participle),
        "other_forms": list(verb.others),
    }
    return Example(verb.lemma, {"verb": verb.lemma}, verb.past[0], meta)


def _describe_change(verb: Verb) -> str:
    """How the past is made: keep -> kept is "-t" although its vowel is pronounced otherwise."""
    lemma, past = verb.lemma, verb.past[0]
    if not verb.irregular:
        return "-ed"
    if past == lemma:
        return "none"
    if past.endswith("went"):
        return "suppletive"
    if _consonants(lemma) == _consonants(past):
        return "vowel"
    last = past.removesuffix("e")[-1]
    return f"-{last}" if last in "td" else "other"


def _consonants(word: str) -> str:
    return "".join(letter for letter in word if letter not in VOWELS + "yw")


def _describe_ending(verb: Verb) -> str:
    """What the spelling rule looks at."""
    lemma = verb.lemma
    if lemma.endswith("e"):
        return "e"
    if lemma.endswith("y"):
        return "vowel+y" if lemma[-2] in VOWELS else "consonant+y"
    if lemma + lemma[-1] + "ed" in verb.past:
        return "doubling"
    return "vowel" if lemma[-1] in VOWELS else "consonant"


def _classify(example: Example, answer: str) -> str:
    """The first class that fits. A real but wrong form beats a slip of spelling."""
    verb, meta = example.inputs["verb"], example.meta
    word = _only_word(answer, verb)
    if not WORD.search(answer):
        return "empty"
    if word == verb:
        return "unchanged"
    if meta["pattern"] == "irregular" and word in regular_pasts(verb):
        return "over_regularized"
    if word in meta["participle"] or word in meta["other_forms"]:
        return "wrong_form"
    if any(contains(answer, form) for form in meta["accepted"]):
        return "extra_text"
    if any(_distance(word, form) <= (1 if len(form) < 5 else 2) for form in meta["accepted"]):
        return "misspelled"
    return "other"


def _only_word(answer: str, verb: str) -> str:
    """The word that is judged: the only one, or the only one beside the verb ("go: goed")."""
    words = list(dict.fromkeys(WORD.findall(answer)))
    rest = [word for word in words if word != verb] or words
    return rest[0] if len(rest) == 1 else answer


def _feedback(example: Example, failure: str) -> str:
    verb, right = example.inputs["verb"], " or ".join(example.meta["accepted"])
    why = {
        "empty": "The answer is empty",
        "unchanged": f'"{verb}" is the base form',
        "over_regularized": f'"{verb}" is irregular and takes no -ed',
        "wrong_form": "This is a participle or present form",
        "extra_text": "The answer must be one word and nothing else",
        "misspelled": "This is misspelled",
        "other": "This is not a form of the verb",
    }[failure]
    return f'{why}: the past tense of "{verb}" is "{right}".'


def _distance(a: str, b: str, limit: int = 2) -> int:
    """Levenshtein distance, or `limit` + 1 when the lengths alone differ by more."""
    if abs(len(a) - len(b)) > limit:
        return limit + 1
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]
