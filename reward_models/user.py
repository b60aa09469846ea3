"""A reward from a user's file, or from TRL: any function of TRL's convention."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reward_models.types import Turns, Unsolved, example_ids, find
from tasks.types import Example


@dataclass(frozen=True)
class UserReward:
    """`function(prompts, completions, example_id, answer, inputs, meta, **columns)`.

    `answer` is a list of strings, `inputs` and `meta` are lists of dicts, one per completion; of
    `Unsolved` examples neither `answer` nor `meta` is handed over. What it returns is checked by
    `reward_models.checked`.
    """

    name: str
    function: Callable[..., Any]
    examples: Mapping[str, Example]

    def __call__(
        self, prompts: Sequence[Turns], completions: Sequence[Turns], **columns: Any
    ) -> Any:
        ids = example_ids(columns, len(completions), self.name)
        examples = [find(self.examples, key, self.name) for key in ids]
        rows = {**columns, "inputs": [dict(example.inputs) for example in examples]}
        if not any(isinstance(example, Unsolved) for example in examples):
            rows["answer"] = [example.answer for example in examples]
            rows["meta"] = [dict(example.meta) for example in examples]
        return self.function(prompts=prompts, completions=completions, **rows)
