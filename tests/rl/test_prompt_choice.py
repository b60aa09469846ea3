"""Which prompts are asked: by pass rate, and again where a group teaches nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pyarrow.parquet as pq
import pytest

from evaluation.types import PassRate
from rl.prompt_choice import PassRates, PromptChoice
from rl.rollouts import Rollouts
from tasks.types import Example, Prompt, Score
from tests.rl.test_grpo import (  # the same stage, with other settings
    Killed,
    Stage,
    config,
    folder,
    kill_at,
    letters,
    one_thread,
    outcome,
)

__all__ = ["folder", "one_thread"]
TRAIN = [Example(f"e{i}", {"input": "w" * i}, "m") for i in range(8)]


def choice(rates: PassRates, weighted: bool = True) -> PromptChoice:
    return PromptChoice(TRAIN, Prompt("Answer."), 0, rates, weighted)


def test_what_is_solved_half_the_time_weighs_most():
    rates = PassRates()
    rates.add({"never": PassRate(8, 0), "half": PassRate(8, 4), "always": PassRate(8, 8)})
    weights = [rates.weight(key) for key in ("half", "unknown", "always", "never")]
    assert all(a >= b for a, b in pairwise(weights)) and weights[0] > 2 * weights[2]
    assert rates.weight("always") == rates.weight("never") < rates.weight("unknown")


def test_newer_answers_count_more():
    rates = PassRates()
    for total in (8, 8, 0, 0, 0):
        rates.add({"a": PassRate(8, total)})
    rate = rates.seen["a"]
    assert rate.total / rate.answers < 0.2
    rates.add_rows([("b", 1.0), ("b", 0.0), ("b", None)])
    assert rates.seen["b"] == PassRate(2, 1.0)


def test_choices_follow_the_weights_and_depend_on_seed_and_step_alone():
    rates = PassRates()
    rates.add({f"e{i}": PassRate(100, 50.0 if i < 2 else 100.0) for i in range(8)})
    drawn = Counter(
        row["example_id"] for step in range(400) for row in choice(rates).rows(step, 0, 2)
    )
    assert min(drawn["e0"], drawn["e1"]) > 3 * max(drawn[f"e{i}"] for i in range(2, 8))
    assert min(drawn.values()) > 0  # nothing is given up for good
    assert choice(rates).rows(5, 1, 3) == choice(rates).rows(5, 1, 3)
    rows = choice(rates, weighted=False).rows(1, 1, 4, without={"e0", "e1", "e2"})
    ids = [row["example_id"] for row in rows]
    assert len(set(ids)) == 4 and not {"e0", "e1", "e2"} & set(ids)
    assert len(choice(rates).rows(1, 1, 8, without={"e0"})) == 7  # no more are left


def half_dead(example: Example, text: str) -> Score:
    """Every other example is worth the same whatever is answered."""
    return Score(0.5, False) if int(example.id[1:]) % 2 else letters(example, text)


def test_groups_without_a_signal_are_replaced(folder, tmp_path):
    plain = Stage(folder, tmp_path / "plain", config(steps=4), score=half_dead)
    plain.run()
    stage = Stage(folder, tmp_path / "resampled", config(steps=4, resample=3), score=half_dead)
    stage.run()
    assert sum(row["dead_groups"] for row in plain.rows("train")) > 1
    assert sum(row["dead_groups"] for row in stage.rows("train")) < 0.5
    replaced = sum(row["replaced"] for row in stage.rows("train"))
    assert stage.ledger.usage["rollout"].completions == 4 * (8 + replaced)
    rows = pq.read_table(stage.path / "rollouts.parquet").to_pylist()
    trained = [row for row in rows if row["advantage"] is not None]
    assert len(rows) == 4 * (8 + replaced) and len(trained) == 32
    per_step = Counter((row["step"], row["example_id"]) for row in rows)
    assert set(per_step.values()) == {4}  # no prompt twice in a step


def test_replacing_is_bounded(folder, tmp_path):
    stage = Stage(
        folder, tmp_path, config(steps=1, resample=2), score=lambda e, t: Score(0.5, False)
    )
    stage.run()
    assert stage.ledger.usage["rollout"].completions == 8 * 3
    assert stage.rows("train")[0]["dead_groups"] == 1.0


@pytest.mark.parametrize("kill", [3, 5])
def test_a_curriculum_resumes_as_if_undisturbed(folder, tmp_path, monkeypatch, kill):
    settings = config(steps=5, resample=1, curriculum="pass_rate")
    whole = Stage(folder, tmp_path / "whole", settings, score=half_dead)
    expected = outcome(whole, whole.run())
    killed = Stage(folder, tmp_path / "killed", settings, score=half_dead)
    with monkeypatch.context() as patch:
        kill_at(patch, Rollouts, "collect", kill)
        with pytest.raises(Killed):
            killed.run()
    assert outcome(killed, killed.run()) == expected


def test_what_earlier_methods_drew_steers_the_steps(folder, tmp_path):
    stage = Stage(folder, tmp_path, config(steps=6, curriculum="pass_rate", eval_every=9))
    plain = stage.context
    done = {f"e{i}": PassRate(1000, 0.0) for i in range(8)}
    known = {**done, "e2": PassRate(1000, 500.0), "e5": PassRate(1000, 500.0)}
    stage.context = lambda: replace(plain(), pass_rates=known)  # type: ignore[method-assign]
    stage.run()
    asked = Counter(pq.read_table(tmp_path / "rollouts.parquet").column("example_id").to_pylist())
    assert asked["e2"] + asked["e5"] > 0.7 * sum(asked.values())
