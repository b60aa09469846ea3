"""The default reward: what the task itself says of an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.judge import judge_all
from evaluation.types import ScoreFunction
from lm.types import Completion
from reward_models.types import Turns, example_ids, find, reply
from tasks.types import Example, Prompt, Score


@dataclass(frozen=True)
class TaskReward:
    """The task's own score in [0, 1], through the same `judge` the evaluator uses.

    `examples` maps id to example; in plain TRL give the dataset a column `example_id`. A scorer
    that fails says nothing of the answer, so it is worth None, not 0.
    """

    score: ScoreFunction
    prompt: Prompt
    examples: Mapping[str, Example]

    __name__ = "task"  # what TRL calls the reward in its logs

    def __call__(
        self, prompts: Sequence[Turns], completions: Sequence[Turns], **columns: Any
    ) -> list[float | None]:
        scores = self.judged(completions, example_ids(columns, len(completions), "task"))
        return [None if score.failure == "error" else score.value for score in scores]

    def judged(self, completions: Sequence[Turns], example_id: Sequence[str]) -> list[Score]:
        """The whole Score of each completion."""
        rows = [
            (find(self.examples, key, "task"), self._answer(turns))
            for turns, key in zip(completions, example_id, strict=True)
        ]
        return judge_all(self.score, self.prompt, rows)

    def _answer(self, turns: Turns) -> Completion:
        acted = () if isinstance(turns, str) or not self.prompt.tools else tuple(turns)
        return Completion(reply(turns), (), (), "stop", 0, transcript=acted)
