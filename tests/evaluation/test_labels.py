"""A judge's labels, whatever it replies, and how far they agree with the rules."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from evaluation.labels import LABELS, Agreement, agreement, label_failures, read_label
from lm import Ledger
from lm.scripted import ScriptedLM

CLASSES = {
    "wrong": "Another answer.",
    "wrong_form": "Another form of the verb.",
    "empty": "No text.",
    "error": "The scorer raised.",
}


def answers(n: int = 40) -> pd.DataFrame:
    rules = ["wrong", "wrong_form", "empty", "error"]
    return pd.DataFrame(
        {
            "example_id": [f"e{i // 2}" for i in range(n)],
            "sample": [i % 2 for i in range(n)],
            "correct": [i % 8 == 7 for i in range(n)],
            "failure": [None if i % 8 == 7 else rules[i // 2 % 4] for i in range(n)],
            "answer": [f"said {i}" for i in range(n)],
            "text": [f"said {i}" for i in range(n)],
            "gold": [f"gold {i // 2}" for i in range(n)],
            "inputs": [json.dumps({"verb": f"verb {i // 2}"}) for i in range(n)],
        }
    )


def test_the_judge_sees_question_gold_answer_and_classes_but_not_the_rules_class():
    seen: list[str] = []

    def judge(chat, _):
        seen.append(chat[-1]["content"])
        return "wrong_form"

    model = ScriptedLM(judge, Ledger())
    found = label_failures(model, answers(), CLASSES, instruction="Give the past.", sample=6)
    assert tuple(found.columns) == LABELS and len(found) == 6
    assert model.ledger.usage["judge"].completions == 6
    for asked, row in zip(seen, found.to_dict("records"), strict=True):
        number = row["example_id"].removeprefix("e")
        for shown in (f"verb {number}", f"gold {number}", "Give the past.", "Another answer."):
            assert shown in asked
        assert "said " in asked and "The scorer raised" not in asked
    bodies = [asked.split("What is wrong")[0] for asked in seen]
    assert not any(name in body for body in bodies for name in CLASSES)


def test_one_answer_an_example_only_failing_ones_of_judged_classes_and_always_the_same():
    frame = answers()
    model = ScriptedLM(["wrong"])
    found = label_failures(model, frame, CLASSES, sample=100)
    assert found["example_id"].is_unique
    assert set(found["rule"]) == {"wrong", "wrong_form", "empty"}
    assert len(found) == 15
    few = label_failures(model, frame, CLASSES, sample=5, seed=3)
    mixed = frame.sample(frac=1, random_state=9)
    assert few.equals(label_failures(model, mixed, CLASSES, sample=5, seed=3))
    assert not few.equals(label_failures(model, frame, CLASSES, sample=5, seed=4))


@pytest.mark.parametrize(
    ("reply", "label"),
    [
        ("wrong_form", "wrong_form"),
        (' "Wrong Form". ', "wrong_form"),
        ("**wrong**", "wrong"),
        ("The class is wrong_form.", "wrong_form"),
        ("Class: empty, since there is no text", "empty"),
        ("wrong or empty", None),
        ("wrongly", None),
        ("I can not say", None),
        ("", None),
    ],
)
def test_a_reply_names_one_class_or_none(reply, label):
    assert read_label(reply, CLASSES) == label


def labelled(rule: list[str], label: list[str | None]) -> pd.DataFrame:
    rows = [(f"e{i}", r, x, str(x)) for i, (r, x) in enumerate(zip(rule, label, strict=True))]
    return pd.DataFrame(rows, columns=list(LABELS), dtype=object)


def test_kappa_is_scikit_learns_and_its_interval_holds_it():
    rng = np.random.default_rng(0)
    rule = rng.choice(list("abc"), size=80).tolist()
    label = [r if rng.random() < 0.6 else str(rng.choice(list("abcd"))) for r in rule]
    found = agreement(labelled([*rule, "a", "b"], [*label, None, None]))
    assert (found.asked, found.named) == (82, 80)
    assert found.same == sum(r == x for r, x in zip(rule, label, strict=True))
    assert found.kappa == pytest.approx(cohen_kappa_score(rule, label))
    assert found.low < found.kappa < found.high < 1
    assert agreement(labelled([*rule, "a", "b"], [*label, None, None])) == found


def test_the_interval_covers_the_true_kappa():
    """Rules and judge agree on 70 % of two even classes: kappa is 0.4."""
    held = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        rule = rng.integers(2, size=100)
        label = np.where(rng.random(100) < 0.7, rule, 1 - rule)
        found = agreement(labelled(list("ab"[i] for i in rule), list("ab"[i] for i in label)))
        held += found.low <= 0.4 <= found.high
    assert held >= 52


def test_extremes():
    perfect = agreement(labelled(["a", "b"] * 10, ["a", "b"] * 10))
    assert perfect.kappa == 1.0 and math.isnan(perfect.low)  # drawing again cannot doubt it
    none = agreement(labelled(["a"] * 3, [None] * 3))
    assert (none.asked, none.named, none.same) == (3, 0, 0) and math.isnan(none.kappa)
    alike = agreement(labelled(["a"] * 5, ["a"] * 5))
    assert alike.same == 5 and math.isnan(alike.kappa)
    assert isinstance(agreement(labelled(["a", "b"], ["b", "a"])), Agreement)
