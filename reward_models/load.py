"""From what a spec says of a reward to the reward."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from evaluation.types import ScoreFunction
from lm.ledger import Ledger
from reward_models.checked import Checked
from reward_models.compose import Composed
from reward_models.config import (
    BUILT_IN,
    FUNCTION,
    AnyReward,
    Composition,
    JudgeReward,
    name_of,
    parse_reward,
    singles,
)
from reward_models.config_formats import Format
from reward_models.formats import format_reward
from reward_models.partial import CREDITS, PartialCredit, TestsPassed
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
    for single in singles(parse_reward(reward)):
        _check_single(single, prompt, examples)


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
    if not isinstance(parsed, Composition):
        return _load_single(parsed, task, ledger)
    rewards = [_load_single(term.reward, task, ledger) for term in parsed.terms()]
    name = name_of(parsed)
    asks = any(isinstance(reward, Checked) and reward.asks for reward in rewards)
    return Checked(name, Composed(name, parsed, rewards), asks)


def _check_single(reward: AnyReward, prompt: Prompt, examples: Mapping[str, Example]) -> None:
    if isinstance(reward, Format):
        format_reward(reward, prompt)
    if isinstance(reward, JudgeReward):
        from reward_models.judge import check_judge

        check_judge(reward.judge)
    if not isinstance(reward, str) or reward in BUILT_IN:
        return
    if match := FUNCTION.fullmatch(reward):
        _function(Path(match["file"]).expanduser(), match["name"])
    elif not is_folder(reward):
        raise _unknown(reward)
    else:
        from reward_models.learned import check_learned

        check_learned(Path(reward).expanduser(), prompt)


def _load_single(reward: AnyReward, task: TaskReward, ledger: Ledger | None) -> RewardModel:
    if isinstance(reward, Format):
        return format_reward(reward, task.prompt)
    if isinstance(reward, JudgeReward):
        from reward_models.judge import load_judge

        judge = load_judge(reward.judge, task.examples, ledger)
        return Checked(name_of(reward), judge, asks=True)
    assert isinstance(reward, str), "compositions hold no compositions"
    if reward == "task":
        return task
    if reward == "tests":
        return TestsPassed(task)
    if reward in CREDITS:
        return PartialCredit(task, CREDITS[reward])
    if match := FUNCTION.fullmatch(reward):
        function = _function(Path(match["file"]).expanduser(), match["name"])
        return Checked(reward, UserReward(reward, function, task.examples))
    if is_folder(reward):
        from reward_models.learned import load_learned

        folder = Path(reward).expanduser()
        return Checked(reward, load_learned(folder, task.prompt, task.examples, ledger))
    raise _unknown(reward)


def _unknown(name: str) -> RewardError:
    folder = Path(name).expanduser()
    if folder.is_dir():
        return RewardError(
            f"reward: {name!r} holds no config.json, so no reward model; name a folder that "
            "tasklift reward-train wrote"
        )
    return RewardError(
        f"reward: unknown {name!r}{nearest(name, BUILT_IN)}; write {', '.join(BUILT_IN)}, "
        "path.py:function or the folder of a reward model"
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
