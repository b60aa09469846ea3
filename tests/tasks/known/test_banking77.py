"""Banking77: 77 intents, named with spaces or underscores."""

from __future__ import annotations

import pytest

from tasks.known.banking77 import LABELS
from tasks.load import load_task
from tasks.types import TaskError
from tests.tasks.known.passing import assert_checks, assert_class, assert_survives

MESSAGES = {
    "card_arrival": "Where has my card got to?",
    "card_linking": "How do I connect a card that I found again?",
    "exchange_rate": "What do I get for a hundred pounds in euros?",
    "Refund_not_showing_up": "The shop says it paid me back and I see nothing.",
    "reverted_card_payment?": "Why was my payment in the restaurant undone?",
    "age_limit": "How old must my daughter be?",
}


def rows(shift: str) -> list[dict[str, object]]:
    return [
        {"text": f"{shift} {text}", "label": n, "label_text": label}
        for n, (label, text) in enumerate(MESSAGES.items())
    ]


@pytest.fixture(scope="module")
def task(hub_copy):
    hub_copy("mteb/banking77", {"train": rows("Hello!"), "test": rows("Please tell me,")})
    return assert_checks("banking77")


def test_there_are_77_intents_and_all_stand_in_the_instruction(task):
    assert len(LABELS) == 77
    assert all(label in task.instruction for label in LABELS)


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("card arrival", None),
        ("card_arrival", None),
        ("Card Arrival.", None),
        ("Intent: card_arrival", "extra_text"),
        ("card linking", "same_family"),
        ("exchange_rate", "wrong_family"),
        ("card arrival or card linking", "several"),
        ("delivery", "invented"),
        ("We are sorry to hear that.", "no_choice"),
        ("", "empty"),
    ],
)
def test_right_wrong_and_malformed(task, text, failure):
    assert_class(task, task.split("test")[0], text, failure)


def test_the_longer_of_two_overlapping_intents_is_meant(task):
    text = "wrong exchange rate for cash withdrawal"
    assert_class(task, task.split("test")[2], text, "wrong_family")
    assert '"wrong exchange rate' in task.score(task.split("test")[2], text).feedback


def test_hostile_texts(task):
    assert_survives(task, task.split("test")[0])


def test_an_unknown_intent_in_the_data_is_one_line(hub_copy, task, tmp_path, monkeypatch):
    folder = tmp_path / "mteb" / "banking77"
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        (folder / f"{split}.jsonl").write_text('{"text": "x", "label_text": "new_thing"}\n')
    monkeypatch.setenv("TASKLIFT_DATA", str(tmp_path))
    with pytest.raises(TaskError, match=r'train row 0: .*"new thing" is none of the 77'):
        load_task("banking77").split("train")
