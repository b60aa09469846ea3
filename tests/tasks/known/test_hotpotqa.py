"""HotpotQA, closed book: exact match and F1 as in the official script."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest

from tasks.known.hotpotqa import hotpot_f1, squad_normal
from tests.tasks.known.passing import assert_checks, assert_class, assert_survives

ASKED = {
    "Which river runs through the town where the painter of the blue door was born?": "The Meuse",
    "Were the two founders of the observatory born in one country?": "yes",
    "Who led the band that recorded the song named after a lighthouse?": "Anna-Maria O'Neill",
    "In what year did the museum that owns the old locomotive open?": "1964",
    "Is the second tallest bridge of that valley older than its station?": "no",
    "What instrument did the brother of the film's composer play?": "viola da gamba",
}


OTHERS = [f"Who {what}?" for what in str.split("swam won sang led fell rowed wrote drew")]


def rows(prefix: str, asked: dict[str, str]) -> list[dict[str, object]]:
    return [
        {
            "id": f"{prefix}{n}",
            "question": question,
            "answer": answer,
            "type": "bridge" if n % 2 else "comparison",
            "level": "hard",
            "supporting_facts": {"title": ["A"], "sent_id": [0]},
            "context": {"title": ["A"], "sentences": [["B."]]},
        }
        for n, (question, answer) in enumerate(asked.items())
    ]


@pytest.fixture(scope="module")
def task(hub_copy):
    splits = {"train": rows("t", dict.fromkeys(OTHERS, "Ann")), "validation": rows("v", ASKED)}
    hub_copy("hotpotqa/hotpot_qa", splits, "distractor")
    return assert_checks("hotpotqa")


def test_test_is_the_validation_split(task):
    assert [e.id for e in task.split("test")] == [f"v{n}" for n in range(6)]
    assert task.split("test")[1].meta["kind"] == "yes/no"


@pytest.mark.parametrize(
    ("number", "text", "failure", "value"),
    [
        (0, "meuse.", None, 1.0),
        (0, "It is the Meuse", "extra_text", 0.5),
        (0, "Rhine", "wrong", 0.0),
        (0, "I don\u2019t know.", "refused", 0.0),
        (0, "", "empty", 0.0),
        (0, "...", "empty", 0.0),
        (1, "Yes", None, 1.0),
        (1, "yes, both in Norway", "extra_text", 0.0),
        (1, "no", "opposite", 0.0),
        (1, "Norway", "no_decision", 0.0),
        (2, "anna-maria o'neill", None, 1.0),
        (2, "O'Neill", "partial", 2 / 3),
        (2, "no", "wrong", 0.0),
    ],
)
def test_right_wrong_and_malformed(task, number, text, failure, value):
    example = task.split("test")[number]
    assert_class(task, example, text, failure)
    assert task.score(example, text).value == pytest.approx(value)


def test_hostile_texts(task):
    for example in task.split("test")[:2]:
        assert_survives(task, example)


def official_f1(gold: str, prediction: str) -> float:
    """`f1_score` of hotpot_evaluate_v1.py, with the `normalize_answer` of SQuAD v1.1."""
    import re
    import string

    def normal(text: str) -> str:
        text = "".join(letter for letter in text.lower() if letter not in set(string.punctuation))
        return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())

    one, other = normal(prediction), normal(gold)
    for word in ("yes", "no", "noanswer"):
        if word in (one, other) and one != other:
            return 0.0
    common = Counter(one.split()) & Counter(other.split())
    same = sum(common.values())
    if same == 0:
        return 0.0
    precision, recall = same / len(one.split()), same / len(other.split())
    return 2 * precision * recall / (precision + recall)


def test_f1_is_that_of_the_official_script():
    texts = [
        *ASKED.values(),
        "the a an",
        "U.S.",
        "us",
        "A river, the Meuse!",
        "no",
        "yes no",
        "x x",
    ]
    for gold, text in product(texts, texts):
        ours = hotpot_f1(squad_normal(gold), squad_normal(text))
        assert ours == pytest.approx(official_f1(gold, text)), (gold, text)
