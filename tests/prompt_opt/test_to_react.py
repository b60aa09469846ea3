"""A task as a real `dspy.ReAct`: its tools are called, its score is the metric."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import dspy
import pytest
from dspy.utils import DummyLM

from prompt_opt.to_dspy import to_dspy
from prompt_opt.to_react import to_react
from tasks import Example, Score, Task, TaskError
from tasks.calculator import Calculator
from tasks.inflection import Inflection
from tasks.sql import Sql


def step(tool: str, **arguments: Any) -> dict[str, Any]:
    return {"next_thought": "So.", "next_tool_name": tool, "next_tool_args": arguments}


def script(*steps: dict[str, Any], **answer: str) -> DummyLM:
    """An LM that takes these steps and answers; again and again."""
    said = [*steps, step("finish"), {"reasoning": "I read it.", **answer}]
    return DummyLM(said * 20)


def test_react_calls_the_tasks_tools_and_is_scored_by_the_task() -> None:
    program, examples, metric = to_react("calculator")
    assert type(program) is dspy.ReAct and program.max_iters == Calculator.max_turns
    case = examples["dev"][0]
    expression = next(
        e.meta["expression"] for e in Calculator().split("dev") if e.id == case.example_id
    )
    acting = script(step("calculator", expression=expression), result=case.result)
    with dspy.context(lm=acting):
        right = program(problem=case.problem)
    assert right.trajectory["observation_0"] == case.result
    assert metric(case, right) == 1.0 and metric(case, right, trace=[]) is True
    assert "12 * (3 + 4)" in str(acting.history[0]["messages"])  # the task's own description


@pytest.mark.parametrize(
    ("steps", "answer", "word"),
    [
        ([step("calculator", expression="1 + 1")], "2", "something else"),
        ([step("calculator", expression="one")], "2", "could not work that out"),
        ([step("calculator", sum="1 + 1")], "2", 'Call "calculator" with'),
        ([], "2", "Call the calculator"),
    ],
)
def test_wrong_answers_are_told_what_went_wrong(
    steps: list[dict[str, Any]], answer: str, word: str
) -> None:
    program, examples, metric = to_react("calculator")
    case = examples["dev"][0]
    with dspy.context(lm=script(*steps, result=answer)):
        given = program(problem=case.problem)
    assert metric(case, given) == 0.0 and metric(case, given, trace=[]) is False
    told = metric(case, given, pred_name="react")
    assert told.score == 0.0 and word in told.feedback


def test_all_calls_count_not_only_the_last() -> None:
    program, examples, metric = to_react("calculator")
    case = examples["dev"][0]
    known = {e.id: e for e in Calculator().split("dev")}
    right = step("calculator", expression=known[case.example_id].meta["expression"])
    with dspy.context(lm=script(right, step("calculator", expression="1 + 1"), result="2")):
        given = program(problem=case.problem)
    assert "had the right number" in metric(case, given, pred_name="react").feedback


def test_observations_are_one_line_without_a_traceback() -> None:
    program, examples, _ = to_react("sql")
    with dspy.context(lm=script(step("query", sql="DROP TABLE items"), answer="x")):
        given = program(question=examples["train"][0].question)
    seen = given.trajectory["observation_0"]
    assert seen.startswith("error: not allowed") and "\n" not in seen


def test_dspys_evaluate_and_optimizers_take_it() -> None:
    program, examples, metric = to_react("sql")
    known = {e.id: e for e in Sql().split("dev")}
    cases = examples["dev"][:3]
    said: list[dict[str, Any]] = []
    for case in cases:
        sql = known[case.example_id].meta["sql"]
        said += [step("query", sql=sql), step("finish"), {"reasoning": "r", "answer": case.answer}]
    with dspy.context(lm=DummyLM(said * 2)):
        evaluate = dspy.Evaluate(devset=cases, metric=metric, num_threads=1)
        assert evaluate(program).score == 100
        tuned: Any = dspy.BootstrapFewShot(metric=metric, max_labeled_demos=0).compile(
            program, trainset=cases
        )
    assert any("SELECT" in str(demo["next_tool_args"]) for demo in tuned.react.demos)


class Odd(Task):
    failure_classes = MappingProxyType({"x": "X."})
    name, instruction, inputs, output = "odd", "Look.", ("trajectory",), "answer"

    def look(where: str) -> str:  # type: ignore[misc]
        """Looks."""
        return where

    tools = (look,)

    def split(self, name: str) -> list[Example]:
        return [Example(f"{name}-1", {"trajectory": name}, "x")]

    def score(self, example: Example, text: str) -> Score:
        return Score(1.0, True)


class Own(Odd):
    inputs = ("input",)

    def tools_for(self, example: Example) -> Any:
        return self.tools


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (Inflection(), ["has no tools", "to_dspy"]),
        (Odd(), ["keeps 'trajectory' for itself", "rename it"]),
        (Own(), ["hang on the example", "build one for each"]),
    ],
)
def test_what_react_cannot_take_is_one_line(task: Task, words: list[str]) -> None:
    with pytest.raises(TaskError) as error:
        to_react(task)
    assert "\n" not in str(error.value) and all(word in str(error.value) for word in words)


def test_exports_do_not_take_pictures_for_texts() -> None:
    with pytest.raises(TaskError, match="to_dspy: takes texts only, and the task shows pictures"):
        to_dspy("digit-image")
