"""What may be an instruction, and the changes that can be made to one without a model."""

from __future__ import annotations

import random

import pytest

from prompt_opt.edits import Menu, cleaned, fault
from tasks.types import Example, Prompt

TASK = Prompt("Give the past tense of the verb.", ("verb",), "past")
VERBS = [Example(f"e{i}", {"verb": f"verb{i}"}, f"past{i}") for i in range(40)]


@pytest.mark.parametrize(
    ("text", "cut", "found"),
    [
        ('New task description: "Write the past tense."', False, "Write the past tense."),
        ("**Instruction:** Say it.\n\nI hope this helps!", False, "Say it."),
        ("Say it\nin one word.", False, "Say it in one word."),
        ("Say it. And then go o", True, "Say it."),
        ("Say it and then go o", True, ""),
        ("", False, ""),
        ("  \n\n ", False, ""),
        ("Improved rule: be brief. Use the past.", False, "be brief. Use the past."),
    ],
)
def test_the_first_paragraph_without_label_is_taken(text: str, cut: bool, found: str) -> None:
    assert cleaned(text, cut) == found


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Write it.", "too short"),
        ("", "too short"),
        ("word " * 121, "too long"),
        ("give the PAST tense of the verb", "no change"),
        ("Sure, here is a better one for you.", "chatter"),
        ("I am a helpful assistant named SmolLM.", "chatter"),
        ("Use this: <|im_start|> and then go on.", "markup"),
        ("123 456 789 0 1 2 3 4", "no prose"),
        ("go to the shop and " * 4, "repetition"),
        ("Write the past tense of the verb, one word.", None),
        ("Schreibe die Vergangenheit des Wortes.", None),
    ],
)
def test_what_is_no_instruction_is_told(text: str, why: str | None) -> None:
    assert fault(text, TASK.instruction) == why


def test_a_long_instruction_may_stay_long() -> None:
    current = " ".join(f"word{i}" for i in range(150))
    assert fault(" ".join(f"new{i}x" for i in range(200)), current) is None


def test_every_edit_makes_a_new_instruction_that_is_one() -> None:
    menu = Menu(TASK, VERBS)
    texts = [
        e.apply("Give the past tense of the verb. Answer with one word.", random.Random(0))
        for e in menu.edits
    ]
    assert len(set(texts)) == len(texts)
    assert [fault(text, TASK.instruction) for text in texts[1:]] == [None] * (len(texts) - 1)
    assert not any("Choose from" in text for text in texts)  # 40 different answers


def test_answers_are_listed_where_they_are_few() -> None:
    rows = [Example(f"e{i}", {"text": f"text {i}"}, ("no", "yes")[i % 2]) for i in range(20)]
    menu = Menu(Prompt("Decide.", ("text",), "answer"), rows)
    assert "Decide. Choose from: no, yes." in [
        e.apply("Decide.", random.Random(0)) for e in menu.edits
    ]


def test_examples_are_shown_in_a_line_each() -> None:
    two = Menu(Prompt("Do.", ("a", "b"), "c"), [Example("e", {"a": "x\ny", "b": "z"}, "w")])
    assert two.lines(random.Random(0), 5) == "x y / z → w"
    assert two.shown(random.Random(0), 1) == "For example: x y / z → w."
