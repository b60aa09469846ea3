"""Ticket routing: no request in two splits, no word that gives a queue away."""

from __future__ import annotations

from collections import Counter

import pytest

from tasks import SPLITS
from tasks.known.ticket_phrases import PRODUCTS, REQUESTS
from tasks.known.ticket_routing import PAIRS, QUEUES, SIZES
from tests.tasks.known.passing import assert_checks, assert_survives
from tests.tasks.label_task import (
    assert_mistake,
    assert_no_near_duplicates,
    assert_right_in_any_dress,
    first_of_each,
    grams,
    keyword_accuracy,
    words,
)


@pytest.fixture(scope="module")
def task():
    return assert_checks("ticket-routing")


def requests(task, split):
    """The requests that stand in the tickets of a split, with the product left open."""
    tickets = [e.inputs["ticket"].lower() for e in task.split(split)]
    found = set()
    for queue, phrases in REQUESTS.items():
        for phrase in phrases:
            said = {phrase.format(product=product).lower() for product in PRODUCTS}
            if any(text in ticket for text in said for ticket in tickets):
                found.add((queue, phrase))
    return found


def test_sizes_are_even_and_a_third_is_hard(task):
    for name in SPLITS:
        examples = task.split(name)
        assert Counter(e.answer for e in examples) == dict.fromkeys(QUEUES, SIZES[name] // 6)
        share = sum(e.meta["hard"] for e in examples) / len(examples)
        assert share == pytest.approx(1 / 3, abs=0.05)


def test_no_request_is_in_two_splits(task):
    train, dev, test = (requests(task, name) for name in SPLITS)
    assert not train & dev and not train & test and not dev & test
    assert len(test) == 5 * len(QUEUES)


def test_requests_are_no_near_duplicates_and_do_not_name_their_queue():
    texts = {p: p for phrases in REQUESTS.values() for p in phrases}
    assert len(texts) == 15 * len(QUEUES)
    assert_no_near_duplicates(texts, words, 0.5)
    assert_no_near_duplicates(texts, grams, 0.4)
    for queue, phrases in REQUESTS.items():
        assert not any(queue in words(phrase) for phrase in phrases)


def test_no_word_gives_a_queue_away(task):
    assert keyword_accuracy(task.split("train"), task.split("test"), "ticket") < 0.4


def test_right_wrong_and_malformed(task):
    billing = first_of_each(task)["billing"]
    assert_right_in_any_dress(task, first_of_each(task).values())
    for text, failure in (
        ("", "empty"),
        ("Queue: billing", "extra_text"),
        ("billing or sales", "several"),
        ("refund", "invented"),
        ("We are sorry to hear that.", "no_choice"),
        ("sales", "confused_pair"),
        ("security", "wrong_queue"),
    ):
        assert_mistake(task, billing, text, failure)


def test_hostile_texts(task):
    assert_survives(task, first_of_each(task)["bug"])


def test_each_queue_is_in_one_pair():
    assert sorted(queue for pair in PAIRS for queue in pair) == sorted(QUEUES)
