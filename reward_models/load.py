"""From the name in a spec to a reward."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from evaluation.types import ScoreFunction
from reward_models.partial import CREDITS, PartialCredit
from reward_models.task import TaskReward
from reward_models.types import RewardError, RewardModel
from reward_models.user import UserReward
from tasks.source import import_file, own_names
from tasks.text import nearest
from tasks.types import Example, Prompt

BUILT_IN = ("task", *CREDITS)


def load_reward(
    name: str, *, score: ScoreFunction, prompt: Prompt, examples: Mapping[str, Example]
) -> RewardModel:
    """The reward `name` stands for: "task", one of `CREDITS` or "path.py:function".

    `score` is the task's scorer, `prompt` the prompt answers are extracted with, `examples` maps
    id to example. Raises RewardError when there is no such reward and TaskError when its file
    cannot be run.
    """
    task = TaskReward(score, prompt, examples)
    if name == "task":
        return task
    if name in CREDITS:
        return PartialCredit(task, CREDITS[name])
    if match := re.fullmatch(r"(.+\.py):(\w+)", name):
        return UserReward(name, _function(Path(match[1]).expanduser(), match[2]), examples)
    raise RewardError(
        f"reward: unknown {name!r}{nearest(name, BUILT_IN)}; "
        f"write {', '.join(BUILT_IN)} or path.py:function"
    )


def _function(path: Path, name: str) -> Callable[..., Any]:
    module = import_file(path)
    function = getattr(module, name, None)
    if not callable(function):
        hint = nearest(name, own_names(module))
        raise RewardError(f"reward {path}:{name}: {path.name} defines no function {name!r}{hint}")
    return function
