"""JSON extraction: field F1, and the first thing that is wrong with an object."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tasks.known.json_extraction import read_object
from tasks.known.json_texts import FIELDS, same
from tests.tasks.known.passing import assert_checks, assert_class, assert_survives


@pytest.fixture(scope="module")
def task():
    return assert_checks("json-extraction")


@pytest.fixture(scope="module")
def order(task):
    return next(e for e in task.split("test") if e.meta["kind"] == "order")


def changed(order, **fields):
    return json.dumps({**json.loads(order.answer), **fields})


def test_kinds_are_even_and_test_has_phrasings_of_its_own(task):
    for name in ("train", "dev", "test"):
        kinds = Counter(e.meta["kind"] for e in task.split(name))
        assert len(set(kinds.values())) == 1 and set(kinds) == set(FIELDS)
    phrasing = Counter(e.meta["phrasing"] for e in task.split("test"))
    assert phrasing["new"] == pytest.approx(75, abs=3)
    assert {e.meta["phrasing"] for e in task.split("train")} == {"known"}


def test_what_is_asked_for_stands_in_the_message(task):
    for example in task.split("train"):
        for name, value in json.loads(example.answer).items():
            kind = FIELDS[example.meta["kind"]][name]
            assert kind.fits(value)
            if kind.told in ("text", "whole number", "number"):
                assert str(value) in example.inputs["message"]


def test_right_in_any_order_and_dress(task, order):
    backwards = dict(reversed(json.loads(order.answer).items()))
    for text in (
        json.dumps(backwards, indent=3),
        f"```json\n{order.answer}\n```",
        changed(order, item=json.loads(order.answer)["item"].upper()),
    ):
        assert_class(task, order, text, None)


def test_wrong_and_malformed(task, order):
    less = json.loads(order.answer)
    del less["due"]
    for text, failure, value in (
        ("", "empty", 0.0),
        ("There are no fields.", "not_json", 0.0),
        ('{"customer": "A', "not_json", 0.0),
        ('{"quantity": NaN}', "schema_violation", 0.0),
        ('{"due": ' + "[" * 60 + "]" * 60 + "}", "not_json", 0.0),
        ('{"due": ' + "[" * 900 + "]" * 900 + "}", "not_json", 0.0),
        ("[1, 2]", "not_json", 0.0),
        (f"Here you are: {order.answer}", "extra_text", 0.9),
        (json.dumps(less), "missing_field", 8 / 9),
        (changed(order, quantity=1), "wrong_value", 0.8),
        (changed(order, quantity="ten"), "schema_violation", 0.8),
        (changed(order, due="3 May 2026"), "schema_violation", 0.8),
        (changed(order, colour="red"), "extra_field", 10 / 11),
        (changed(order, quantity=True), "schema_violation", 0.8),
    ):
        assert_class(task, order, text, failure)
        assert task.score(order, text).value == pytest.approx(value), text


def test_hostile_texts(task, order):
    assert_survives(task, order)
    many = changed(order, **{f"k{n}": n for n in range(2_000)})
    assert task.score(order, many).value < 0.01


def test_values_are_compared_with_their_types():
    assert same(2, 2.0) and same("Ada  B", "ada b") and same(["a"], ["A"])
    assert not same(1, True) and not same("2", 2) and not same(["a"], "a") and not same([1], [1, 2])


def test_the_first_object_counts():
    assert read_object('{"a": 1} {"a": 2}') == ({"a": 1}, False)
    assert read_object(' {"a": 1}\n') == ({"a": 1}, True)
