"""The task of questions and kinds: sizes, strata, no near-duplicates, hard means hard."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import SPLITS
from tasks.check import check_task
from tasks.load import load_task, task_files
from tasks.questions import DATA, FAILURES, KINDS, PAIRS, Questions
from tasks.splits import check_disjoint, required_split
from tests.tasks.label_task import (
    ANY_TEXT,
    assert_mistake,
    assert_no_near_duplicates,
    assert_right_in_any_dress,
    assert_survives,
    first_of_each,
    grams,
    keyword_accuracy,
    words,
)

TASK = Questions()
EXAMPLES = {e.id: e for name in SPLITS for e in TASK.split(name)}
OF_KIND = first_of_each(TASK)
SIZES = {"train": (74, 29), "dev": (20, 8), "test": (32, 13)}  # of each kind: all, hard ones
ASKED_BY = {  # what a question has unless it is hard
    "person": r"\b(who|whose|whom)\b",
    "animal": r"\b(which|what)( \w+){0,3} (animal|bird|fish|insect)\b",
    "place": r"\bwhere\b",
    "time": r"\bwhen\b",
    "number": r"\bhow (many|much)\b",
    "reason": r"\bwhy\b",
}
PINNED = {
    "train": "How many kings of France were called Louis?",
    "dev": "Why does the printer stop after every second page?",
    "test": "Who persuaded the senate to buy Alaska?",
}


def question(example):
    return example.inputs["question"]


def test_every_split_has_as_many_questions_of_each_kind_and_as_many_hard_ones():
    for name in SPLITS:
        size, hard = SIZES[name]
        examples = required_split(TASK, name)
        assert Counter(e.answer for e in examples) == dict.fromkeys(KINDS, size)
        assert Counter(e.answer for e in examples if e.meta["hard"]) == dict.fromkeys(KINDS, hard)
    check_disjoint({name: TASK.split(name) for name in SPLITS})


def test_every_six_questions_in_a_row_are_of_six_kinds():
    for name in SPLITS:
        answers = [e.answer for e in TASK.split(name)]
        for start in range(0, len(answers), len(KINDS)):
            assert set(answers[start : start + len(KINDS)]) == set(KINDS)


def test_order_and_choice_of_questions_are_pinned():
    """Published figures hold for these questions, in these splits and in this order."""
    for name in SPLITS:
        assert question(TASK.split(name)[0]) == PINNED[name]
    assert list(EXAMPLES) == [f"q{n:03}" for n in range(1, 757)]


def test_questions_are_short_and_in_plain_characters():
    for example in EXAMPLES.values():
        assert 5 <= len(question(example).split()) <= 16
        assert question(example).isascii()
        assert question(example) == " ".join(question(example).split())


@pytest.mark.parametrize(("parts", "limit"), [(words, 0.4), (grams, 0.25)])
def test_no_two_questions_are_near_duplicates(parts, limit):
    """Jaccard overlap of any two, in one split or in two: 0.385 by words, 0.246 by characters."""
    texts = {e.id: question(e) for e in EXAMPLES.values()}
    assert_no_near_duplicates(texts, parts, limit)


def test_a_hard_question_lacks_the_words_its_kind_is_asked_by_and_the_others_have_them():
    for example in EXAMPLES.values():
        asked_by = re.search(ASKED_BY[example.answer], question(example).lower())
        assert (asked_by is None) == example.meta["hard"], question(example)


def test_no_word_gives_a_hard_question_away():
    """One word for each kind, the best by its F1 on the hard of train (31 %, chance 17 %)."""
    train = [e for e in TASK.split("train") if e.meta["hard"]]
    test = [e for e in TASK.split("test") if e.meta["hard"]]
    assert keyword_accuracy(train, test, "question") < 0.5


def test_pairs_are_of_known_kinds_and_no_name_holds_another():
    assert {kind for pair in PAIRS for kind in pair} < set(KINDS)
    assert all(re.fullmatch("[a-z]+", kind) for kind in KINDS)
    assert not any(a in b for a in KINDS for b in KINDS if a != b)


@pytest.mark.parametrize(
    ("kind", "text", "failure"),
    [
        ("person", "", "empty"),
        ("person", "... 12", "empty"),
        ("person", "Kind: person", "extra_text"),
        ("person", "It asks for a Person.", "extra_text"),
        ("person", "person or place", "several"),
        ("time", "number, reason", "several"),
        ("place", "city", "invented"),
        ("person", "Mary Shelley", "invented"),
        ("person", "persons", "invented"),
        ("place", "The Danube flows into the sea at", "no_choice"),
        ("person", "Animal.", "confused_pair"),
        ("animal", "person", "confused_pair"),
        ("number", "The answer is time", "confused_pair"),
        ("time", "number", "confused_pair"),
        ("place", "reason", "wrong_kind"),
        ("reason", "place", "wrong_kind"),
        ("person", "number", "wrong_kind"),
        ("reason", "It was the first time that", "wrong_kind"),
    ],
)
def test_a_mistake_gets_its_class_and_is_told_the_rule(kind, text, failure):
    assert_mistake(TASK, OF_KIND[kind], text, failure)


def test_every_failure_but_the_wrong_kinds_is_one_of_form():
    assert set(FAILURES) - set(TASK.format_failures) == {"confused_pair", "wrong_kind"}


def test_the_name_alone_is_right_in_any_dress():
    assert_right_in_any_dress(TASK, OF_KIND.values())


@given(text=ANY_TEXT, kind=st.sampled_from(sorted(KINDS)))
def test_no_text_breaks_the_scorer(text, kind):
    assert_survives(TASK, OF_KIND[kind], text)


@given(named=st.lists(st.sampled_from(sorted(KINDS)), min_size=2), right=st.sampled_from([*KINDS]))
def test_naming_many_kinds_never_pays(named, right):
    assert not TASK.score(OF_KIND[right], ", ".join(named)).correct


def test_features_for_slices():
    for example in EXAMPLES.values():
        assert example.meta["kind"] == example.answer
        assert example.meta["words"] == len(question(example).split())
    assert {e.meta["hard"] for e in EXAMPLES.values()} == {True, False}


def test_the_data_belongs_to_the_task_and_the_check_passes_in_a_new_process():
    assert DATA.resolve() in task_files(load_task("questions"))
    findings = check_task(load_task("questions"), "questions")
    assert all(f.ok for f in findings), findings
