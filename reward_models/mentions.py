"""What a reward names on disk: found beside the spec, and part of the key of a stage.

No torch: the command line reads this.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from reward_models.config import (
    BUILT_IN,
    FUNCTION,
    MAJORITY,
    AnyReward,
    Composition,
    JudgeReward,
    singles,
)
from reward_models.config_formats import JsonFormat

MentionKind = Literal["code", "text", "folder", "model"]


@dataclass(frozen=True)
class Mention:
    """Something on disk that a reward names: `code` "path.py:function", `text` a rubric or schema
    file, `folder` a reward model, `model` the source of a local model that judges."""

    kind: MentionKind
    name: str


def mentions(reward: AnyReward) -> Iterator[Mention]:
    """All it names, in order. A rubric or name is among them only if it looks like a file."""
    for single in singles(reward):
        if isinstance(single, str):
            if single not in (*BUILT_IN, MAJORITY):
                yield Mention("code" if FUNCTION.fullmatch(single) else "folder", single)
        elif isinstance(single, JsonFormat):
            if isinstance(single.json_schema, str):
                yield Mention("text", single.json_schema)
        elif isinstance(single, JudgeReward):
            if is_text_file(single.judge.rubric):
                yield Mention("text", single.judge.rubric)
            if single.judge.endpoint is None:
                yield Mention("model", single.judge.model)


def is_text_file(rubric: str) -> bool:
    """Whether a rubric is the name of a file: one line that ends in .md or .txt."""
    return re.fullmatch(r"\S(.*\S)?\.(md|txt)", rubric) is not None


def relocated(reward: AnyReward, change: Callable[[Mention], str]) -> AnyReward:
    """The reward with every name of `mentions` replaced by `change(mention)`."""
    if isinstance(reward, Composition):
        move = {
            field: [t.model_copy(update={"reward": relocated(t.reward, change)}) for t in terms]
            for field, terms in (("gate", reward.gate), ("parts", reward.parts))
        }
        return reward.model_copy(update=move)
    new = {mention.kind: change(mention) for mention in mentions(reward)}
    if isinstance(reward, str):
        return next(iter(new.values()), reward)
    if isinstance(reward, JsonFormat) and new:
        return reward.model_copy(update={"json_schema": new["text"]})
    if isinstance(reward, JudgeReward):
        judge = reward.judge
        named = {"rubric": new.get("text", judge.rubric), "model": new.get("model", judge.model)}
        return JudgeReward(judge=judge.model_copy(update=named))
    return reward
