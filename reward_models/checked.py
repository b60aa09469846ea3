"""The one place where what a reward returns is held to TRL's convention.

A NaN would silence an example without a word and a short list would shift rewards between rows,
so both stop the run with one line that names the reward and the example. It does not matter who
wrote the reward: functions of users, parts of a composition, judges and learned ones pass here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from lm.types import ModelError
from reward_models.types import (
    Judged,
    RewardError,
    RewardModel,
    Turns,
    Values,
    example_ids,
    judged_apart,
)
from tasks.text import shorten
from tasks.types import TaskError


@dataclass(frozen=True)
class Checked:
    """`reward` as it is, its values checked. Raises RewardError for an exception, a wrong length,
    or a value that is no finite number; ModelError and TaskError, which are one line already, pass.
    """

    name: str
    reward: RewardModel
    asks: bool = False  # whether somebody is asked, so that each call costs

    @property
    def __name__(self) -> str:
        """What TRL calls the reward in its logs."""
        return self.name.replace("/", ".")

    def __call__(
        self, prompts: Sequence[Turns], completions: Sequence[Turns], **columns: Any
    ) -> Values:
        rows = {"prompts": prompts, "completions": completions, **columns}
        ids = example_ids(columns, len(completions), self.name, needed=False)
        return checked(self.name, called(self.name, self.reward, rows, ids), ids)

    def apart(
        self, prompts: Sequence[Turns], completions: Sequence[Turns], **columns: Any
    ) -> Judged:
        rows = {"prompts": prompts, "completions": completions, **columns}
        ids = example_ids(columns, len(completions), self.name, needed=False)

        def asked(**given: Any) -> Judged:
            return judged_apart(self.reward, **given)

        found: Judged = called(self.name, asked, rows, ids)
        parts = {
            part: checked(f"{self.name}, part {part}", values, ids)
            for part, values in found.parts.items()
        }
        return Judged(checked(self.name, found.values, ids), parts)


def called(
    name: str, function: Callable[..., Any], rows: Mapping[str, Any], example_id: Sequence[str]
) -> Any:
    """`function(**rows)`. Raises RewardError, which names the first example that fails alone, for
    any other exception than ModelError and TaskError."""
    try:
        return function(**rows)
    except (ModelError, TaskError):
        raise
    except Exception as error:
        key, cause = _culprit(function, rows, example_id) or (example_id[0], error)
        what = shorten(" ".join(f"{type(cause).__name__}: {cause}".split()))
        raise RewardError(f"reward {name}: raised {what} at example {key!r}") from cause


def _culprit(
    function: Callable[..., Any], rows: Mapping[str, Any], example_id: Sequence[str]
) -> tuple[str, Exception] | None:
    """The first example that fails alone, asked for row by row once the batch has failed."""
    count = len(example_id)
    for i in range(count):
        single = {
            k: [v[i]] if isinstance(v, Sequence) and len(v) == count else v for k, v in rows.items()
        }
        try:
            function(**single)
        except Exception as error:
            return example_id[i], error
    return None


def checked(name: str, values: Any, example_id: Sequence[str]) -> Values:
    """`values` as plain floats, or None. Raises RewardError for anything but a finite number or
    None for each of `example_id`."""
    if not isinstance(values, list | tuple) or len(values) != len(example_id):
        raise RewardError(
            f"reward {name}: returned {_shape(values)} for {len(example_id)} completions "
            f"(the first of example {example_id[0]!r}); return one number for each"
        )
    return [_number(name, v, key) for v, key in zip(values, example_id, strict=True)]


def _number(name: str, value: Any, example_id: str) -> float | None:
    if value is None:
        return None
    if not isinstance(value, Real) or not math.isfinite(value):
        raise RewardError(
            f"reward {name}: gave {shorten(repr(value))} for example {example_id!r}; "
            "return a finite number, or None for no reward"
        )
    return float(value)


def _shape(values: Any) -> str:
    if isinstance(values, list | tuple):
        return f"{len(values)} values"
    return f"{type(values).__name__} instead of a list"
