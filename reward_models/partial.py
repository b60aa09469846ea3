"""Partial credit for answers the task does not accept yet: a slope to climb where RL starts cold.

A model that is never exactly right scores 0 in every rollout of a group, so GRPO sees no difference
and learns nothing. `contains` helps one that chatters around the right form, `closeness` one that
does not know it; it can also trap one, as copying the question may be close enough (on inflection
it taught SmolLM2-135M to repeat the verb). Only what the task itself calls correct earns 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from reward_models.task import TaskReward
from reward_models.types import Turns, find, reply
from tasks.text import contains, normalize
from tasks.types import Example, Score

MOST = 0.5  # an answer the task does not call correct never earns more
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
        ids = columns["example_id"]
        rows = zip(self.task.judged(completions, ids), completions, ids, strict=True)
        return [self._reward(score, reply(turns), key) for score, turns, key in rows]

    def _reward(self, score: Score, text: str, example_id: str) -> float | None:
        if score.failure == "error":
            return None
        if score.correct:
            return 1.0
        example = find(self.task.examples, example_id, self.__name__)
        return max((self.credit(text, form) for form in accepted(example)), default=0.0)


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


CREDITS: Mapping[str, Callable[[str, str], float]] = {"contains": share, "closeness": closeness}
