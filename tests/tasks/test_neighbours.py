"""Demos picked by the question: likeness, order, and that no question sees its own answer."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.neighbours import most_alike, vector
from tasks.types import Demo, Prompt

VERBS = ("walk", "talk", "sing", "ring", "walk off", "Singe")
PROMPT = Prompt("Do.", ("verb",), "past", tuple(Demo({"verb": v}, v.upper()) for v in VERBS))


@given(st.lists(st.text(), min_size=1), st.text())
def test_likeness_is_a_cosine(texts: list[str], question: str) -> None:
    def cosine(text: str) -> float:
        one, other = vector(text), vector(question)
        return sum(weight * other.get(gram, 0.0) for gram, weight in one.items())

    assert all(cosine(text) <= 1 + 1e-9 for text in texts)
    chosen = most_alike(tuple(texts), question, len(texts))
    likeness = [cosine(texts[i]) for i in chosen]
    assert all(b - a > -1e-9 for a, b in pairwise(likeness))
    assert all(texts[i] != question for i in chosen)


def test_the_most_alike_come_last_and_the_question_itself_never() -> None:
    assert [VERBS[i] for i in most_alike(VERBS, "walks", 2)] == ["walk off", "walk"]
    assert "sing" not in [VERBS[i] for i in most_alike(VERBS, "sing", 6)]
    assert most_alike(VERBS, "zzz", 2) == [1, 0]  # none is: the earlier ones
    assert most_alike((), "a", 3) == []


def test_it_picks_what_dspys_knn_picks_with_these_vectors() -> None:
    dspy = pytest.importorskip("dspy")
    grams = sorted({g for v in VERBS for g in vector(f"verb: {v}")})
    cases = [dspy.Example(verb=v, past=v.upper()).with_inputs("verb") for v in VERBS]

    def embed(texts: list[str]) -> np.ndarray:
        return np.array([[vector(t).get(g, 0.0) for g in grams] for t in texts])

    knn = dspy.predict.KNN(3, cases, vectorizer=embed)
    for question in ("walking", "bring", "singing"):
        texts = tuple(f"verb: {v}" for v in VERBS)
        ours = [VERBS[i] for i in most_alike(texts, f"verb: {question}", 3)]
        theirs = [case["verb"] for case in knn(verb=question)]
        assert sorted(ours) == sorted(theirs) and ours[-1] == theirs[0]


def test_a_prompt_shows_the_nearest_and_survives_json() -> None:
    prompt = Prompt("Do.", ("verb",), "past", PROMPT.demos, nearest=2)
    said = [m["content"] for m in prompt.messages({"verb": "walks"})]
    assert said == ["Do.", "walk off", "WALK OFF", "walk", "WALK", "walks"]
    assert Prompt.from_json(prompt.to_json()) == prompt
    assert "nearest" not in PROMPT.to_json()  # fingerprints of other prompts stay as they were
    assert len(PROMPT.messages({"verb": "walks"})) == 2 + 2 * len(VERBS)
