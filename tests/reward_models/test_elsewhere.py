"""Rewards of ours outside this suite: in plain TRL, and as a metric in plain DSPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dspy
import pytest
from datasets import Dataset
from dspy.utils import DummyLM
from trl import GRPOConfig, GRPOTrainer
from trl.rewards import think_format_reward

from lm.tiny import write_tiny_model
from reward_models.load import load_reward
from reward_models.metric import as_metric
from reward_models.types import RewardError
from tasks.types import Example, Prompt, Score

EXAMPLES = {key: Example(key, {"verb": key}, past) for key, past in (("go", "went"), ("do", "did"))}
DIRECT = Prompt("Past tense.", ("verb",))
COMPOSED = {
    "parts": ["task", {"reward": {"format": "length", "min": 1, "max": 2, "unit": "chars"}}],
    "overlong": {"start": 2, "max": 4},
}


def exact(example: Example, text: str) -> Score:
    right = text == example.answer
    return Score(1.0 if right else 0.0, right)


def load(raw: Any, prompt: Prompt = DIRECT):
    return load_reward(raw, score=exact, prompt=prompt, examples=EXAMPLES)


@pytest.mark.parametrize("reward", ["task", "closeness", {"format": "json"}, COMPOSED])
def test_plain_trl_trains_on_any_reward(tmp_path: Path, reward: Any) -> None:
    model = str(write_tiny_model(tmp_path / "tiny"))
    rows = [{"prompt": DIRECT.messages(e.inputs), "example_id": e.id} for e in EXAMPLES.values()]
    asked: list[list[float | None]] = []
    called = load(reward)

    def watched(**columns: Any) -> list[float | None]:
        asked.append(called(**columns))
        return asked[-1]

    settings = GRPOConfig(
        output_dir=str(tmp_path / "out"), max_steps=1, num_generations=4, report_to="none",
        per_device_train_batch_size=8, max_completion_length=4, use_cpu=True, bf16=False,
        save_strategy="no", logging_steps=1, disable_tqdm=True,
    )  # fmt: skip
    trainer = GRPOTrainer(model, [called, watched], settings, Dataset.from_list(rows))
    trainer.train()
    [logs] = [row for row in trainer.state.log_history if "reward" in row]
    name = called.__name__  # type: ignore[attr-defined]
    assert logs[f"rewards/{name}/mean"] == pytest.approx(sum(asked[0]) / 8, abs=1e-6)  # type: ignore[arg-type]


def test_without_example_ids_what_can_be_said_is_said() -> None:
    form = {"parts": [{"format": "json"}], "overlong": {"start": 1, "max": 2}}
    assert load(form)(["", ""], ["[1]", "no"]) == [1.0, 0.0]
    for raw in ("task", "contains", {**form, "normalize": "group"}, {"parts": ["task"]}):
        with pytest.raises(RewardError, match="no column example_id"):
            load(raw)([""], ["[1]"])


def test_a_reward_of_trls_runs_by_path(tmp_path: Path) -> None:
    path = tmp_path / "theirs.py"
    path.write_text("from trl.rewards import think_format_reward\n")
    replies = [[{"role": "assistant", "content": t}] for t in ("<think>a</think>b", "b")]
    values = load(f"{path}:think_format_reward")([[], []], replies, example_id=["go", "do"])
    assert values == think_format_reward(replies) == [1.0, 0.0]


def devset() -> list[dspy.Example]:
    return [
        dspy.Example(**e.inputs, answer=e.answer, example_id=e.id).with_inputs("verb")
        for e in EXAMPLES.values()
    ]


def test_plain_dspy_evaluates_with_any_reward() -> None:
    program = dspy.Predict("verb -> answer")
    with dspy.context(lm=DummyLM([{"answer": "went"}, {"answer": "doed"}])):
        for reward, percent in (("task", 50), ("closeness", 100 * (1 + 0.5 * 4 / 7) / 2)):
            evaluate = dspy.Evaluate(devset=devset(), num_threads=1, display_progress=False)
            program.lm = DummyLM([{"answer": "went"}, {"answer": "doed"}])
            found = evaluate(program, metric=as_metric(load(reward), DIRECT))
            assert found.score == pytest.approx(percent, abs=0.01)


def test_a_program_that_reasons_is_judged_by_its_answer() -> None:
    cot = Prompt("Past tense.", ("verb",), style="cot")
    metric = as_metric(load("task", cot), cot)
    said = dspy.Prediction(reasoning="It is irregular.", answer="went")
    assert metric(devset()[0], said) == 1.0 and metric(devset()[1], said) == 0.0


def test_demos_are_bootstrapped_from_answers_worth_enough() -> None:
    metric = as_metric(load("closeness"), DIRECT, least=0.5)
    near, right = dspy.Prediction(answer="wend"), dspy.Prediction(answer="went")
    assert metric(devset()[0], near, trace=[]) is False and metric(devset()[0], near) == 0.375
    assert metric(devset()[0], right, trace=[]) is True


def test_an_example_without_id_is_one_line() -> None:
    bare = dspy.Example(verb="go").with_inputs("verb")
    with pytest.raises(RewardError, match="the example has no field 'example_id'"):
        as_metric(load("task"), DIRECT)(bare, dspy.Prediction(answer="went"))
    with pytest.raises(RewardError, match="the prediction has no field 'answer'"):
        as_metric(load("task"), DIRECT)(devset()[0], dspy.Prediction(reply="went"))
