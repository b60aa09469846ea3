"""An Inspect `@task` as ours: `inspect:file.py@name`, `inspect:package.module@name`.

The task's own solvers run, with `generate` standing for what our model said: the first time to see
which prompt they put, later to let them read the reply (`multiple_choice` does). Its scorer then
judges: C is 1, P a half, I and N are 0. Samples are dealt in tens (`tasks.dealt`). Refused are
solvers that generate more than once or bring tools, sandboxes and files, and scorers that ask a
model; of several scorers the first one counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
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
from tasks.text import nearest, shorten
from tasks.types import Example, Score, SplitName, Task, TaskError

PREFIX = "inspect:"
MODEL = "none/none"
ASKS_A_MODEL = ("model_graded_qa", "model_graded_fact", "perplexity", "target_perplexity")
ONLY = "only single-turn tasks of text run as ours"


class InspectTask(Task):
    """The samples of one Inspect task, scored by its own scorer."""

    inputs = ("question",)
    output = "answer"
    failure_classes = FAILURES
    format_failures = FORMAT_FAILURES

    def __init__(self, name: str):
        require("inspect_ai", "inspect-ai", name)
        self.name, self._spelled = name, name.removeprefix(PREFIX)
        file = self._spelled.partition("@")[0]
        self.files = (Path(file).expanduser(),) if file.endswith(".py") else ()
        _load(self._spelled)
        self.instruction = _read(self._spelled)[1]

    def split(self, name: SplitName) -> Sequence[Example]:
        return _read(self._spelled)[0][name]

    def score(self, example: Example, text: str) -> Score:
        def judge(text: str) -> Score:
            sample = _read(self._spelled)[2][example.id]
            given = run_async(_judge(_load(self._spelled), sample, text))
            unread = given.answer is None or not str(given.answer).strip()
            value = _value(given.value)
            failure = "unreadable" if unread and value == 0.0 else ""
            said = given.explanation if given.explanation not in (None, text) else ""
            return as_score(example, text, value, said, failure)

        return judged(example, text, judge)


def _value(value: Any) -> float:
    from inspect_ai.scorer import value_to_float

    if isinstance(value, Mapping | list):
        raise ValueError("the scorer gives several values")
    return value_to_float()(value)


async def _judge(task: Any, sample: Any, text: str) -> Any:
    from inspect_ai.scorer import Target

    state = await _solve(task, sample, text)
    return await task.scorer[0](state, Target(sample.target))


async def _solve(task: Any, sample: Any, text: str, seen: list[Any] | None = None) -> Any:
    """The state after the task's solvers, the model having said `text`; `seen` gets its prompt."""
    from inspect_ai.model import ChatMessageAssistant, ChatMessageUser, ModelName, ModelOutput
    from inspect_ai.scorer import Target
    from inspect_ai.solver import TaskState

    asked = 0

    async def generate(state: Any, *_: Any, **__: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked > 1:
            raise TaskError(f"its solvers generate more than once; {ONLY}")
        if state.tools:
            raise TaskError(f"its solvers bring tools; {ONLY}")
        if seen is not None:
            seen.extend(state.messages)
        state.messages.append(ChatMessageAssistant(content=text))
        state.output = ModelOutput.from_content(MODEL, text)
        return state

    given = sample.input
    messages: list[Any] = (
        [ChatMessageUser(content=given)] if isinstance(given, str) else list(given)
    )
    state = TaskState(
        model=ModelName(MODEL),
        sample_id=sample.id or 0,
        epoch=1,
        input=given,
        messages=messages,
        target=Target(sample.target),
        choices=sample.choices,
        metadata=dict(sample.metadata or {}),
    )
    state = await task.solver(state, generate)
    if asked != 1:
        raise TaskError(f"its solvers never generate; {ONLY}")
    return state


@cache
def _load(spelled: str) -> Any:
    """The Inspect task, built without arguments. Raises TaskError."""
    file, _, name = spelled.partition("@")
    if file.endswith(".py"):
        module = import_file(Path(file).expanduser())
    else:
        try:
            module = import_module(file)
        except Exception as error:  # whatever a module does
            told = shorten(" ".join(str(error).split()), 200)
            raise TaskError(f"{PREFIX}{shorten(spelled, 60)}: {told}") from error
    known = [key for key, value in vars(module).items() if _is_task(value)]
    if not name and len(known) == 1:
        name = known[0]
    if name not in known:
        have = ", ".join(known) or "none"
        raise TaskError(f'{PREFIX}{file}: no @task "{name}"{nearest(name, known)}; it has {have}')
    try:
        task = getattr(module, name)()
    except Exception as error:
        told = shorten(" ".join(str(error).split()), 200)
        raise TaskError(f"{PREFIX}{spelled}: {told}") from error
    _check(spelled, task)
    return task


def _is_task(value: Any) -> bool:
    from inspect_ai.util import registry_info

    try:
        return registry_info(value).type == "task"
    except Exception:  # most things are not registered
        return False


def _check(spelled: str, task: Any) -> None:
    from inspect_ai.util import registry_info

    scorers = task.scorer or []
    names = [registry_info(scorer).name.rpartition("/")[2] for scorer in scorers[:1]]
    problems = {
        "it has no scorer": not scorers,
        f"{''.join(names)} asks a model": any(name in ASKS_A_MODEL for name in names),
        "it needs a sandbox": task.sandbox is not None,
        "its samples bring files": any(s.files or s.sandbox or s.setup for s in task.dataset),
    }
    for problem, holds in problems.items():
        if holds:
            raise TaskError(f"{PREFIX}{spelled}: {problem}; {ONLY}")


@cache
def _read(spelled: str) -> tuple[Mapping[str, Sequence[Example]], str, Mapping[str, Any]]:
    """The splits, the system prompt (the instruction), and each example's sample by its id."""
    task, samples, systems = _load(spelled), {}, set()

    def built() -> Any:
        for number, sample in enumerate(task.dataset, 1):
            system, question = _prompt(spelled, task, sample)
            systems.add(system)
            id = str(sample.id if sample.id is not None else number)
            samples[id] = sample
            yield Example(
                id, {"question": question}, _gold(sample), features(sample.metadata or {})
            )

    splits = deal(built())
    if len(systems) > 1:
        raise TaskError(f"{PREFIX}{spelled}: a system prompt of its own for each sample; {ONLY}")
    return splits, systems.pop() if systems else "", samples


def _prompt(spelled: str, task: Any, sample: Any) -> tuple[str, str]:
    """The system prompt and the question that the solvers put."""
    seen: list[Any] = []
    try:
        run_async(_solve(task, sample, "", seen))
    except TaskError as error:
        raise TaskError(f"{PREFIX}{spelled}: {error}") from error
    except Exception as error:  # a solver that wants a model of its own, or is broken
        told = shorten(" ".join(str(error).split()), 120)
        raise TaskError(f"{PREFIX}{spelled}: its solvers fail ({told}); {ONLY}") from error
    roles = [message.role for message in seen]
    if roles not in (["user"], ["system", "user"]) or not isinstance(seen[-1].content, str):
        raise TaskError(f"{PREFIX}{spelled}: a prompt of {', '.join(roles)}; {ONLY}")
    return "".join(message.text for message in seen[:-1]), seen[-1].text


def _gold(sample: Any) -> str:
    target = sample.target
    if sample.choices:  # the letter alone is what `multiple_choice` reads
        return f"ANSWER: {target if isinstance(target, str) else ','.join(target)}"
    first = target if isinstance(target, str) else (target[0] if target else "")
    return first.strip()
