"""Three planted kinds of wrong answers are told apart; where there are none, none is reported."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from evaluation.answer_features import (
    Asked,
    alone,
    asked_and_said,
    having,
    plainness,
    related,
    terms,
)
from evaluation.clusters import clusters, rule_holds
from evaluation.discovery import in_discovery_half

LETTERS = list("abcdefghijklmnopqrstuvwxyz")


def word(rng: np.random.Generator, low: int = 4, high: int = 9) -> str:
    return "".join(rng.choice(LETTERS, size=rng.integers(low, high)))


def frame(rows: list[tuple[str, str, str]]) -> pd.DataFrame:
    """Wrong answers from (verb, gold, answer), each to an example of its own."""
    return pd.DataFrame(
        {
            "example_id": [f"e{i}" for i in range(len(rows))],
            "sample": 0,
            "correct": False,
            "failure": "other",
            "answer": [answer for _, _, answer in rows],
            "text": "",
            "gold": [gold for _, gold, _ in rows],
            "inputs": [json.dumps({"verb": verb}) for verb, _, _ in rows],
            "meta": "{}",
        }
    )


def planted(seed: int, n: int = 300) -> tuple[pd.DataFrame, np.ndarray]:
    """25 % copies, 20 % with a wrong ending, 15 % apologies, the rest wrong each in its own way."""
    rng = np.random.default_rng(seed)
    kind_A = rng.choice(4, size=n, p=[0.25, 0.2, 0.15, 0.4])
    rows = []
    for kind in kind_A:
        verb = word(rng)
        said = (verb, f"{verb}ed", f"I am sorry, I can not {word(rng)}.", word(rng))[kind]
        rows.append((verb, verb[:-1] + rng.choice(LETTERS) + rng.choice(LETTERS), said))
    return frame(rows), kind_A


@pytest.mark.parametrize("seed", range(5))
def test_three_planted_clusters_are_recovered(seed):
    answers, kind_A = planted(seed)
    found = clusters(answers)
    assert len(found) == 3
    for kind in range(3):
        members = set(np.flatnonzero(kind_A == kind))
        assert any(set(cluster.members) == members for cluster in found), kind
    names = {cluster.name for cluster in found}
    assert {"the verb, unchanged", 'verb + "ed"'} < names
    assert any("sorry" in name or "am" in name for name in names)


def test_the_figures_are_those_of_the_records():
    answers, kind_A = planted(7)
    answers.loc[kind_A == 0, "failure"] = "unchanged"
    [copies] = [c for c in clusters(answers) if c.name == "the verb, unchanged"]
    said_again = [
        json.loads(i)["verb"] == a for i, a in zip(answers.inputs, answers.answer, strict=False)
    ]
    assert copies.count == sum(said_again) == rule_holds(copies.rule, answers).sum()
    assert copies.failing == len(answers) and copies.share == copies.count / len(answers)
    half = np.array([in_discovery_half(i) for i in answers["example_id"]])
    assert (copies.found.n, copies.held.n) == (half.sum(), (~half).sum())
    assert copies.held.failures == (np.array(said_again) & ~half).sum()
    assert (copies.failure, copies.of_class) == ("unchanged", copies.count)
    assert set(copies.typical) <= set(copies.members) and len(copies.typical) == 3


def test_right_answers_and_the_order_of_rows_play_no_part():
    answers, _ = planted(1)
    right = answers.assign(correct=True, example_id="r" + answers["example_id"])
    both = pd.concat([answers, right]).sample(frac=1, random_state=0).reset_index(drop=True)
    told = [(c.name, c.count, c.held, c.p_adjusted, c.others) for c in clusters(answers)]
    assert [(c.name, c.count, c.held, c.p_adjusted, c.others) for c in clusters(both)] == told
    for cluster in clusters(both):
        assert rule_holds(cluster.rule, both.iloc[cluster.members]).all()


def test_a_label_said_too_often_is_a_cluster_and_guessing_is_not():
    rng = np.random.default_rng(0)
    golds = rng.choice(["red", "green", "blue", "black", "white"], size=400)
    guesses = rng.choice(["red", "green", "blue", "black", "white"], size=400)
    rows = [
        (f"what is {word(rng)} like", gold, guess)
        for gold, guess in zip(golds, guesses, strict=False)
    ]
    guessing = frame([row for row in rows if row[1] != row[2]])
    assert clusters(guessing) == []
    stuck = guessing.assign(answer=guessing["answer"].where(guessing.index % 2 == 0, "blue"))
    stuck = stuck[stuck["answer"] != stuck["gold"]].reset_index(drop=True)
    assert [cluster.name for cluster in clusters(stuck)] == ['says "blue"']


def test_guessing_anew_at_every_seed_is_no_cluster():
    labels = ["red", "green", "blue", "black", "white"]
    found = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        asked = [(f"what is {word(rng)} like", rng.choice(labels)) for _ in range(200)]
        seeds = [frame([(q, gold, rng.choice(labels)) for q, gold in asked]) for _ in range(3)]
        guesses = pd.concat([one.assign(sample=i) for i, one in enumerate(seeds)])
        found += bool(clusters(guesses[guesses["answer"] != guesses["gold"]]))
    assert found <= 1


def noise(seed: int, n: int = 120) -> pd.DataFrame:
    """Of five kinds: unrelated words, other examples' gold answers, slips of one letter; sentences
    and single words of the few words that the golds are made of, too."""
    rng = np.random.default_rng(seed)
    few = [word(rng) for _ in range(12)]
    if seed % 5 > 2:
        most = 5 if seed % 5 == 3 else 2
        texts = [" ".join(rng.choice(few, size=rng.integers(1, most))) for _ in range(2 * n)]
        pairs = zip(texts[:n], texts[n:], strict=True)
        return frame([(word(rng), gold, said) for gold, said in pairs if gold != said])
    golds = [word(rng) for _ in range(n)]

    def slip(gold: str) -> str:
        place = rng.integers(len(gold))
        return gold[:place] + rng.choice(LETTERS) + gold[place + 1 :]

    said = ([word(rng) for _ in golds], list(rng.permutation(golds)), [slip(g) for g in golds])
    rows = zip((word(rng) for _ in golds), golds, said[seed % 5], strict=True)
    return frame([row for row in rows if row[1] != row[2]])


def test_noise_has_no_clusters():
    assert sum(bool(clusters(noise(seed))) for seed in range(42)) <= 2


@pytest.mark.slow
def test_noise_has_no_clusters_in_95_of_100_draws():
    assert sum(bool(clusters(noise(seed))) for seed in range(200)) <= 10


def test_many_samples_of_one_answer_are_one_case():
    """Ten examples that are answered alike, fifty times each, among seventy of their own."""
    rng = np.random.default_rng(0)
    rows = [(word(rng), word(rng), "hum" if i < 3 else word(rng)) for i in range(80)]
    once = frame(rows)
    often = pd.concat([once.assign(sample=i) for i in range(50)], ignore_index=True)
    assert clusters(often) == []


def test_two_few_failures_have_no_clusters():
    assert clusters(planted(0)[0].head(12)) == []
    assert clusters(planted(0)[0].assign(correct=True)) == []


@pytest.mark.parametrize(
    ("verb", "gold", "answer", "term"),
    [
        ("keep", "kept", "keep", "the verb, unchanged"),
        ("keep", "kept", "keeped", 'verb + "ed"'),
        ("stop", "stopped", "stoped", 'verb with the ending "ed"'),
        ("make", "made", "making", 'verb - "e" + "ing"'),
        ("go", "went", "to go", '"to " + verb'),
        ("go", "went", "he went home", "the gold with words around it"),
        ("go", "went there", "went", "part of the gold"),
        ("x", "stolen", "lost", '"lost" for gold "stolen"'),
        ("x", "gathered", "gatherd", 'gold without "e"'),
        ("x", "18", "180", "10 times the gold"),
        ("x", "18", "17", "the gold - 1"),
        ("x", "18", "-18", "minus the gold"),
    ],
)
def test_relations_have_names(verb, gold, answer, term):
    assert term in related(Asked.of({"verb": verb}, gold), answer)


def test_what_an_answer_is_alone():
    assert alone("") == ["no text"]
    assert {'says "yes"', "yes or no"} <= set(alone("yes"))
    assert {'starts with "the past"', 'has "past tense"'} <= set(alone("the past tense of go is"))
    ranks = [plainness(t) for t in ("the verb, unchanged", 'says "a"', 'has "x"', "a number")]
    assert ranks == sorted(ranks)


def test_having_a_rule_is_having_its_terms():
    inputs = [json.dumps({"verb": verb}) for verb in ("walk", "go", "sing", "keep", "try")]
    wrong = ["walkd", "goed", "no idea at all", "keep", ""]
    gold = ["walked", "went", "sang", "kept", "tried"]
    frame = pd.DataFrame({"inputs": inputs * 2, "gold": gold * 2, "answer": [*wrong, *gold]})
    each = terms(asked_and_said(frame))
    every = sorted(frozenset().union(*each))
    rules = [(term,) for term in every] + [(a, b) for found in each for a, b in pairwise(found)]
    assert len(rules) > 60
    for rule in rules:
        assert having(rule, frame) == [set(rule) <= found for found in each]
