"""A task as what plain TRL takes, for those who want the task and not this suite: one call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from reward_models.load import load_reward
from reward_models.types import RewardModel
from tasks.load import load_task
from tasks.splits import refuse_images, required_split
from tasks.types import Prompt, SplitName, Task, TaskError

if TYPE_CHECKING:
    from datasets import Dataset


def to_trl(
    task: Task | str,
    split: SplitName = "train",
    *,
    prompt: Prompt | None = None,
    reward: str | Mapping[str, Any] = "task",
    limit: int | None = None,
) -> tuple[Dataset, RewardModel]:
    """The dataset and the reward function for `trl.GRPOTrainer(model, reward, args, dataset)`.

    The dataset has the columns `prompt` (a chat), `example_id` (which the reward needs, so leave
    `remove_unused_columns` False, GRPO's default) and `answer`. `task` is a task or its name, as in
    a spec; `prompt` another one than the task's own; `reward` as in a spec (docs/rewards.md); only
    the first `limit` examples. Raises TaskError, also for a prompt with tools: TRL's trainer is
    given functions for all examples and shows the reward no more of them than their words.
    """
    from datasets import Dataset

    if isinstance(task, str):
        task = load_task(task)
    asked = prompt or Prompt.of(task)
    if asked.tools:
        raise TaskError(
            f'to_trl: "{task.name}" has tools, which plain TRL is not handed; train with grpo in a '
            "spec, or take prompt_opt.to_react.to_react(task) for DSPy"
        )
    examples = required_split(task, split, limit)
    refuse_images(examples, "to_trl")
    rows = [
        {"prompt": asked.messages(e.inputs), "example_id": e.id, "answer": e.answer}
        for e in examples
    ]
    by_id = {example.id: example for example in examples}
    function = load_reward(reward, score=task.score, prompt=asked, examples=by_id)
    return Dataset.from_list(rows), function
