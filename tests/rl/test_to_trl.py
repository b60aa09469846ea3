"""A task in plain TRL: one call, then TRL's own trainer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from trl import GRPOConfig, GRPOTrainer

from lm.tiny import write_tiny_model
from rl.to_trl import to_trl
from tasks.calculator import Calculator
from tasks.inflection import Inflection
from tasks.types import Prompt, TaskError


def test_plain_trl_trains_on_a_task(tmp_path: Path) -> None:
    dataset, reward = to_trl("inflection", limit=4)
    asked: list[Any] = []

    def watched(**columns: Any) -> list[float | None]:
        asked.append((columns["prompts"], columns["completions"], columns["example_id"]))
        return reward(**columns)

    settings = GRPOConfig(
        output_dir=str(tmp_path / "out"), max_steps=1, num_generations=4, report_to="none",
        per_device_train_batch_size=8, max_completion_length=4, use_cpu=True, bf16=False,
        save_strategy="no", logging_steps=1, disable_tqdm=True,
    )  # fmt: skip
    model = str(write_tiny_model(tmp_path / "tiny"))
    trainer = GRPOTrainer(model, [reward, watched], settings, dataset)
    trainer.train()
    [logs] = [row for row in trainer.state.log_history if "reward" in row]
    assert "rewards/task/mean" in logs
    [(prompts, completions, ids)] = asked
    task = Inflection()
    by_id = {example.id: example for example in task.split("train")}
    assert prompts == [Prompt.of(task).messages(by_id[key].inputs) for key in ids]
    scores = [
        task.score(by_id[key], turns[0]["content"])
        for key, turns in zip(ids, completions, strict=True)
    ]
    assert logs["rewards/task/mean"] == pytest.approx(sum(s.value for s in scores) / 8)


def test_the_reward_is_the_tasks_score_or_another() -> None:
    dataset, reward = to_trl(Inflection(), "dev", limit=2)
    row = dataset[1]
    columns = {"prompts": [row["prompt"]] * 2, "example_id": [row["example_id"]] * 2}
    assert dataset.column_names == ["prompt", "example_id", "answer"]
    assert reward(completions=[row["answer"], "no such form"], **columns) == [1.0, 0.0]
    _, near = to_trl(Inflection(), "dev", limit=2, reward="closeness")
    [value, _] = near(completions=[row["answer"][:-1], ""], **columns)
    assert value is not None and 0 < value < 1


def test_another_prompt_and_bad_input() -> None:
    prompt = Prompt("Say it.", ("verb",), style="cot")
    dataset, reward = to_trl(Inflection(), limit=1, prompt=prompt)
    assert dataset[0]["prompt"][0]["content"].startswith("Say it.\nThink")
    said = f"So it is. Answer: {dataset[0]['answer']}"
    assert reward(prompts=[""], completions=[said], example_id=[dataset[0]["example_id"]]) == [1.0]
    with pytest.raises(TaskError, match="inflexion"):
        to_trl("inflexion")


def test_tools_are_refused_in_one_line() -> None:
    with pytest.raises(TaskError, match=r"has tools.*to_react") as error:
        to_trl("calculator", limit=2)
    assert "\n" not in str(error.value)
    bare = replace(Prompt.of(Calculator()), tools=())
    dataset, reward = to_trl("calculator", limit=2, prompt=bare)
    row = dataset[0]
    said = [[{"role": "assistant", "content": row["answer"]}]]
    assert reward([row["prompt"]], said, example_id=[row["example_id"]]) == [1.0]
    with pytest.raises(TaskError, match="to_trl: takes texts only"):
        to_trl("digit-image", limit=2)
