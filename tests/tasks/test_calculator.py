"""The calculator and its task: what is right, what is wrong and how, and what cannot hurt."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.calculator import Calculator, calculator, spelled
from tasks.check import check_task
from tasks.tools import Toolbox, calling

TASK = Calculator()
BOX = Toolbox.of(TASK.tools, TASK.max_turns)
EXAMPLE = TASK.split("test")[0]
RIGHT, EXPRESSION = EXAMPLE.answer, EXAMPLE.meta["expression"]


def answer(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def told(turn: dict[str, Any]) -> list[dict[str, Any]]:
    """A turn with its results."""
    calls = turn.get("tool_calls", ())
    return [turn, *(BOX.call(call["name"], call["arguments"]) for call in calls)]


ASKED = told(calling("calculator", expression=EXPRESSION))
MALFORMED = [
    {**answer("<tool_call>{"), "malformed": "no JSON"},
    {"role": "tool", "name": "", "content": "error", "error": "malformed_call"},
]


def test_it_passes_its_own_check() -> None:
    failed = [f for f in check_task(TASK, "calculator") if not f.ok]
    assert not failed, failed


def test_no_number_of_test_stands_in_train_or_dev() -> None:
    numbers = {
        split: {n for e in TASK.split(split) for n in e.meta["expression"].split()[::2]}
        for split in ("train", "dev", "test")
    }
    assert not numbers["test"] & (numbers["train"] | numbers["dev"])
    assert not numbers["train"] & numbers["dev"]
    assert [e.meta["digits"] for e in TASK.split("test")].count(3) == 200


@pytest.mark.parametrize(
    ("transcript", "failure"),
    [
        ([*ASKED, answer(RIGHT)], None),
        ([*ASKED, answer(f"It is {int(RIGHT):,}.")], None),
        ([answer(RIGHT)], None),  # who can, may do without
        ([*MALFORMED, *ASKED, answer(RIGHT)], None),
        ([*ASKED, answer(RIGHT + "1")], "ignored_result"),
        ([*ASKED, answer("")], "ignored_result"),
        ([answer("77")], "no_call"),
        ([answer("")], "no_call"),
        ([*MALFORMED, answer("77")], "malformed_call"),
        ([*told(calling("calculator", expression="1 + 1")), answer("2")], "wrong_expression"),
        ([*told(calling("calculator", expression="one + 1")), answer("2")], "tool_error"),
        ([*told(calling("calculator", sum="1 + 1")), answer("2")], "bad_call"),
        ([*told(calling("abacus", expression="1 + 1")), answer("2")], "bad_call"),
        ([*ASKED, calling("calculator", expression=RIGHT)], "too_many_calls"),
        ([*ASKED, {**answer(RIGHT), "malformed": "no end"}], "malformed_call"),
    ],
)
def test_what_happened_has_a_class(transcript: list[dict[str, Any]], failure: str | None) -> None:
    score = TASK.score_transcript(EXAMPLE, transcript)
    assert score.failure == failure and score.correct == (failure is None)
    assert score.value == float(score.correct)
    assert score.correct or f"{EXPRESSION} is {RIGHT}." in score.feedback


@pytest.mark.parametrize(
    ("text", "failure"), [(RIGHT, None), ("77", "wrong_number"), ("many", "no_number")]
)
def test_without_tools_the_number_counts(text: str, failure: str | None) -> None:
    assert TASK.score(EXAMPLE, text).failure == failure


@pytest.mark.parametrize(
    "text", ["\ud800", "9" * 100_000, "1e999", "nan", "-" * 100_000, "\0", "1," * 50_000, "٣"]
)
def test_hostile_answers_are_wrong_answers(text: str) -> None:
    assert not TASK.score(EXAMPLE, text).correct
    score = TASK.score_transcript(EXAMPLE, [*ASKED, answer(text)])
    assert score.failure == "ignored_result"
    score.answer.encode()


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("347 * 582", "201954"),
        ("12 * (3 + 4)", "84"),
        ("7 / 2", "3.5"),
        ("8 / 2", "4"),
        ("-3 - -5", "2"),
        ("2 ** 10", "1024"),
        ("6 × 7", "42"),  # noqa: RUF001
    ],
)
def test_the_calculator_calculates(expression: str, value: str) -> None:
    assert calculator(expression) == value


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "9 ** 9 ** 9",
        "1 / 0",
        "10 ** 60",
        "__import__('os').system('true')",
        "(" * 190,
        "-" * 199,
        "[1] * 10",
        "'a' * 3",
        "1j",
        "True + 1",
        "x",
        "1 if 1 else 2",
        "1e400",
        "(-8) ** 0.5",
        "1 + 1 " * 100,
        "\ud800",
        "\0",
    ],
)
def test_what_is_no_arithmetic_is_refused(expression: str) -> None:
    with pytest.raises(ValueError):
        calculator(expression)
    assert BOX.call("calculator", {"expression": expression})["error"] in (
        "tool_error",
        "bad_arguments",
    )


@given(st.text(alphabet="0123456789+-*/%(). e_", max_size=60))
def test_whatever_is_asked_ends(expression: str) -> None:
    try:
        assert len(calculator(expression)) < 60
    except ValueError as error:
        assert "\n" not in str(error)


def test_numbers_in_words() -> None:
    assert [spelled(n) for n in (7, 40, 85, 300, 342, 9_014)] == [
        "seven",
        "forty",
        "eighty-five",
        "three hundred",
        "three hundred forty-two",
        "nine thousand fourteen",
    ]


def test_a_demonstration_is_right() -> None:
    for example in TASK.split("dev"):
        call, last = TASK.demonstration(example)
        assert TASK.score_transcript(example, [*told(dict(call)), last]).correct


def test_no_digit_is_lost_without_a_word() -> None:
    assert calculator("12345678901.5 * 1") == "12345678901.5"
    assert calculator("1234567.891 * 1") == "1234567.891"
    assert calculator("0.1 + 0.2") == "0.3"


@pytest.mark.parametrize("expression", ["1if 1else 2", "1()", "0x1for x in 1"])
def test_what_a_model_writes_warns_nobody(expression: str) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with pytest.raises(ValueError):
            calculator(expression)
    assert not told
