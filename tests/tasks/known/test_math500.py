"""MATH-500: math-verify decides, from any thread, and nothing it is made to compute stops a run."""

from __future__ import annotations

import threading
import time

import pytest

from tasks.known import math_answers
from tasks.known.math_answers import last_boxed, same_answer
from tests.tasks.known.passing import assert_checks, assert_class, assert_survives

pytest.importorskip("math_verify")

SHAPES = str.split("square circle cube cone sphere wedge kite prism disc ring torus rod")


def problem(n: int) -> dict[str, str]:
    shape = SHAPES[n % len(SHAPES)]
    return {
        "problem": f"A {shape} number {n} is cut in {n + 2} parts. What is one part of {n + 1}?",
        "solution": f"It is \\boxed{{\\frac{{{n + 1}}}{{{n + 2}}}}}.",
    }


@pytest.fixture(scope="module")
def task(hub_copy):
    train = [{**problem(n), "level": "Level 3", "type": "Algebra"} for n in range(12)]
    test = [
        {**problem(n), "answer": f"\\frac{{{n + 1}}}{{{n + 2}}}", "subject": "Algebra", "level": 5}
        for n in range(30, 35)
    ]
    who = {"problem": "Who is the tallest?", "solution": "It is \\boxed{\\text{Evelyn}}."}
    test.append({**who, "answer": "\\text{Evelyn}", "subject": "Geometry", "level": 1})
    hub_copy("DigitalLearningGmbH/MATH-lighteval", {"train": train})
    hub_copy("HuggingFaceH4/MATH-500", {"test": test})
    return assert_checks("math500")


def test_train_and_dev_are_from_math_and_test_is_whole(task):
    assert [len(task.split(name)) for name in ("train", "dev", "test")] == [10, 2, 6]
    assert task.split("test")[0].meta == {
        "gold": r"\frac{31}{32}",
        "level": 5,
        "subject": "Algebra",
    }


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        (r"\boxed{\frac{31}{32}}", None),
        (r"so \boxed{\dfrac{31}{32}}", None),
        ("31/32", None),
        (r"$\frac{62}{64}$", None),
        ("0.96875", None),
        ("-31/32", "wrong_sign"),
        ("2", "wrong_number"),
        (r"\boxed{x + 1}", "wrong_expression"),
        ("I do not know.", "no_answer"),
        (r"\boxed{", "no_answer"),
        ("", "empty"),
    ],
)
def test_right_wrong_and_malformed(task, text, failure):
    assert_class(task, task.split("test")[0], text, failure)


def test_a_name_as_the_answer(task):
    assert_class(task, task.split("test")[5], r"It must be \boxed{\text{Evelyn}}.", None)


def test_hostile_texts(task):
    assert_survives(task, task.split("test")[0], examples=10)
    assert not task.score(task.split("test")[0], r"\boxed{10000000000!}").correct


def test_threads_may_ask_at_once(task):
    example, got = task.split("test")[0], {}

    def ask(n: int) -> None:
        got[n] = task.score(example, f"\\boxed{{{n}/32}}").correct

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(28, 34)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {n: n == 31 for n in range(28, 34)}


def test_what_takes_too_long_is_killed_and_the_next_answer_is_judged(task, monkeypatch):
    same_answer("1", "1")  # the process is up
    monkeypatch.setattr(math_answers, "SECONDS", 0.3)  # math-verify's own limit is 2
    start = time.perf_counter()
    score = task.score(task.split("test")[0], r"\boxed{9^{9^{9^{9}}}}")
    assert time.perf_counter() - start < 2
    assert (score.failure, score.value) == ("undecided", 0.0)
    monkeypatch.undo()
    assert same_answer("1/2", "0.5")[0] == "right"


def test_boxes_with_braces_inside():
    assert last_boxed(r"\boxed{1} and \boxed{\frac{1}{\sqrt{2}}}.") == r"\frac{1}{\sqrt{2}}"
    assert last_boxed(r"\boxed{1") is None and last_boxed("1") is None
