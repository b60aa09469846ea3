"""A task with tools as plain DSPy's `dspy.ReAct`, for those who want the task and not this suite.

ReAct has prompts of its own (Yao et al., 2023, arXiv:2210.03629, as DSPy writes them): what it asks
is not what our evaluator asks. What is shared is the task: its functions, its limits on them, its
score of what was called and said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import wraps
from typing import Any

import dspy

from evaluation.environment import Environment, scoring
from evaluation.judge import judge
from lm.types import Completion
from prompt_opt.adapter import signature_of
from prompt_opt.to_dspy import Metric, case_of, metric_of
from tasks.load import load_task
from tasks.splits import refuse_images, required_split
from tasks.tools import Tool, Toolbox, calling
from tasks.types import Prompt, Score, SplitName, Task, TaskError, Transcript

FINISH = "finish"  # ReAct's own tool
OWN_FIELDS = ("trajectory", "next_thought", "next_tool_name", "next_tool_args")


def to_react(
    task: Task | str, splits: Sequence[SplitName] = ("train", "dev")
) -> tuple[dspy.ReAct, dict[str, list[dspy.Example]], Metric]:
    """(program, examples by split, metric) for `dspy.Evaluate` and DSPy's optimizers.

    The program may call as often as the task's `max_turns` allow. The metric gives the score of the
    transcript in [0, 1]; while demos are bootstrapped (DSPy gives a trace), whether the answer is
    correct; and to GEPA, which says which predictor it asks about, a score with the task's
    feedback. Raises TaskError for a task without tools, with tools that hang on the example, or
    with names that ReAct keeps for itself.
    """
    if isinstance(task, str):
        task = load_task(task)
    environment = scoring(task)
    _refuse(task, environment)
    assert isinstance(environment, Environment)
    prompt = Prompt.of(task)
    opened = {split: required_split(task, split) for split in splits}
    cases = {split: [case_of(e, prompt) for e in examples] for split, examples in opened.items()}
    known = {example.id: example for examples in opened.values() for example in examples}
    refuse_images(known.values(), "to_react")
    tools = [_told(tool) for tool in task.tools]
    program = dspy.ReAct(signature_of(prompt), tools, max_iters=task.max_turns)

    def judged(example: dspy.Example, prediction: Any) -> Score:
        asked = known[str(example.example_id)]
        said = str(getattr(prediction, prompt.output, None) or "")
        turns = tuple(transcript_of(prediction, said, environment.toolbox(asked)))
        answer = Completion(said, (), (), "stop", 0, transcript=turns)
        return judge(environment, prompt, asked, answer)

    return program, cases, metric_of(judged)


def transcript_of(prediction: Any, answer: str, box: Toolbox) -> Transcript:
    """What a ReAct prediction has done, as our transcripts tell it. The tools are asked once more:
    they give the same result, and say in our words what was wrong with a call."""
    steps: Mapping[str, Any] = getattr(prediction, "trajectory", None) or {}
    turns: list[Mapping[str, Any]] = []
    for step in range(len(steps)):
        name, arguments = steps.get(f"tool_name_{step}"), steps.get(f"tool_args_{step}")
        if name is None or name == FINISH:
            break
        given = arguments if isinstance(arguments, Mapping) else {}
        thought = str(steps.get(f"thought_{step}", ""))
        call = {**calling(str(name)), "content": thought}
        call["tool_calls"] = [{"name": str(name), "arguments": dict(given)}]
        turns += [call, box.call(str(name), given)]
    return [*turns, {"role": "assistant", "content": answer}]


def _refuse(task: Task, score: Any) -> None:
    if not isinstance(score, Environment):
        raise TaskError(f'task "{task.name}": has no tools to act with; use to_dspy')
    if getattr(type(task), "tools_for", Task.tools_for) is not Task.tools_for:
        raise TaskError(
            f'task "{task.name}": its tools hang on the example (tools_for), and a dspy.ReAct has '
            "the same for all; build one for each example"
        )
    taken = [name for name in (*task.inputs, task.output) if name in OWN_FIELDS]
    taken += [tool.__name__ for tool in task.tools if tool.__name__ == FINISH]
    if taken:
        raise TaskError(f'task "{task.name}": ReAct keeps {taken[0]!r} for itself; rename it')


def _told(tool: Tool) -> Tool:
    """The function as our own loop calls it: checked arguments, errors as one line."""
    box = Toolbox.of((tool,), 1)

    @wraps(tool)
    def call(**arguments: Any) -> str:
        return str(box.call(tool.__name__, arguments)["content"])

    return call
