"""The one calling convention of rewards, TRL's, so that any reward here runs in plain TRL too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable
from zlib import crc32

from tasks.types import Example, TaskError

Turns = str | Sequence[Mapping[str, Any]]  # plain text, or a chat as TRL hands it over
Values = list[float | None]


class RewardError(TaskError):
    """A reward that cannot be used. One line: which reward, which example, what is wrong."""


class Unsolved(Example):
    """An example as one sees it who must not know its answer: `answer` and `meta` are empty, and
    rewards written by users get no such columns."""

    @classmethod
    def of(cls, example: Example) -> Unsolved:
        return cls(example.id, example.inputs, "", {})


class RewardModel(Protocol):
    """What RL may train on: a number for each completion, None where none can be given.

    `columns` hold one value per completion; `example_id` is always among them, and rewards that
    are written by users also get `answer`, `inputs` and `meta`. Consecutive rows of the same
    `example_id` are a group: answers to the same question. Must return as many values as
    there are completions. TRL leaves a completion with None out of its group.
    """

    def __call__(
        self, prompts: Sequence[Turns], completions: Sequence[Turns], **columns: Any
    ) -> Values: ...


@dataclass(frozen=True)
class Judged:
    """What a batch of completions is worth, and each part's share in it by name: as the part itself
    says, before gates, weights and normalization, and penalties as they are added (0 or less)."""

    values: Values
    parts: Mapping[str, Values]


@runtime_checkable
class PartedReward(RewardModel, Protocol):
    """A reward that can tell its parts."""

    def apart(
        self, prompts: Sequence[Turns], completions: Sequence[Turns], **columns: Any
    ) -> Judged: ...


def judged_apart(
    reward: RewardModel,
    prompts: Sequence[Turns],
    completions: Sequence[Turns],
    **columns: Any,
) -> Judged:
    """The values of any reward, with its parts where it has some."""
    if isinstance(reward, PartedReward):
        return reward.apart(prompts, completions, **columns)
    return Judged(reward(prompts, completions, **columns), {})


def reply(completion: Turns) -> str:
    """The text of a completion, be it a string or TRL's list of messages (the last one counts)."""
    return completion if isinstance(completion, str) else str(completion[-1]["content"])


def word_ids(text: str) -> list[int]:
    """A number a word of `text`, the same for the same word: what stands for tokens where nobody
    knows them, so that what counts tokens or looks for repetition counts words."""
    return [crc32(word.encode("utf-8", "surrogatepass")) for word in text.split()]


def example_ids(
    columns: Mapping[str, Any], count: int, reward: str, *, needed: bool = True
) -> Sequence[str]:
    """The column example_id. Raises RewardError where it is missing and `needed`; else rows are
    named by their number."""
    ids = columns.get("example_id")
    if ids is not None:
        return ids
    if needed:
        raise RewardError(f"reward {reward}: no column example_id; the dataset must have one")
    return [f"row {i}" for i in range(count)]


def find(examples: Mapping[str, Example], example_id: str, reward: str) -> Example:
    """The example a row of TRL's batch belongs to. Raises RewardError when it is unknown."""
    if example_id not in examples:
        raise RewardError(f"reward {reward}: no example {example_id!r}; check column example_id")
    return examples[example_id]
