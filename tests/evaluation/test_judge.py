"""Errors are data: whatever a scorer or a model does, one Score with one class comes out."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import evaluation.judge
import tasks.scorers
import tasks.text
import tasks.types
from evaluation.judge import UNIVERSAL_FAILURES, judge, judge_hash, loops
from lm import BudgetExhausted, Completion
from tasks.types import Example, Prompt, Score

EXAMPLE = Example("e1", {"input": "2 + 2"}, "4")
DIRECT = Prompt("Add.")
COT = Prompt("Add.", style="cot")


def exact(example: Example, text: str) -> Score:
    correct = text == example.answer
    return Score(float(correct), correct, failure=None if correct else "arithmetic")


def says(text: str, finish="stop") -> Completion:
    return Completion(text, tuple(text.encode()), (), finish, 7)


def test_a_correct_answer_has_no_class_whatever_else_holds():
    for completion in (says(" 4\n"), says("4", "length")):
        assert judge(exact, DIRECT, EXAMPLE, completion) == Score(1.0, True, answer="4")
    proud = judge(lambda e, t: Score(1, True, failure="odd"), DIRECT, EXAMPLE, says("4"))
    assert proud.failure is None


@pytest.mark.parametrize(
    ("completion", "prompt", "failure"),
    [
        (says("5"), DIRECT, "arithmetic"),
        (says(" \n"), DIRECT, "empty"),
        (says("hm.\nAnswer:  "), COT, "empty"),
        (says("", "length"), DIRECT, "empty"),
        (says("I think", "length"), DIRECT, "truncated"),
        (says("go on " * 20, "length"), DIRECT, "truncated"),
        (says("go on " * 20), DIRECT, "repetition"),
        (says("go on " * 20), COT, "repetition"),
        (says("it is 4"), COT, "unparsable"),
        (says("\ufffd\ufffd \ufffdx"), DIRECT, "unparsable"),
        (says("caf\ufffd"), DIRECT, "arithmetic"),
        (says("hm.\nAnswer: 5"), COT, "arithmetic"),
    ],
)
def test_the_first_class_that_holds_wins(completion, prompt, failure):
    judged = judge(exact, prompt, EXAMPLE, completion)
    assert (judged.failure, judged.correct, judged.value) == (failure, False, 0.0)
    assert failure in UNIVERSAL_FAILURES or failure == "arithmetic"


def _raises(example, text):
    raise RuntimeError("no\nsuch file")


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError


def _raises_unprintable(example, text):
    raise Unprintable


@pytest.mark.parametrize(
    ("scorer", "why"),
    [
        (_raises_unprintable, "Unprintable"),
        (_raises, "RuntimeError: no such file"),
        (lambda e, t: sys.exit(0), "SystemExit: 0"),
        (lambda e, t: 0.5, "returned float, not a Score"),
        (lambda e, t: Score(float("nan"), False), "nan"),
        (lambda e, t: Score(1.5, True), "1.5, not a number in [0, 1]"),
        (lambda e, t: Score("1", True), "'1'"),  # type: ignore[arg-type]
        (lambda e, t: Score(1.0, "yes"), "'yes', not a bool"),  # type: ignore[arg-type]
        (lambda e, t: Score(0.0, False, failure=3), "Score.failure is 3"),  # type: ignore[arg-type]
        (lambda e, t: Score(0.0, False, answer=None), "Score.answer"),  # type: ignore[arg-type]
    ],
)
def test_a_broken_scorer_is_class_error_and_says_why(scorer, why):
    judged = judge(scorer, DIRECT, EXAMPLE, says("4"))
    assert (judged.value, judged.correct, judged.failure) == (0.0, False, "error")
    assert why in judged.feedback
    assert "\n" not in judged.feedback


def test_the_hash_of_the_judge_follows_the_code_that_judges(tmp_path, monkeypatch):
    first = judge_hash()
    assert first == judge_hash() and len(first) == 16
    for module in (evaluation.judge, tasks.scorers, tasks.text, tasks.types):
        with monkeypatch.context() as patch:
            (tmp_path / "changed.py").write_text("# other code")
            patch.setattr(module, "__file__", str(tmp_path / "changed.py"))
            assert judge_hash() != first


def test_error_comes_before_every_other_class():
    assert judge(_raises, DIRECT, EXAMPLE, says("", "length")).failure == "error"


def test_numpy_numbers_become_python_ones():
    judged = judge(
        lambda e, t: Score(np.float32(1), np.bool_(True)),  # type: ignore[arg-type]
        DIRECT,
        EXAMPLE,
        says("4"),
    )
    assert type(judged.value) is float
    assert judged.correct is True


def test_partial_credit_feedback_and_the_tasks_own_answer_stay():
    partial = Score(0.25, False, failure="near", feedback="Off by one.", answer="five")
    judged = judge(lambda e, t: partial, DIRECT, EXAMPLE, says("5, so", "length"))
    assert judged == Score(0.25, False, "truncated", "Off by one.", "five")


def test_an_incorrect_answer_without_a_class_is_unclassified():
    assert judge(lambda e, t: Score(0, False), DIRECT, EXAMPLE, says("5")).failure == "unclassified"


@pytest.mark.parametrize("stop", [BudgetExhausted, KeyboardInterrupt])
def test_stopping_passes_through(stop):
    def scorer(example, text):
        raise stop

    with pytest.raises(stop):
        judge(scorer, DIRECT, EXAMPLE, says("4"))


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([7] * 24, True),
        ([7] * 23, False),  # short
        ([*range(24), *[7] * 24], True),
        ([*range(100, 126), *[7] * 24], False),  # less than half of the answer
        (list(range(8)) * 4, True),
        ([*list(range(8)) * 3, *range(4)], False),  # three and a half times
        (list(range(33)) * 6, False),  # a period too long to be called a loop
        (list(range(200)), False),
        ([], False),
    ],
)
def test_what_a_loop_is(ids, expected):
    assert loops(ids) is expected
