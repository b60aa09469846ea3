"""Partial credit for the right answer inside extra words: a hand up where RL starts cold.

A model that chatters scores 0 under exact match in every rollout of a group, so GRPO sees no
difference and learns nothing. Here "The past tense is went." beats "I do not know.", and shorter
beats longer; only what the task calls correct earns 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reward_models.task import TaskReward
from reward_models.types import Turns, find, reply
from tasks.text import contains, normalize
from tasks.types import Example, Score

MOST = 0.5  # an answer the task does not call correct never earns more


@dataclass(frozen=True)
class ContainsReward:
    """1 if the task says correct; else 0.5 x (words of the answer / words of the text) if found.

    Accepted are `example.answer` and the strings of `example.meta["accepted"]`, as whole words, in
    any case. Of several found the best counts; 0 if none is.
    """

    task: TaskReward

    __name__ = "contains"

    def __call__(
        self, prompts: Sequence[Turns], completions: Sequence[Turns], **columns: Any
    ) -> list[float | None]:
        ids = columns["example_id"]
        rows = zip(self.task.judged(completions, ids), completions, ids, strict=True)
        return [self._reward(score, reply(turns), key) for score, turns, key in rows]

    def _reward(self, score: Score, text: str, example_id: str) -> float | None:
        if score.failure == "error":
            return None
        return 1.0 if score.correct else self._partial(text, example_id)

    def _partial(self, text: str, example_id: str) -> float:
        example = find(self.task.examples, example_id, "contains")
        return max((credit(text, form) for form in accepted(example)), default=0.0)


def accepted(example: Example) -> list[str]:
    """The answers that count, as written, without empty ones."""
    return [form for form in (example.answer, *example.meta.get("accepted", ())) if form.strip()]


def credit(text: str, form: str) -> float:
    """In [0, 0.5]: half the share of the text's words that `form` makes up, 0 if not in it."""
    text, form = normalize(text), normalize(form)
    if not contains(text, form):
        return 0.0
    return MOST * min(1.0, len(form.split()) / len(text.split()))
