"""The built-in classification task: sizes, strata, no near-duplicates, no word that gives it away.

The figures that the bounds stand beside were measured when the messages were written.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import SPLITS
from tasks.bikeshare import DATA, PAIRS, TEAMS, BikeShare
from tasks.check import check_task
from tasks.load import load_task, task_files
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

TASK = BikeShare()
EXAMPLES = {e.id: e for name in SPLITS for e in TASK.split(name)}
OF_TEAM = first_of_each(TASK)
SIZES = {"train": 53, "dev": 14, "test": 23}  # messages of each team
PINNED = {
    "train": "The corporate plan covers our trips",
    "dev": "The bike hit a pothole and threw me",
    "test": "If you wonder why nobody takes bikes",
}


def message(example):
    return example.inputs["message"]


def test_every_split_has_as_many_messages_of_each_team():
    for name in SPLITS:
        counts = Counter(e.answer for e in required_split(TASK, name))
        assert counts == dict.fromkeys(TEAMS, SIZES[name])
    check_disjoint({name: TASK.split(name) for name in SPLITS})


def test_every_split_has_its_share_of_hard_messages():
    for name in SPLITS:
        examples = TASK.split(name)
        share = sum(e.meta["hard"] for e in examples) / len(examples)
        assert share == pytest.approx(0.42, abs=0.02)
        assert {e.answer for e in examples if e.meta["hard"]} == set(TEAMS)


def test_every_eight_messages_in_a_row_are_for_eight_teams():
    for name in SPLITS:
        answers = [e.answer for e in TASK.split(name)]
        for start in range(0, len(answers), len(TEAMS)):
            assert set(answers[start : start + len(TEAMS)]) == set(TEAMS)


def test_order_and_choice_of_messages_are_pinned():
    """Published figures hold for these messages, in these splits and in this order."""
    for name in SPLITS:
        assert message(TASK.split(name)[0]).startswith(PINNED[name])
    assert list(EXAMPLES) == [f"m{n:03}" for n in range(1, 721)]


def test_messages_are_short_and_in_plain_characters():
    for example in EXAMPLES.values():
        assert 6 <= len(message(example).split()) <= 30
        assert message(example).isascii()
        assert message(example) == " ".join(message(example).split())


@pytest.mark.parametrize(("parts", "limit"), [(words, 0.4), (grams, 0.25)])
def test_no_two_messages_are_near_duplicates(parts, limit):
    """Jaccard overlap of any two, in one split or in two: 0.381 by words, 0.235 by characters."""
    texts = {e.id: message(e) for e in EXAMPLES.values()}
    assert_no_near_duplicates(texts, parts, limit)


def test_no_word_gives_a_team_away():
    """The best word for each team, by its F1 on train, is right on 24 % of test (chance 12.5 %).

    Naive Bayes over all words is right on 47 %.
    """
    assert keyword_accuracy(TASK.split("train"), TASK.split("test"), "message") < 0.4


def test_no_single_word_is_both_frequent_and_certain():
    seen = defaultdict(Counter)
    for example in EXAMPLES.values():
        for word in words(message(example)):
            seen[word][example.answer] += 1
    for word, teams in seen.items():
        (team, hits), total = teams.most_common(1)[0], sum(teams.values())
        assert hits < 20 or hits / total < 0.6, (word, team, hits, total)


def test_each_team_has_one_sibling_and_no_name_holds_another():
    assert sorted(team for pair in PAIRS for team in pair) == sorted(TEAMS)
    assert all(re.fullmatch("[a-z]+", team) for team in TEAMS)


@pytest.mark.parametrize(
    ("team", "text", "failure"),
    [
        ("billing", "", "empty"),
        ("billing", "... 12", "empty"),
        ("billing", "Team: billing", "extra_text"),
        ("billing", "This goes to the Billing team.", "extra_text"),
        ("billing", "billing or plans", "several"),
        ("billing", "repair, station", "several"),
        ("billing", "refund", "invented"),
        ("billing", "Customer service!", "invented"),
        ("billing", "I am sorry to hear about your trip.", "no_choice"),
        ("billing", "billings", "invented"),
        ("billing", "Plans.", "confused_pair"),
        ("billing", "The answer is plans", "confused_pair"),
        ("stolen", "lost", "confused_pair"),
        ("lost", "stolen", "confused_pair"),
        ("repair", "accident", "confused_pair"),
        ("supply", "station", "confused_pair"),
        ("stolen", "billing", "wrong_pair"),
        ("station", "I am sorry that you lost it.", "wrong_pair"),
    ],
)
def test_a_mistake_gets_its_class_and_is_told_the_rule(team, text, failure):
    assert_mistake(TASK, OF_TEAM[team], text, failure)


def test_the_name_alone_is_right_in_any_dress():
    assert_right_in_any_dress(TASK, OF_TEAM.values())


@given(text=ANY_TEXT, team=st.sampled_from(sorted(TEAMS)))
def test_no_text_breaks_the_scorer(text, team):
    assert_survives(TASK, OF_TEAM[team], text)


@given(named=st.lists(st.sampled_from(sorted(TEAMS)), min_size=2), right=st.sampled_from([*TEAMS]))
def test_naming_many_teams_never_pays(named, right):
    assert not TASK.score(OF_TEAM[right], ", ".join(named)).correct


def test_features_for_slices():
    meta = OF_TEAM["stolen"].meta
    assert (meta["team"], meta["pair"]) == ("stolen", "lost/stolen")
    assert {e.meta["hard"] for e in EXAMPLES.values()} == {True, False}


def test_the_data_belongs_to_the_task_and_the_check_passes_in_a_new_process():
    assert DATA.resolve() in task_files(load_task("bikeshare"))
    findings = check_task(load_task("bikeshare"), "bikeshare")
    assert all(f.ok for f in findings), findings
