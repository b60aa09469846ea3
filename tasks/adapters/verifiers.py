"""A single-turn verifiers environment as ours: `verifiers:my_env` or `verifiers:my_env.py`.

The name is that of an installed package that exports a `Taskset` (verifiers 0.4, `verifiers.v1`),
or a file that defines one. Its tasks are dealt in tens (`tasks.dealt`). A reply becomes a trace of
one turn, and the task's own rewards judge it: `value` is their weighted sum over the sum of the
weights. What one turn of text cannot do is refused: tools, containers, rewards that need a
runtime, judges, an environment that opens with the user.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tasks.adapters.scoring import (
    FAILURES,
    FORMAT_FAILURES,
    as_score,
    judged,
    require,
    run_async,
)
from tasks.dealt import deal, features
from tasks.source import import_file
from tasks.text import shorten
from tasks.types import Example, Score, SplitName, Task, TaskError

PREFIX = "verifiers:"
GOLDS = ("answer", "target", "gold", "solution", "expected")  # fields of the data, by custom


class VerifiersTask(Task):
    """The tasks of one taskset, scored by their own rewards."""

    inputs = ("question",)
    output = "answer"
    failure_classes = FAILURES
    format_failures = FORMAT_FAILURES

    def __init__(self, name: str):
        require("verifiers", "verifiers", name)
        self.name, self._spelled = name, name.removeprefix(PREFIX)
        self.files = (Path(self._spelled),) if self._spelled.endswith(".py") else ()
        taskset = _load(self._spelled)
        _check(name, taskset)
        first = next(iter(taskset), None)
        if first is None:
            raise TaskError(f"{name}: the taskset yields no task")
        self.instruction = first.data.system_prompt or ""

    def split(self, name: SplitName) -> Sequence[Example]:
        return _read(self._spelled)[0][name]

    def score(self, example: Example, text: str) -> Score:
        def judge(text: str) -> Score:
            trace = run_async(_judge(_read(self._spelled)[1][example.id], text))
            given = [reward for reward in trace.rewards.values() if reward is not None]
            whole = sum(reward.weight for reward in given)
            said = ", ".join(f"{name} {r.score:g}" for name, r in trace.rewards.items() if r)
            return as_score(example, text, trace.reward / whole if whole else 0.0, said)

        return judged(example, text, judge)


async def _judge(task: Any, text: str) -> Any:
    """The trace of one turn in which the model said `text`, with the task's rewards."""
    import verifiers.v1 as vf

    told = vf.TraceTask(type=type(task).__name__, data=task.data)
    agent = vf.AgentInfo(config=vf.AgentConfig())
    trace = vf.Trace(task=told, agent=agent)
    said = [vf.UserMessage(content=task.data.prompt_text), vf.AssistantMessage(content=text)]
    if task.data.system_prompt:
        said.insert(0, vf.SystemMessage(content=task.data.system_prompt))
    for number, message in enumerate(said):
        parent = number - 1 if number else None
        sampled = message.role == "assistant"
        trace.nodes.append(vf.MessageNode(parent=parent, message=message, sampled=sampled))
    await task.score(trace)
    return trace


@cache
def _load(spelled: str) -> Any:
    """The taskset, built with its default configuration. Raises TaskError."""
    import verifiers.v1 as vf
    from verifiers.v1.utils.generic import concrete_type
    from verifiers.v1.utils.loaders import taskset_class

    if spelled.endswith(".py"):
        module = import_file(Path(spelled).expanduser())
        found = [
            kind
            for kind in vars(module).values()
            if inspect.isclass(kind) and issubclass(kind, vf.Taskset) and kind is not vf.Taskset
        ]
        if len(found) != 1:
            raise TaskError(f"{spelled}: {len(found)} classes of vf.Taskset; there must be one")
        kind = found[0]
    else:
        try:
            kind = taskset_class(spelled)
        except Exception as error:  # not installed, or not an environment
            told = shorten(" ".join(str(error).split()), 200)
            raise TaskError(f"verifiers:{shorten(spelled, 60)}: {told}") from error
    config = concrete_type(kind, vf.TasksetConfig, origin=vf.Taskset)
    return kind((config or vf.TasksetConfig)(id=spelled))


def _check(name: str, taskset: Any) -> None:
    if not taskset.bounded:
        raise TaskError(f"{name}: yields tasks for ever; give it a load() that ends")
    task = next(iter(taskset), None)
    if task is None:
        return
    hooks = [*task.hooks("reward"), *task.hooks("metric")]
    wanted = [fn.__name__ for fn in hooks if "runtime" in inspect.signature(fn).parameters]
    problems = {
        "it needs a container": task.NEEDS_CONTAINER or task.data.image is not None,
        "it has tools": bool(task.toolsets(task.config)),
        "it is judged by a model": bool(task.plugged_judges()),
        f"{', '.join(wanted)} needs a runtime": bool(wanted),
        "the user opens the conversation": task.data.prompt is None,
        "it has no reward": not task.hooks("reward"),
    }
    for problem, holds in problems.items():
        if holds:
            raise TaskError(f"{name}: {problem}; only single-turn tasks of text run as ours")


@cache
def _read(spelled: str) -> tuple[Mapping[str, Sequence[Example]], Mapping[str, Any]]:
    tasks: dict[str, Any] = {}
    examples: list[Example] = []
    for task in _load(spelled):
        example = _build(task.data)
        examples.append(example)
        tasks[example.id] = task
    return deal(examples), tasks


def _build(data: Any) -> Example:
    if not isinstance(data.prompt, str):
        messages = data.prompt or []
        if [message.role for message in messages] != ["user"]:
            raise TaskError("a prompt of several messages; only single-turn tasks run as ours")
        if not isinstance(messages[0].content, str):
            raise TaskError("a prompt with images; only tasks of text run as ours")
    fields = data.model_dump(mode="json", exclude_none=True)
    own = set(type(data).model_fields) - set(type(data).__mro__[1].model_fields)
    gold = next((fields[name] for name in GOLDS if fields.get(name) is not None), "")
    answer = gold if isinstance(gold, str) else json.dumps(gold)
    meta = features({name: fields.get(name) for name in sorted(own)}, GOLDS)
    return Example(f"task-{data.idx}", {"question": data.prompt_text}, answer, meta)
