"""What every task must do: pass `tasklift check`, and give any text one declared class."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import Example, Task
from tasks.check import check_task
from tasks.load import load_task

MEAN = (
    "",
    "\ud800\udfff",
    "\0",
    "x" * 100_000,
    "[" * 50_000,
    "{" * 50_000 + "}" * 50_000,
    "NaN",
    "-inf",
    "1e999999",
    "9" * 20_000,
    "\\boxed{" * 2_000,
    "\n" * 50_000 + "x",
    "<<" * 20_000,
    "__import__('os').system('false')",
)


def assert_checks(name: str) -> Task:
    """`tasklift check NAME`, the new process included; sizes below 100 only warn."""
    task = load_task(name)
    bad = [f for f in check_task(task, name) if not f.ok and f.severity == "error"]
    assert not bad, bad
    return task


def assert_class(task: Task, example: Example, text: str, failure: str | None) -> None:
    score = task.score(example, text)
    assert score.failure == failure, (text[:60], score)
    assert score.correct == (failure is None)
    if failure is not None:
        assert failure in task.failure_classes and score.feedback


def assert_survives(task: Task, example: Example, examples: int = 30) -> None:
    """Mean texts and drawn ones: a value in [0, 1], a declared class, storable words."""

    def holds(text: str) -> None:
        score = task.score(example, text)
        assert 0.0 <= score.value <= 1.0
        assert score.correct == (score.failure is None)
        assert score.correct or score.failure in task.failure_classes
        (score.answer + score.feedback).encode()

    for text in MEAN:
        holds(text)
    drawn = given(st.text(st.characters(exclude_categories=())))(holds)
    settings(max_examples=examples)(drawn)()
