"""A task in plain DSPy: one call, then DSPy's own Evaluate and optimizers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import dspy
import pytest
from dspy.teleprompt import BootstrapFewShot
from dspy.utils import DummyLM

from prompt_opt.to_dspy import to_dspy
from tasks.inflection import Inflection
from tasks.types import Example, Score, SplitName, Task, TaskError


class Odd(Task):
    name, instruction, inputs = "odd", "Do.", ("self",)

    def split(self, name: SplitName) -> Sequence[Example]:
        return [Example(name, {"self": "x"}, "y")]

    def score(self, example: Example, text: str) -> Score:
        raise RuntimeError("never asked")


def test_plain_dspy_evaluates_a_task() -> None:
    signature, examples, metric = to_dspy("inflection")
    task = Inflection()
    assert signature.instructions == task.instruction
    assert [e.example_id for e in examples["dev"]] == [e.id for e in task.split("dev")]
    cases = examples["dev"][:4]
    replies = [{task.output: text} for text in (cases[0][task.output], "x", "", "\ud800" * 9)]
    with dspy.context(lm=DummyLM(replies)):
        evaluate = dspy.Evaluate(devset=cases, num_threads=1, display_progress=False)
        assert evaluate(dspy.Predict(signature), metric=metric).score == 25.0


class Graded(Inflection):
    """Half right is not correct."""

    def score(self, example: Example, text: str) -> Score:
        score = super().score(example, text)
        return score if score.correct else replace(score, value=0.5)


def test_demos_are_bootstrapped_from_correct_answers_only() -> None:
    signature, examples, metric = to_dspy(Graded(), ["train"])
    output = Inflection().output
    cases = examples["train"][:2]
    replies = [{output: "wrong"}, {output: cases[1][output]}]
    with dspy.context(lm=DummyLM(replies)):
        found = BootstrapFewShot(metric=metric, max_labeled_demos=0, max_bootstrapped_demos=2)
        program = found.compile(dspy.Predict(signature), trainset=cases)
    assert [demo[output] for demo in program.demos] == [cases[1][output]]


def test_gepa_is_told_why() -> None:
    signature, examples, metric = to_dspy("inflection")
    dspy.GEPA(metric=metric, max_metric_calls=1, reflection_lm=DummyLM([]))  # takes its five
    case = examples["dev"][0]
    told = metric(case, dspy.Prediction(**{Inflection().output: "x"}), [], "self", [])
    assert told.score == 0.0 and case[Inflection().output] in told.feedback
    assert metric(case, dspy.Prediction()) == 0.0  # nothing was parsed from the reply
    assert list(signature.input_fields) == list(Inflection().inputs)


def test_a_field_that_dspy_cannot_take() -> None:
    with pytest.raises(TaskError, match="cannot take a field 'self'"):
        to_dspy(Odd())


def test_tools_are_refused_in_one_line() -> None:
    with pytest.raises(TaskError, match=r"has tools.*to_react") as error:
        to_dspy("calculator")
    assert "\n" not in str(error.value)
