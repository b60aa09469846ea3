"""Conditions on questions: what they are called, of which examples they hold, what is left out."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from evaluation.features import _digest, conditions


def frame(inputs, metas, golds=None) -> pd.DataFrame:
    golds = golds or [f"g{i}" for i in range(len(inputs))]
    texts = {"inputs": list(map(json.dumps, inputs)), "meta": list(map(json.dumps, metas))}
    return pd.DataFrame({**texts, "gold": golds})


def holding(found, name: str) -> list[int]:
    return np.flatnonzero(found.holds_EC[:, found.names.index(name)]).tolist()


def test_meta_of_every_kind_becomes_conditions():
    metas = [
        {"hard": i < 4, "level": i, "team": "ab"[i % 2], "in": {"a": i > 5}}
        | {"tags": ["x"] * (i % 3)}
        for i in range(10)
    ]
    found = conditions(frame([{"q": f"{i:02}"} for i in range(10)], metas), 2)
    assert holding(found, "hard = True") == [0, 1, 2, 3]
    assert holding(found, "level over 6") == [7, 8, 9]
    assert holding(found, "level at most 2") == [0, 1, 2]
    assert holding(found, "team = a") == [0, 2, 4, 6, 8]
    assert holding(found, "in.a = True") == [6, 7, 8, 9]
    assert holding(found, "number of tags over 0") == [1, 2, 4, 5, 7, 8]


def test_short_inputs_have_ends_and_long_ones_words():
    verbs = ["keep", "sleep", "weep", "walk", "talk", "go"]
    found = conditions(frame([{"verb": v} for v in verbs], [{}] * 6), 2)
    assert holding(found, 'verb ends in "eep"') == [0, 1, 2]
    assert holding(found, 'verb ends in "alk"') == [3, 4]
    assert not any('has "keep"' in name for name in found.names)
    texts = ["is the red one here", "is a blue bike here", "where is my red bike?", "no way at all"]
    found = conditions(frame([{"text": t} for t in texts], [{}] * 4), 1)
    assert holding(found, 'text has "red"') == [0, 2]
    assert holding(found, 'text has "bike"') == [1, 2]
    assert not any("ends in" in name for name in found.names)


def test_rare_universal_and_equal_conditions_are_left_out():
    metas = [{"a": i < 5, "copy": i < 5, "all": 1, "one": i == 0, "id": f"e{i}"} for i in range(10)]
    found = conditions(frame([{"q": "x"}] * 10, metas, ["y"] * 10), 2)
    assert found.names == ["a = False", "a = True"] or found.names == ["a = True", "a = False"]


def test_missing_values_are_a_condition_of_their_own():
    metas = [{"level": i} if i < 6 else {} for i in range(10)]
    found = conditions(frame([{"q": "x"}] * 10, metas, ["y"] * 10), 2)
    assert holding(found, "level = missing") == [6, 7, 8, 9]
    assert holding(found, "level at most 1") == [0, 1]


def test_an_answer_plays_no_part():
    """No column but the question's is read: what an answer is like is what failing looks like."""
    examples = frame([{"q": f"what is {i}"} for i in range(10)], [{"a": i < 5} for i in range(10)])
    assert conditions(examples[["inputs", "meta", "gold"]], 2).names


def test_the_same_examples_are_worked_out_once_and_others_are_not_taken_for_them():
    asked = frame(
        [{"q": "ab"}, {"q": "cb"}, {"q": "ad"}, {"q": "ad"}], [{"hard": 1}] * 2 + [{}] * 2
    )
    found = conditions(asked, 1)
    assert conditions(asked.copy(), 1) is found
    assert not found.holds_EC.flags.writeable
    assert len(conditions(asked, 2).names) < len(found.names)
    for column in asked:
        turned = asked.assign(**{column: asked[column].tolist()[::-1]})
        assert conditions(turned, 1) is not found
    shifted = asked.assign(inputs=['{"q": 1', "23}", '{"q": 4}', '{"q": 5}'])
    joined = shifted.assign(inputs=['{"q": 12', "3}", '{"q": 4}', '{"q": 5}'])
    assert _digest(shifted, 1) != _digest(joined, 1)
