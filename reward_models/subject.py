"""The reward under examination and the task's own score, asked about any answers side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from evaluation.types import ScoreFunction
from reward_models.task import TaskReward
from reward_models.types import RewardModel, Values, word_ids
from tasks.types import Example, Prompt, Score


@dataclass(frozen=True)
class Answer:
    """One answer, as it was given to `prompt`. `source` says whose it is; `token_ids` are None
    where the text is not as a policy drew it."""

    source: str
    prompt: Prompt
    example: Example
    text: str
    token_ids: tuple[int, ...] | None = None


@dataclass
class Subject:
    """`open` loads the reward for a prompt, with which it extracts answers; once for each."""

    open: Callable[[Prompt], RewardModel]
    score: ScoreFunction
    examples: Mapping[str, Example]
    _opened: dict[str, RewardModel] = field(default_factory=dict, repr=False)

    def reward(self, prompt: Prompt) -> RewardModel:
        key = prompt.to_json()
        if key not in self._opened:
            self._opened[key] = self.open(prompt)
        return self._opened[key]

    def task(self, prompt: Prompt) -> TaskReward:
        return TaskReward(self.score, prompt, self.examples)

    def paid(self, answers: Sequence[Answer]) -> Values:
        """The reward of each answer, called as a trainer calls it: consecutive answers to the same
        question are a group. Lengths are compared, so it is tokens for all or words for all."""
        known = all(answer.token_ids is not None for answer in answers)
        found: Values = []
        for prompt, some in groupby(answers, key=lambda answer: answer.prompt):
            rows = list(some)
            found += self.reward(prompt)(
                [prompt.messages(row.example.inputs) for row in rows],
                [[{"role": "assistant", "content": row.text}] for row in rows],
                example_id=[row.example.id for row in rows],
                completion_ids=[
                    list(row.token_ids or ()) if known else word_ids(row.text) for row in rows
                ],
                trainer_state=None,
            )
        return found

    def worth(self, answers: Sequence[Answer]) -> list[Score]:
        """What the task says of each answer."""
        found: list[Score] = []
        for prompt, some in groupby(answers, key=lambda answer: answer.prompt):
            rows = list(some)
            found += self.task(prompt).judged(
                [row.text for row in rows], [row.example.id for row in rows]
            )
        return found
