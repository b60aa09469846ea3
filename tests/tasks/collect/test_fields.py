"""Which columns are taken: by name, by content, or nobody knows and one line lists them."""

from __future__ import annotations

from typing import Any

import pytest

from tasks import TaskError
from tasks.collect.fields import choose_fields
from tasks.collect.names import safe_names, task_name
from tasks.collect.sources import Record

COUNT = 40
TEXT = [f"a message with several words, number {n}" for n in range(COUNT)]
LABEL = [["late", "refund", "lost", "broken"][n % 4] for n in range(COUNT)]
OTHER = ["low", "high"] * (COUNT // 2)
KEY = [f"T-{n}" for n in range(COUNT)]
DATE = [f"2026-03-{1 + n % 28:02} 10:00:00" for n in range(COUNT)]


def records(**columns: list[Any]) -> list[Record]:
    rows = zip(*columns.values(), strict=True)
    return [Record(f"a:{n}", dict(zip(columns, row, strict=True))) for n, row in enumerate(rows)]


GUESSES: dict[str, tuple[dict[str, list[Any]], tuple[str, ...], str]] = {
    "by name": ({"text": TEXT, "label": LABEL}, ("text",), "label"),
    "whatever the case": ({"Text": TEXT, "LABEL": LABEL}, ("Text",), "LABEL"),
    "with a key and a date": (
        {"id": KEY, "message": TEXT, "when": DATE, "category": LABEL},
        ("message",),
        "category",
    ),
    "a number of the ticket, and the message": (
        {"ticket": KEY, "message": TEXT, "queue": LABEL},
        ("message",),
        "queue",
    ),
    "by content": ({"foo": TEXT, "bar": LABEL, "when": DATE}, ("foo",), "bar"),
    "the last of two": ({"en": TEXT, "fr": TEXT[::-1]}, ("en",), "fr"),
    "two columns that are one question": (
        {"context": TEXT, "question": TEXT[::-1], "answer": KEY},
        ("context", "question"),
        "answer",
    ),
    "a label and its number": (
        {"text": TEXT, "label": [LABEL.index(v) for v in LABEL], "label_text": LABEL},
        ("text",),
        "label_text",
    ),
    "parts of a mapping": (
        {"question": TEXT, "answers": [{"text": [v], "answer_start": [3]} for v in LABEL]},
        ("question",),
        "answers.text",
    ),
}


@pytest.mark.parametrize("case", GUESSES)
def test_fields_are_guessed_and_told(case: str) -> None:
    columns, inputs, answer = GUESSES[case]
    found = choose_fields(records(**columns), (), "")
    assert (found.inputs, found.answer) == (inputs, answer)
    assert len(found.said) == 2 and all("guessed" in line for line in found.said)


UNCLEAR: dict[str, tuple[dict[str, list[Any]], str]] = {
    "two labels": ({"text": TEXT, "label": LABEL, "topic": OTHER}, 'the answer: "label", "topic"'),
    "two texts": ({"a": TEXT, "b": TEXT[::-1], "label": LABEL}, 'the input: "a", "b"'),
    "nothing by name": ({"a": TEXT, "b": LABEL, "c": OTHER}, 'the answer: "b", "c"'),
    "only an answer": ({"id": KEY, "label": LABEL}, "no field is left for the input"),
}


@pytest.mark.parametrize("case", UNCLEAR)
def test_where_several_would_do_they_are_listed(case: str) -> None:
    columns, told = UNCLEAR[case]
    with pytest.raises(TaskError, match=told):
        choose_fields(records(**columns), (), "")


def test_what_is_given_is_taken() -> None:
    rows = records(a=TEXT, b=LABEL, c=OTHER)
    found = choose_fields(rows, ("a",), "c")
    assert (found.inputs, found.answer, found.others, found.said) == (("a",), "c", ("b",), ())
    with pytest.raises(TaskError, match=r'no field "d"; the fields are a, b, c'):
        choose_fields(rows, ("d",), "c")
    with pytest.raises(TaskError, match="cannot be both"):
        choose_fields(rows, ("a",), "a")


def test_names_are_such_that_dspy_takes_them() -> None:
    from prompt_opt.adapter import signature_of
    from tasks.types import Prompt

    odd = [
        "Ticket Text",
        "1st",
        "class",
        "copy",
        "self",
        "id",
        "answers.text",
        "model_x",
        "",
        "日本",
    ]
    taken = [
        "json",
        "fields",
        "demos",
        "_private",
        "Ticket  text",
        "labels",
        "keys",
        "instructions",
    ]
    names = safe_names([*odd, *taken])
    assert len(set(names.values())) == len(odd) + len(taken)
    assert names["Ticket Text"] == "ticket_text" and names["answers.text"] == "answers"
    *inputs, output = names.values()
    signature_of(Prompt("Do.", tuple(inputs), output))  # raises for a name it cannot take


def test_a_name_for_the_task(tmp_path) -> None:
    assert task_name(tmp_path / "My task (2)") == "My-task-2"
    assert task_name(tmp_path / "日本") == "my-task"
