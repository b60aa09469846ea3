"""From what a spec says of a reward to the reward."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from evaluation.types import ScoreFunction
from lm.ledger import Ledger
from reward_models.config import BUILT_IN, FUNCTION, AnyReward, parse_reward
from reward_models.partial import CREDITS, PartialCredit
from reward_models.task import TaskReward
from reward_models.types import RewardError, RewardModel
from reward_models.user import UserReward
from tasks.source import import_file, own_names
from tasks.text import nearest
from tasks.types import Example, Prompt


def check_reward(
    reward: AnyReward | Mapping[str, Any],
    *,
    score: ScoreFunction,
    prompt: Prompt,
    examples: Mapping[str, Example],
) -> None:
    """Raises what `load_reward` would, without loading weights or asking anybody: RewardError when
    there is no such reward, TaskError when its file cannot be run, ModelError for a judge."""
    load_reward(reward, score=score, prompt=prompt, examples=examples)


def load_reward(
    reward: AnyReward | Mapping[str, Any],
    *,
    score: ScoreFunction,
    prompt: Prompt,
    examples: Mapping[str, Example],
    ledger: Ledger | None = None,
) -> RewardModel:
    """The reward that `reward` stands for (see reward_models/config.py), ready to be called.

    `score` is the task's scorer, `prompt` the prompt answers are extracted with, `examples` maps
    id to example. What a judge or a learned reward costs is counted in `ledger`. Raises RewardError
    when there is no such reward, TaskError when its file cannot be run, ModelError for weights or
    an endpoint that will not do.
    """
    parsed = parse_reward(reward)
    task = TaskReward(score, prompt, examples)
    if parsed == "task":
        return task
    if isinstance(parsed, str) and parsed in CREDITS:
        return PartialCredit(task, CREDITS[parsed])
    if isinstance(parsed, str) and (match := FUNCTION.fullmatch(parsed)):
        path = Path(match["file"]).expanduser()
        return UserReward(parsed, _function(path, match["name"]), examples)
    if isinstance(parsed, str) and is_folder(parsed):
        # TODO(R1): wrap in the check of all values
        from reward_models.learned import load_learned  # type: ignore[import-not-found]

        return load_learned(Path(parsed).expanduser(), prompt, examples, ledger)
    raise RewardError(
        f"reward: unknown {parsed!r}{nearest(str(parsed), BUILT_IN)}; "
        f"write {', '.join(BUILT_IN)} or path.py:function"
    )


def is_folder(name: str) -> bool:
    """Whether a reward's name is that of a folder with a model."""
    return (Path(name).expanduser() / "config.json").is_file()


def _function(path: Path, name: str) -> Callable[..., Any]:
    module = import_file(path)
    function = getattr(module, name, None)
    if not callable(function):
        hint = nearest(name, own_names(module))
        raise RewardError(f"reward {path}:{name}: {path.name} defines no function {name!r}{hint}")
    return function
