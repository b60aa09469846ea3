"""Ending an evaluation early: rarely wrong over a whole run, never on what nobody asked."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from evaluation.evaluate import evaluate
from evaluation.stopping import BATCH, Stopping, share, shuffled
from evaluation.types import EvalRecord
from lm.scripted import ScriptedLM
from lm.types import Sampling
from tasks.types import Example, Prompt, Score

EXAMPLES = [Example(f"e{i}", {"word": f"w{i}"}, f"W{i}") for i in range(200)]
PROMPT = Prompt("Shout.", inputs=("word",), output="loud")


def score(example: Example, text: str) -> Score:
    right = text == example.answer
    return Score(float(right), right, None if right else "quiet")


def records(scores: np.ndarray) -> list[EvalRecord]:
    blank = dict.fromkeys(EvalRecord.__annotations__, "")
    fields: dict[str, Any] = {**blank, "sample": 0, "correct": True}
    return [
        EvalRecord(**{**fields, "example_id": f"e{i}", "score": float(s)})
        for i, s in enumerate(scores)
    ]


def looked(stopping: Stopping, own: np.ndarray) -> bool:
    """As the evaluator asks: after each batch."""
    rows = records(own)
    ends = range(BATCH, len(own) + BATCH, BATCH)
    return any(stopping(rows[:end], len(own)) for end in ends)


def test_of_arms_that_are_all_as_good_one_is_stopped_in_one_run_of_twenty_at_most() -> None:
    rng = np.random.default_rng(0)
    runs, arms, wrong = 300, 4, 0
    for _ in range(runs):
        score_AE = (rng.random((arms, 200)) < 0.5).astype(float)
        named = [{f"e{i}": s for i, s in enumerate(own)} for own in score_AE]
        wrong += any(
            looked(Stopping({str(b): named[b] for b in range(a)}, share(arms)), score_AE[a])
            for a in range(1, arms)
        )
    assert wrong / runs <= 0.05


def test_who_is_clearly_worse_is_stopped_and_the_reason_can_be_checked() -> None:
    rng = np.random.default_rng(1)
    good, bad = (rng.random(200) < 0.8).astype(float), (rng.random(200) < 0.3).astype(float)
    watch = Stopping({"good": {f"e{i}": s for i, s in enumerate(good)}}, share(2))
    assert looked(watch, bad) and watch.found is not None
    found = watch.found
    assert found.n < found.of == 200 and found.n % BATCH == 0 and found.against == "good"
    assert found.delta == pytest.approx(float((bad - good)[: found.n].mean()))
    assert found.delta < found.high <= 0
    better = Stopping({"bad": {f"e{i}": s for i, s in enumerate(bad)}}, share(2))
    assert not looked(better, good) and better.found is None


def test_a_margin_takes_more() -> None:
    own, other = np.zeros(200), (np.arange(200) % 5 == 0).astype(float)  # 20 points
    rival = {"other": {f"e{i}": s for i, s in enumerate(other)}}
    assert looked(Stopping(rival, 0.05), own)
    assert not looked(Stopping(rival, 0.05, margin=0.25), own)


def test_the_level_is_shared_among_pairs() -> None:
    assert share(2) == 0.05 and share(4, 0.06) == pytest.approx(0.01) and share(1) == 0.05


def test_the_order_does_not_hang_on_the_stored_one() -> None:
    order = shuffled(EXAMPLES)
    assert order == shuffled(EXAMPLES[::-1]) and sorted(e.id for e in order) != [
        e.id for e in order
    ]
    halves = [int(e.id[1:]) < 100 for e in order[:100]]
    assert 30 < sum(halves) < 70


def test_the_evaluator_asks_no_further() -> None:
    quiet = ScriptedLM(lambda chat, draw: "what?")
    watch = Stopping({"loud": {e.id: 1.0 for e in EXAMPLES}}, 0.05)
    found = evaluate(
        quiet, PROMPT, EXAMPLES, score, Sampling(max_tokens=8), split="test", batch=16, enough=watch
    )
    assert watch.found is not None and len(found) == watch.found.n < 100
    assert quiet.ledger.usage["eval"].completions == len(found)
    whole = evaluate(
        ScriptedLM(lambda chat, draw: "what?"),
        PROMPT, EXAMPLES, score, Sampling(max_tokens=8), split="test", batch=16,
    )  # fmt: skip
    same = [json.dumps(vars(replace(r, seconds=0.0))) for r in whole[: len(found)]]
    assert same == [json.dumps(vars(replace(r, seconds=0.0))) for r in found]
