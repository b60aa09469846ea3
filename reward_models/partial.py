"""Partial credit for answers the task does not accept yet: a slope to climb where RL starts cold.

A model that is never exactly right scores 0 in every rollout of a group, so GRPO sees no difference
and learns nothing. `contains` helps one that chatters around the right form, `closeness` one that
does not know it; it can also trap one, as copying the question may be close enough (on inflection
it taught SmolLM2-135M to repeat the verb). Only what the task itself calls correct earns 1.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import islice
from typing import Any

from reward_models.task import TaskReward
from reward_models.types import RewardError, Turns, example_ids, find, reply
from tasks.scorers import read_number
from tasks.text import MAX_CHARS, contains, normalize
from tasks.types import Example, Score

MOST = 0.5  # an answer the task does not call correct never earns more
TRIED = 20  # brackets at which JSON may begin
EXACT = 2**53  # whole numbers beyond it are no floats
READ_CHARS = 1000  # of an answer, for similarity: the matching is quadratic in length


@dataclass(frozen=True)
class PartialCredit:
    """1 if the task says correct, else `credit(text, form)` in [0, 0.5] of the best accepted form.

    Accepted are `example.answer` and the strings of `example.meta["accepted"]`. None where the
    scorer failed.
    """

    task: TaskReward
    credit: Callable[[str, str], float]

    @property
    def __name__(self) -> str:
        """What TRL calls the reward in its logs."""
        return next(name for name, credit in CREDITS.items() if credit is self.credit)

    def __call__(
        self, prompts: Sequence[Turns], completions: Sequence[Turns], **columns: Any
    ) -> list[float | None]:
        ids = example_ids(columns, len(completions), self.__name__)
        rows = zip(self.task.judged(completions, ids), completions, ids, strict=True)
        return [self._reward(score, reply(turns), key) for score, turns, key in rows]

    def _reward(self, score: Score, text: str, example_id: str) -> float | None:
        if score.failure == "error":
            return None
        if score.correct:
            return 1.0
        example = find(self.task.examples, example_id, self.__name__)
        return max((self.credit(text, form) for form in accepted(example)), default=0.0)


@dataclass(frozen=True)
class TestsPassed:
    """1 if the task says correct, else half the share of the task's own tests that hold.

    None where the scorer failed. Raises RewardError for a task whose scores name no share.
    """

    task: TaskReward

    __name__ = "tests"
    __test__ = False  # for pytest: it is none

    def __call__(
        self, prompts: Sequence[Turns], completions: Sequence[Turns], **columns: Any
    ) -> list[float | None]:
        ids = example_ids(columns, len(completions), self.__name__)
        return [self._reward(score) for score in self.task.judged(completions, ids)]

    def _reward(self, score: Score) -> float | None:
        if score.failure == "error":
            return None
        if score.correct:
            return 1.0
        if score.tests is None:
            raise RewardError(
                "reward tests: the task's scores name no share of tests that hold (Score.tests); "
                "write another reward, such as closeness"
            )
        return MOST * score.tests


def accepted(example: Example) -> list[str]:
    """The answers that count, as written, without empty ones."""
    return [form for form in (example.answer, *example.meta.get("accepted", ())) if form.strip()]


def share(text: str, form: str) -> float:
    """Half the share of the text's words that `form` makes up; 0 if not in it as whole words."""
    text, form = normalize(text), normalize(form)
    if not contains(text, form):
        return 0.0
    return MOST * min(1.0, len(form.split()) / len(text.split()))


def closeness(text: str, form: str) -> float:
    """Half the similarity of the texts: twice the matching characters over all characters.

    Ratcliff and Obershelp's ratio (1988), as `difflib` computes it, on normalized texts.
    """
    a, b = normalize(text)[:READ_CHARS], normalize(form)[:READ_CHARS]
    return MOST * SequenceMatcher(None, a, b, autojunk=False).ratio()


def numeric(text: str, form: str) -> float:
    """Half of 1 / (1 + error), the last number of the text against that of `form`; the error is
    relative, where `form` is 0 absolute. 0 without a number on either side."""
    said, right = read_number(text), read_number(form)
    if said is None or right is None or not (math.isfinite(said[0]) and math.isfinite(right[0])):
        return 0.0
    mine, theirs = said[0], right[0]
    if said[1] != right[1]:  # 5 % is 0.05
        mine, theirs = (value / (100 if percent else 1) for value, percent in (said, right))
    return MOST / (1 + abs(mine - theirs) / (abs(theirs) or 1.0))


def json_fields(text: str, form: str) -> float:
    """Half the F1 of the fields in the first JSON object or list of the text, `form` being right.

    A field is a path and a value; the items of a list are a bag. Texts are compared normalized,
    numbers as numbers.
    """
    said, right = _fields(text), _fields(form)
    same = (said & right).total()
    return MOST * 2 * same / (said.total() + right.total()) if same else 0.0


def _fields(text: str) -> Counter[tuple[str, str]]:
    """The fields of the first object or list in a text, with how often each is there."""
    decoder = json.JSONDecoder()
    for match in islice(re.finditer(r"[{\[]", text[:MAX_CHARS]), TRIED):
        try:
            return Counter(_leaves(decoder.raw_decode(text, match.start())[0]))
        except (ValueError, RecursionError):
            continue
    return Counter()


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}/{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, f"{path}[]")
    elif isinstance(value, str):
        yield path, normalize(value)
    elif value is None or isinstance(value, bool) or abs(value) > EXACT:
        yield path, repr(value)
    else:
        yield path, repr(float(value))


CREDITS: Mapping[str, Callable[[str, str], float]] = {
    "contains": share,
    "closeness": closeness,
    "numeric": numeric,
    "json_fields": json_fields,
}
