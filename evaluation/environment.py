"""What answers meet: the task's score, and where it has tools, those and the score of transcripts.

A method is handed a `ScoreFunction` and nothing else of a task. Where the task has tools, that
function is an `Environment`, so that whoever scores an answer can also let it act.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from evaluation.types import ScoreFunction
from lm.types import Completion
from tasks.text import shorten
from tasks.tools import Toolbox
from tasks.types import Example, Prompt, Score, Task, TaskError, Transcript


@dataclass(frozen=True)
class Environment:
    """The `ScoreFunction` of a task with tools. Scores a bare text as `Task.score` does."""

    score: ScoreFunction
    of_transcript: Callable[[Example, Transcript], Score]
    toolbox: Callable[[Example], Toolbox]
    demonstration: Callable[[Example], Transcript]

    def __call__(self, example: Example, text: str) -> Score:
        return self.score(example, text)


def scoring(task: Task) -> ScoreFunction:
    """How `task` scores, with its tools where it has some."""
    if not getattr(task, "tools", ()):
        return task.score
    boxes = partial(_toolbox, task)
    return Environment(task.score, task.score_transcript, boxes, task.demonstration)


def toolboxes(
    score: ScoreFunction, prompt: Prompt, examples: Sequence[Example]
) -> list[Toolbox | None]:
    """The tools each example is answered with: none where the task has none, or the prompt does not
    offer them. Raises TaskError for a prompt that offers what the task does not have."""
    if not prompt.tools:
        return [None] * len(examples)
    if not isinstance(score, Environment):
        raise TaskError(
            "tools: the prompt offers some and the task has none; name the prompt's task"
        )
    return [score.toolbox(example) for example in examples]


def scorer(score: ScoreFunction, completion: Completion) -> ScoreFunction:
    """How the answer that was extracted from `completion` is scored: with its calls, if it could
    make some."""
    if not completion.transcript or not isinstance(score, Environment):
        return score
    environment, before = score, completion.transcript

    def scored(example: Example, answer: str) -> Score:
        return environment.of_transcript(example, [*before[:-1], {**before[-1], "content": answer}])

    return scored


def refuse_tools(prompt: Prompt, who: str, instead: str) -> None:
    """Raises TaskError, one line, on behalf of `who`, which cannot let a model call tools."""
    if prompt.tools:
        raise TaskError(
            f"{who}: does not work with tools yet; write {instead}, or tools: false for the arm"
        )


def _toolbox(task: Task, example: Example) -> Toolbox:
    try:
        return Toolbox.of(task.tools_for(example), task.max_turns)
    except (Exception, SystemExit) as error:
        why = shorten(f"{type(error).__name__}: {error}", 120)
        raise TaskError(f'tools_for of "{task.name}" failed for "{example.id}": {why}') from None
