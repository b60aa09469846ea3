"""Every scorer: what it accepts, which class a mistake gets, and that no text breaks it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import TaskError
from tasks.check import HOSTILE
from tasks.scorers import SCORERS, build_scorer, read_number, token_f1
from tasks.text import fold, normalize, shorten

CHOICES = ("yes", "no", "not sure")
EVERY = {name: build_scorer(name, CHOICES, r"(\w+)$") for name in SCORERS}
CASES = [
    ("exact", ["Paris"], " paris. ", None),
    ("exact", ["Paris"], "**“Paris”**", None),
    ("exact", ["Kyiv", "Kiev"], "Kiev", None),
    ("exact", ["Paris"], "It is Paris.", "extra_text"),
    ("exact", ["Paris"], "Parisian", "wrong"),
    ("exact", ["-5"], "5", "wrong"),
    ("exact", ["C"], "C#", "extra_text"),
    ("exact", ["Paris"], " \n", "empty"),
    ("contains", ["Paris"], "The capital is PARIS!", None),
    ("contains", ["Paris"], "comparison", "missing"),
    ("number", ["1234.5"], "about 1,234.5.", None),
    ("number", ["-3"], "It is \u22123", None),
    ("number", ["5"], "10-5", None),
    ("number", ["7"], "7 or 8", "wrong_number"),
    ("number", ["5"], "-5", "wrong_number"),
    ("number", ["50%"], "0.5", None),
    ("number", ["0.5"], "50 %", None),
    ("number", ["50%"], "0.5%", "wrong_number"),
    ("number", ["5"], "five", "no_number"),
    ("choice", ["no"], "No.", None),
    ("choice", ["not sure"], "I am not sure", None),
    ("choice", ["no"], "I know nothing", "no_choice"),
    ("choice", ["no"], "yes", "wrong_choice"),
    ("choice", ["no"], "yes or no", "several"),
    ("regex", ["42"], "first 41 then 42", None),
    ("regex", ["42"], "42 or 41", "wrong"),
    ("regex", ["42"], "?!", "no_match"),
    ("f1", ["the red house"], "A red house", None),
    ("f1", ["the red house"], "red barn", "partial"),
    ("f1", ["the red house"], "blue", "wrong"),
    ("json", ['{"a": "X", "n": [1, 2]}'], 'Here: ```json\n{"n": [2, 1.0], "a": "x."}\n```', None),
    ("json", ['{"a": 1}'], "a is 1", "not_json"),
    ("json", ['{"a": 1}'], "[" * 100_000, "not_json"),
    ("json", ['{"a": 1}'], '{"a": NaN}', "wrong_value"),
    ("json", ['{"a": 1, "b": 2}'], '{"a": 1, "b": 3}', "wrong_value"),
    ("json", ['{"a": 1, "b": 2}'], '{"a": 1}', "missing_field"),
    ("json", ['{"a": 1}'], '{"a": 1, "b": 2}', "extra_field"),
]


@pytest.mark.parametrize(("name", "accepted", "text", "failure"), CASES)
def test_a_text_gets_its_class(name, accepted, text, failure):
    score = EVERY[name](accepted, text)
    assert (score.failure, score.correct) == (failure, failure is None)
    assert score.feedback if failure else score.value == 1.0
    assert failure is None or failure in EVERY[name].failures


def test_the_cases_cover_every_class_but_empty():
    covered = {(name, failure) for name, _, _, failure in CASES if failure}
    declared = {(n, f) for n, scorer in EVERY.items() for f in scorer.failures if f != "empty"}
    assert declared == covered - {("exact", "empty")}


def test_letters_as_choices_are_read_as_written():
    scorer = build_scorer("choice", ("A", "B"))
    assert scorer(["B"], "The answer is (B), since a cat is no dog").correct
    assert scorer(["A"], "a").correct


@pytest.mark.parametrize("name", SCORERS)
@settings(max_examples=60)
@given(
    text=st.text(st.characters(exclude_categories=())), gold=st.text(min_size=1).filter(str.strip)
)
def test_no_text_breaks_a_scorer(name, text, gold):
    accepted = [gold] if name != "choice" else ["yes"]
    score = EVERY[name](accepted, text)
    assert 0 <= score.value <= 1
    assert score.correct == (score.failure is None)
    assert score.failure is None or (score.failure in EVERY[name].failures and score.feedback)
    score.answer.encode()
    score.feedback.encode() if _is_encodable(gold) else None


def _is_encodable(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


@pytest.mark.parametrize("name", SCORERS)
@pytest.mark.parametrize("text", [*HOSTILE, "9" * 1_000_000, "1," * 500_000, "\ufdfa" * 200_000])
def test_hostile_texts_are_wrong_and_quick(name, text):
    assert not EVERY[name](["no"], text).correct


@given(st.integers(-(10**12), 10**12))
def test_numbers_are_read_with_and_without_grouping(number):
    assert read_number(f"it is {number:,}.") == (number, False)
    assert read_number(f"it is {number}.") == (number, False)


@given(st.text(), st.text())
def test_f1_is_symmetric_and_one_for_equal_texts(one, other):
    assert token_f1(one, other) == token_f1(other, one)
    assert token_f1(one, one) == 1.0


@given(st.text())
def test_normalizing_twice_changes_nothing(text):
    once = normalize(text)
    assert fold(fold(text)) == fold(text)
    assert normalize(once) == once


def test_shorten_keeps_text_encodable():
    assert shorten("a\ud800b" * 300).startswith("a?b")
    assert len(shorten("x" * 1000)) == 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("exakt",), 'unknown scorer "exakt" (did you mean "exact"?)'),
        (("choice", ("yes",)), "two or more choices"),
        (("regex",), "needs a pattern"),
        (("regex", (), "("), "is no regular expression"),
    ],
)
def test_a_bad_scorer_is_said_in_one_line(arguments, message):
    with pytest.raises(TaskError) as error:
        build_scorer(*arguments)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
