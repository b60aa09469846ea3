"""Scorers by name, for tasks that are data files.

A scorer gets the accepted answers (the first is the preferred one) and the model's text, and
never raises whatever the text holds. Anything finer belongs in a task file of your own.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tasks import json_scorer
from tasks.text import MAX_CHARS, contains, fold, nearest, normalize, shorten
from tasks.types import Score, TaskError

EMPTY = "The answer is empty."
NUMBER = re.compile(
    r"(?<!\w)(?<!\d\.)[-+\u2212]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+|(?=\.\d))"
    r"(?:\.\d+)?(?:[eE][-+]?\d{1,3}(?!\w))?(?:\s?%)?"
)
ARTICLES = re.compile(r"\b(a|an|the)\b")
WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Scorer:
    """`failures` maps each class `judge` may return to a sentence that says what it means.

    `format_failures` are those where the answer is not of the form asked for.
    """

    failures: Mapping[str, str]
    judge: Callable[[Sequence[str], str], Score]
    format_failures: tuple[str, ...] = ("empty",)

    def __call__(self, accepted: Sequence[str], text: str) -> Score:
        if not text.strip():
            return Score(0.0, False, "empty", f'The answer is empty; expected "{accepted[0]}".')
        return self.judge(accepted, text[:MAX_CHARS])


def build_scorer(name: str, choices: Sequence[str] = (), pattern: str = "") -> Scorer:
    """The scorer called `name`; `choices` serve `choice`, `pattern` serves `regex`.

    Raises TaskError for an unknown name, missing choices or a pattern that does not compile.
    """
    if name == "choice":
        return _choice(choices)
    if name == "regex":
        return _regex(pattern)
    if name not in PLAIN:
        raise TaskError(f'unknown scorer "{name}"{nearest(name, SCORERS)}: one of {_listed()}')
    return PLAIN[name]


def _listed() -> str:
    return ", ".join(SCORERS)


def _right(answer: str, value: float = 1.0) -> Score:
    return Score(value, True, answer=shorten(answer))


def _wrong(failure: str, answer: str, why: str, value: float = 0.0) -> Score:
    return Score(value, False, failure, why, shorten(answer))


def _expected(accepted: Sequence[str], answer: str) -> str:
    return f'Expected "{accepted[0]}", got "{shorten(answer, 80)}".'


def _judge_exact(accepted: Sequence[str], text: str) -> Score:
    answer = normalize(text)
    golds = [normalize(gold) for gold in accepted]
    if answer in golds:
        return _right(text)
    if any(contains(answer, gold) for gold in golds):
        return _wrong("extra_text", text, f'Answer with "{accepted[0]}" only, nothing around it.')
    return _wrong("wrong", text, _expected(accepted, text))


def _judge_contains(accepted: Sequence[str], text: str) -> Score:
    answer = normalize(text)
    for gold in accepted:
        if contains(answer, normalize(gold)):
            return _right(gold)
    return _wrong("missing", text, f'The answer must contain "{accepted[0]}".')


def read_number(text: str) -> tuple[float, bool] | None:
    """The last number in `text` and whether a percent sign follows: "about -1,234.5 %"."""
    found = [m.group() for m in NUMBER.finditer(text)]
    if not found:
        return None
    last = found[-1].replace(",", "").replace("\u2212", "-")
    return float(last.rstrip("%")), last.endswith("%")


def same_number(gold: tuple[float, bool], got: tuple[float, bool]) -> bool:
    if math.isclose(gold[0], got[0], rel_tol=1e-9, abs_tol=1e-12):
        return True
    if gold[1] == got[1]:
        return False
    percent, plain = (gold, got) if gold[1] else (got, gold)
    return math.isclose(percent[0] / 100, plain[0], rel_tol=1e-9, abs_tol=1e-12)


def _judge_number(accepted: Sequence[str], text: str) -> Score:
    got = read_number(text)
    if got is None:
        return _wrong("no_number", text, f"The answer holds no number; expected {accepted[0]}.")
    shown = f"{got[0]:g}" + "%" * got[1]
    if any(gold and same_number(gold, got) for gold in map(read_number, accepted)):
        return _right(shown)
    why = f"Expected {accepted[0]}, the last number in the answer is {shown}."
    return _wrong("wrong_number", shown, why)


def _judge_f1(accepted: Sequence[str], text: str) -> Score:
    value = max(token_f1(gold, text) for gold in accepted)
    if value == 1.0:
        return _right(text)
    why = f"{_expected(accepted, text)} Word overlap (F1) {value:.2f}."
    return _wrong("partial" if value else "wrong", text, why, value)


def token_f1(gold: str, text: str) -> float:
    """Word overlap in [0, 1] without articles and punctuation (SQuAD; Rajpurkar et al., 2016)."""
    gold_words, words = (WORD.findall(ARTICLES.sub(" ", fold(t))) for t in (gold, text))
    if not gold_words or not words:
        return float(normalize(gold) == normalize(text))
    if Counter(gold_words) == Counter(words):
        return 1.0
    shared = sum((Counter(gold_words) & Counter(words)).values())
    return 2 * shared / (len(gold_words) + len(words))


def _choice(choices: Sequence[str]) -> Scorer:
    if len(choices) < 2:
        raise TaskError('scorer "choice" needs two or more choices: write choices: [yes, no]')
    listed = ", ".join(choices)
    # "A cat" must not read as choice a, so single letters are looked for as they are written
    exact_case = any(len(choice) == 1 for choice in choices)
    clean: Callable[[str], str] = str.strip if exact_case else normalize
    longest_first = sorted(map(clean, choices), key=len, reverse=True)
    any_choice = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")

    def judge(accepted: Sequence[str], text: str) -> Score:
        golds = {normalize(gold) for gold in accepted}
        whole = normalize(text)
        found = {normalize(m) for m in any_choice.findall(clean(text))}
        if whole in map(normalize, choices):
            found = {whole}
        if not found:
            return _wrong("no_choice", text, f"Answer with one of {listed}.")
        if len(found) > 1:
            return _wrong("several", text, f"Name one choice only, here {accepted[0]}.")
        if found <= golds:
            return _right(accepted[0])
        return _wrong("wrong_choice", found.pop(), _expected(accepted, text))

    return Scorer(
        {
            "wrong_choice": "The answer names another choice.",
            "no_choice": f"The answer names none of {listed}.",
            "several": "The answer names more than one choice.",
            "empty": EMPTY,
        },
        judge,
        ("no_choice", "several", "empty"),
    )


def _regex(pattern: str) -> Scorer:
    if not pattern:
        raise TaskError(r'scorer "regex" needs a pattern: write pattern: "Answer: (\w+)"')
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise TaskError(f"pattern {pattern!r} is no regular expression: {error}") from error

    def judge(accepted: Sequence[str], text: str) -> Score:
        matches = list(compiled.finditer(text[:2_000]))  # the pattern is the user's, and may crawl
        if not matches:
            return _wrong("no_match", text, f"The answer must match {pattern}.")
        found = matches[-1].group(1 if compiled.groups else 0) or ""
        if normalize(found) in map(normalize, accepted):
            return _right(found)
        return _wrong("wrong", found, _expected(accepted, found))

    failures = {"wrong": "Another answer.", "no_match": "The pattern is not found.", "empty": EMPTY}
    return Scorer(failures, judge, ("no_match", "empty"))


PLAIN: Mapping[str, Scorer] = {
    "exact": Scorer(
        {
            "wrong": "Another answer.",
            "extra_text": "The right answer with words around it.",
            "empty": EMPTY,
        },
        _judge_exact,
        ("extra_text", "empty"),
    ),
    "number": Scorer(
        {
            "wrong_number": "The last number is another one.",
            "no_number": "The answer holds no number.",
            "empty": EMPTY,
        },
        _judge_number,
        ("no_number", "empty"),
    ),
    "contains": Scorer(
        {"missing": "The right answer does not occur.", "empty": EMPTY}, _judge_contains
    ),
    "f1": Scorer(
        {
            "partial": "Some words are right (token F1 between 0 and 1).",
            "wrong": "No word is right.",
            "empty": EMPTY,
        },
        _judge_f1,
    ),
    "json": Scorer(json_scorer.FAILURES, json_scorer.judge_json, json_scorer.FORMAT_FAILURES),
}
SCORERS = (*PLAIN, "choice", "regex")
