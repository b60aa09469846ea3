"""A task as what plain DSPy takes, for those who want the task and not this suite: one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dspy

from prompt_opt.adapter import signature_of
from reward_models.task import TaskReward
from tasks.load import load_task
from tasks.splits import refuse_images, required_split
from tasks.types import Example, Prompt, Score, SplitName, Task, TaskError

Metric = Callable[..., Any]


def to_dspy(
    task: Task | str, splits: Sequence[SplitName] = ("train", "dev")
) -> tuple[type[dspy.Signature], dict[str, list[dspy.Example]], Metric]:
    """(signature, examples by split, metric) for `dspy.Predict`, `dspy.Evaluate` and optimizers.

    `task` is a task or its name, as in a spec. The metric gives the task's score in [0, 1]; while
    demos are bootstrapped (DSPy gives a trace), whether the answer is correct; and to GEPA, which
    says which predictor it asks about, a score with the task's feedback. An answer that is missing
    is an empty one. Raises TaskError, also for tools and for a field that DSPy cannot take.
    """
    if isinstance(task, str):
        task = load_task(task)
    prompt = Prompt.of(task)
    if prompt.tools:
        raise TaskError(
            f'to_dspy: "{task.name}" has tools, which a signature cannot hold; write '
            "prompt_opt.to_react.to_react(task)"
        )
    opened = {split: required_split(task, split) for split in splits}
    known = {example.id: example for examples in opened.values() for example in examples}
    refuse_images(known.values(), "to_dspy")
    cases = {split: [case_of(e, prompt) for e in examples] for split, examples in opened.items()}
    reward = TaskReward(task.score, prompt, known)

    def judged(example: dspy.Example, prediction: Any) -> Score:
        said = str(getattr(prediction, prompt.output, None) or "")
        return reward.judged([said], [str(example.example_id)])[0]

    return signature_of(prompt), cases, metric_of(judged)


def case_of(example: Example, prompt: Prompt) -> dspy.Example:
    """The example as DSPy's, with its id as `example_id`."""
    fields: Mapping[str, str] = {
        **{name: example.inputs[name] for name in prompt.inputs},
        prompt.output: example.answer,
        "example_id": example.id,
    }
    return dspy.Example(fields).with_inputs(*prompt.inputs)


def metric_of(judged: Callable[[dspy.Example, Any], Score]) -> Metric:
    """What DSPy's evaluator and optimizers call, where `judged` scores a prediction."""

    def metric(
        example: Any,
        prediction: Any,
        trace: Any = None,
        pred_name: Any = None,
        pred_trace: Any = None,
    ) -> Any:
        score = judged(example, prediction)
        if pred_name is not None:
            return dspy.Prediction(score=score.value, feedback=score.feedback or "Correct.")
        return score.value if trace is None else score.correct

    return metric
