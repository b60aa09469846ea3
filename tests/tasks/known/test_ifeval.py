"""IFEval: the share of instructions followed, strictly and loosely; families of what was not."""

from __future__ import annotations

from collections import Counter
from time import process_time

import pytest

from tasks.known import ifeval_rules
from tasks.known.ifeval_rules import FAMILIES, RULES, follows_loosely
from tasks.load import load_task
from tests.tasks.known.passing import assert_checks, assert_class, assert_survives

pytestmark = pytest.mark.skipif(bool(ifeval_rules.missing()), reason="extra tasks")

NOTHING = {
    "num_highlights": None,
    "relation": None,
    "num_words": None,
    "keywords": None,
    "prompt_to_repeat": None,
}
ROWS = [
    {
        "key": 1000,
        "prompt": "Tell me about tea in 5 or more words. Use no commas. Highlight one word.",
        "instruction_id_list": [
            "punctuation:no_comma",
            "length_constraints:number_words",
            "detectable_format:number_highlighted_sections",
        ],
        "kwargs": [
            NOTHING,
            {**NOTHING, "relation": "at least", "num_words": 5},
            {**NOTHING, "num_highlights": 1},
        ],
    },
    {
        "key": 1001,
        "prompt": "Name a drink and a town. Use the words oolong and Leeds.",
        "instruction_id_list": ["keywords:existence"],
        "kwargs": [{**NOTHING, "keywords": ["oolong", "Leeds"]}],
    },
]


@pytest.fixture(scope="module")
def task(hub_copy):
    hub_copy("google/IFEval", {"train": ROWS})
    return assert_checks("ifeval")


@pytest.fixture(scope="module")
def tea(task):
    return task.split("test")[0]


def test_the_paper_is_test_alone(task):
    assert [e.id for e in task.split("test")] == ["ifeval-1000", "ifeval-1001"]
    assert [len(task.split(name)) for name in ("train", "dev")] == [400, 100]
    assert task.split("test")[0].answer == ""


def test_made_prompts_come_with_replies_that_follow_them_and_cover_the_rules(task):
    rules = Counter(rule for e in task.split("train") for rule in e.meta["rules"])
    not_made = {"language:response_language", "combination:repeat_prompt"}
    assert set(RULES) - set(rules) == {*not_made, "detectable_format:json_format"}
    assert min(rules.values()) >= 10
    for example in task.split("dev"):
        assert task.score(example, example.answer).correct, example


@pytest.mark.parametrize(
    ("text", "failure", "value"),
    [
        ("Tea is a *fine* drink for all.", None, 1.0),
        ("", "empty", 0.0),
        ("Tea, a *fine* drink for all.", "punctuation", 2 / 3),
        ("*Tea*", "length_constraints", 2 / 3),
        ("Tea is a fine drink.", "detectable_format", 2 / 3),
        ("Tea, fine", "several", 0.0),
        ("Sure, here you are:\nTea is a *fine* drink for all.", "loose_only", 2 / 3),
    ],
)
def test_right_wrong_and_malformed(task, tea, text, failure, value):
    assert_class(task, tea, text, failure)
    assert task.score(tea, text).value == pytest.approx(value)


def test_loosely(task, tea):
    loose = load_task("ifeval-loose")
    assert loose.score(tea, "Sure, here you are:\nTea is a *fine* drink for all.").correct
    assert loose.score(tea, "Tea, a fine drink for all").failure == "several"
    assert loose.judge(tea, "Tea is a fine drink.") == [True, True, False]


def test_feedback_names_the_instructions(task, tea):
    told = task.score(tea, "Tea, fine").feedback
    assert all(rule in told for rule in tea.meta["rules"])


def test_features(task, tea):
    assert tea.meta["instructions"] == 3
    assert [family for family in FAMILIES if tea.meta[family]] == [
        "length_constraints",
        "detectable_format",
        "punctuation",
    ]


def test_hostile_texts(task, tea):
    assert_survives(task, tea, examples=10)


@pytest.mark.parametrize("text", ["*" * 20_000, "*.\n" * 6_600, "*Ab.\n" * 4_000, "*AB.\n" * 4_000])
@pytest.mark.parametrize("relation", ["at least", "less than"])
def test_thousands_of_sentences_take_no_time(text, relation):
    given = {"num_sentences": 30, "capital_frequency": 30}
    given |= {"relation": relation, "capital_relation": relation}
    rules = ("length_constraints:number_sentences", "change_case:capital_word_frequency")
    for rule in rules:
        follows_loosely(rule, given, "Once, for the imports.")
    started = process_time()
    for rule in rules:
        follows_loosely(rule, given, text)
    assert process_time() - started < 1.5


def test_capitals_are_counted_where_words_are_cut():
    rule, given = "change_case:capital_word_frequency", {"capital_relation": "at least"}
    for text, count in {"'Tis so": 0, "In't it": 1, "CANnot": 1, "A B cD": 2, "Ab Cd": 0}.items():
        assert ifeval_rules.follows(rule, given | {"capital_frequency": count}, text)
        assert not ifeval_rules.follows(rule, given | {"capital_frequency": count + 1}, text)
