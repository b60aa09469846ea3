"""Everything that costs is counted once, by purpose, and a cap stops the next expense."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from lm import BudgetExhausted, Caps, Ledger, Sampling, ScriptedLM
from lm.hf import load_model
from lm.ledger import Usage
from lm.tiny import write_tiny_model

CHATS = [[{"role": "user", "content": text}] for text in ("a", "bcd", "ef")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(params=["hf", "scripted"])
def open_model(request, folder):
    if request.param == "hf":
        return lambda caps: load_model(str(folder), ledger=Ledger(caps))
    return lambda caps: ScriptedLM(["yes", "well"], Ledger(caps))


def test_prompts_count_once_and_completions_by_row(open_model):
    model = open_model(Caps())
    rows = model.generate(CHATS, Sampling(max_tokens=6, temperature=1.0, n=3), "rollout")
    usage = model.ledger.usage["rollout"]
    assert (usage.calls, usage.completions) == (1, 9)
    assert usage.prompt_tokens == sum(row[0].prompt_tokens for row in rows)
    assert usage.completion_tokens == sum(len(c.token_ids) for row in rows for c in row)
    assert {c.prompt_tokens for c in rows[1]} == {rows[1][0].prompt_tokens}
    model.generate(CHATS[:1], Sampling(max_tokens=2), "judge")
    assert model.ledger.rollouts == 10
    assert model.ledger.usage["judge"].completions == 1
    assert usage.calls == 1


def test_a_cap_stops_before_spending(open_model):
    for caps, line in (
        (Caps(rollouts=3), "budget of 3 rollouts used up (3)"),
        (Caps(rollouts=0), "budget of 0 rollouts used up (0)"),
        (Caps(tokens=1), "budget of 1 tokens used up"),
    ):
        model = open_model(caps)
        if caps != Caps(rollouts=0):
            model.generate(CHATS, Sampling(max_tokens=2), "metric")
        before = model.ledger.to_json()
        with pytest.raises(BudgetExhausted) as caught:
            model.generate(CHATS, Sampling(max_tokens=2), "reflection")
        assert str(caught.value).startswith(line)
        assert model.ledger.to_json() == before
    assert not isinstance(caught.value, Exception)


def test_evaluation_neither_counts_nor_stops(open_model):
    model = open_model(Caps(rollouts=3))
    for _ in range(3):
        model.generate(CHATS, Sampling(max_tokens=2), "eval")
    assert (model.ledger.rollouts, model.ledger.tokens) == (0, 0)
    model.generate(CHATS, Sampling(max_tokens=2), "rollout")
    model.generate(CHATS, Sampling(max_tokens=2), "eval")  # the budget is spent; judging goes on
    assert model.ledger.usage["eval"].calls == 4


def test_seconds_count_training_too():
    ledger = Ledger(Caps(seconds=2.0))
    ledger.add("rollout", completions=1, prompt_tokens=1, completion_tokens=1, seconds=1.5)
    ledger.check()
    ledger.add_training(tokens=100, steps=2, seconds=0.75)
    assert ledger.seconds == 2.25
    with pytest.raises(BudgetExhausted, match=r"budget of 2\.0 seconds used up"):
        ledger.check()


def test_json_round_trip():
    ledger = Ledger()
    ledger.add("rollout", completions=4, prompt_tokens=10, completion_tokens=20, seconds=0.5)
    ledger.add("eval", completions=1, prompt_tokens=2, completion_tokens=3, seconds=0.25)
    ledger.add_training(tokens=7, steps=1, seconds=2.5)
    ledger.wall_seconds = 9.0
    again = Ledger.from_json(ledger.to_json(), Caps(rollouts=4))
    assert again.usage == {"rollout": Usage(1, 4, 10, 20, 0.5), "eval": Usage(1, 1, 2, 3, 0.25)}
    assert (again.train_tokens, again.optimizer_steps, again.wall_seconds) == (7, 1, 9.0)
    assert again.to_json() == ledger.to_json()
    with pytest.raises(BudgetExhausted):
        again.check()


def test_threads_lose_no_count():
    ledger = Ledger(Caps(rollouts=10**9))
    together = threading.Barrier(8)

    def work(_: int) -> None:
        together.wait()
        for purpose in ("rollout", "metric", "judge", "eval") * 200:
            ledger.add(purpose, completions=1, prompt_tokens=2, completion_tokens=3, seconds=1.0)
            ledger.add_training(tokens=1, steps=1, seconds=1.0)
            ledger.check()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert all(usage == Usage(1600, 1600, 3200, 4800, 1600.0) for usage in ledger.usage.values())
    assert (ledger.train_tokens, ledger.rollouts, ledger.tokens) == (6400, 4800, 24000)
