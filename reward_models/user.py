"""A reward from a user's file, held to TRL's convention: what it returns is checked on the spot.

A NaN would silence an example without a word and a short list would shift rewards between rows,
so both stop the run with one line that names the reward and the example.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from reward_models.types import RewardError, Turns, Unsolved, find
from tasks.text import shorten
from tasks.types import Example


@dataclass(frozen=True)
class UserReward:
    """`function(prompts, completions, example_id, answer, inputs, meta, **columns)`, checked.

    `answer` is a list of strings, `inputs` and `meta` are lists of dicts, one per completion; of
    `Unsolved` examples neither `answer` nor `meta` is handed over.
    Raises RewardError for an exception, a wrong length, or a value that is no finite number.
    """

    name: str
    function: Callable[..., Any]
    examples: Mapping[str, Example]

    @property
    def __name__(self) -> str:
        return self.name.replace("/", ".")

    def __call__(
        self, prompts: Sequence[Turns], completions: Sequence[Turns], **columns: Any
    ) -> list[float | None]:
        examples = [find(self.examples, key, self.name) for key in columns["example_id"]]
        rows = {
            "prompts": prompts,
            "completions": completions,
            **columns,
            "inputs": [dict(example.inputs) for example in examples],
        }
        if not any(isinstance(example, Unsolved) for example in examples):
            rows["answer"] = [example.answer for example in examples]
            rows["meta"] = [dict(example.meta) for example in examples]
        values = self._call(rows)
        if not isinstance(values, list | tuple) or len(values) != len(examples):
            raise RewardError(
                f"reward {self.name}: returned {_shape(values)} for {len(examples)} completions "
                f"(the first of example {examples[0].id!r}); return one number for each"
            )
        return [self._checked(v, e) for v, e in zip(values, examples, strict=True)]

    def _call(self, rows: dict[str, Any]) -> Any:
        try:
            return self.function(**rows)
        except Exception as error:
            key, cause = self._culprit(rows) or (rows["example_id"][0], error)
            what = shorten(" ".join(f"{type(cause).__name__}: {cause}".split()))
            told = "" if "answer" in rows else "; here it must do without answer and meta"
            raise RewardError(
                f"reward {self.name}: raised {what} at example {key!r}{told}"
            ) from cause

    def _culprit(self, rows: dict[str, Any]) -> tuple[str, Exception] | None:
        """The first example that fails alone, asked for row by row once the batch has failed."""
        count = len(rows["example_id"])
        for i in range(count):
            single = {
                k: [v[i]] if isinstance(v, Sequence) and len(v) == count else v
                for k, v in rows.items()
            }
            try:
                self.function(**single)
            except Exception as error:
                return rows["example_id"][i], error
        return None

    def _checked(self, value: Any, example: Example) -> float | None:
        if value is None:
            return None
        if not isinstance(value, Real) or not math.isfinite(value):
            raise RewardError(
                f"reward {self.name}: gave {value!r} for example {example.id!r}; "
                "return a finite number, or None for no reward"
            )
        return float(value)


def _shape(values: Any) -> str:
    if isinstance(values, list | tuple):
        return f"{len(values)} values"
    return f"{type(values).__name__} instead of a list"
