"""Judges: what they are asked, how replies are read, what fails, what it costs, what is kept."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import pytest

from lm import posting
from lm.hf import HFModel, load_model
from lm.ledger import BudgetExhausted, Caps, Ledger
from lm.scripted import ScriptedLM
from lm.tiny import write_tiny_model
from lm.types import ModelError
from reward_models.config import JudgeConfig
from reward_models.judge import Judge, better, grade, judge_with, pairs_of, won
from reward_models.load import check_reward, load_reward
from reward_models.questions import (
    PAIR,
    Reading,
    options_of,
    pointwise,
    question_text,
    read_choice,
    read_first,
    read_number,
    tell_apart,
)
from reward_models.types import RewardError, judged_apart
from tasks.types import Example, Prompt, Score
from tests.lm.endpoint_server import KEY, VARIABLE, Reply, Served, completion, failure

FIVE = options_of([1, 5])
EXAMPLES = {key: Example(key, {"q": key}, f"gold of {key}") for key in "abcdefgh"}
RUBRIC = "Shorter is better."


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TASKLIFT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def score(example: Example, text: str) -> Score:
    return Score(0.0, False)


def load(raw: Any, ledger: Ledger | None = None):
    facts = {"score": score, "prompt": Prompt("Say it.", ("q",)), "examples": EXAMPLES}
    check_reward(raw, **facts)
    return load_reward(raw, ledger=ledger, **facts)


def at(server: Served, **options: Any) -> dict[str, Any]:
    return {"judge": {"model": "big", "endpoint": server.url, "rubric": RUBRIC, **options}}


def scripted(script: Any, **options: Any) -> Judge:
    config = JudgeConfig(model="scripted", rubric=RUBRIC, **options)
    return judge_with(ScriptedLM(script), config, RUBRIC, EXAMPLES, Ledger())


def chats(*ids: str) -> list[Any]:
    return [Prompt("Say it.", ("q",)).messages(EXAMPLES[key].inputs) for key in ids]


def ask(reward: Any, *answers: str, ids: str | None = None):
    keys = list(ids or EXAMPLES)[: len(answers)]
    replies = [[{"role": "assistant", "content": text}] for text in answers]
    return judged_apart(reward, chats(*keys), replies, example_id=keys)


# reading


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("4", 0.75),
        (" 5.\n", 1.0),
        ("Score: 2", 0.25),
        ("3/5", 0.5),
        ("4 out of 5", 0.75),
        ("3.5", 0.625),
        ("<think>5 or 1?</think>1", 0.0),
        ("**4**", 0.75),
        ("6", None),
        ("0", None),
        ("4 or 5", None),
        ("1-5", None),
        ("good", None),
        ("", None),
        ("-3", None),
    ],
)
def test_a_number_is_read_where_there_is_one(reply, expected):
    reading = read_number(reply, FIVE)
    assert grade(reading) == (None if expected is None else pytest.approx(expected))
    assert reading.failure == ("malformed" if expected is None else None)


@pytest.mark.parametrize(
    ("reply", "share"),
    [
        ("A", 1.0), ("Answer B.", 0.0), ("b", 0.0), ("(A)", 1.0), ("Tie", 0.5), ("A or B", None),
        ("A tie.", 0.5), ("It is a tie", 0.5), ("No tie: A", 1.0), ("A tie? No, B.", 0.0),
        ("", None), ("Apples", None), ("<think>A</think> B", 0.0),
    ],
)  # fmt: skip
def test_a_choice_is_read_where_there_is_one(reply, share):
    found = read_choice(reply).probabilities
    assert (found and found["A"]) == share


def test_a_tie_as_first_token_goes_to_both():
    reading = read_first({"A": math.log(0.3), " tie": math.log(0.6)}, ("A", "B"))
    assert reading is not None and reading.probabilities is not None
    assert reading.probabilities["A"] == pytest.approx(0.6 / 0.9)


def test_long_texts_lose_their_middle():
    long = f"FIRST {'x' * 9000} LAST"
    asked = [{"role": "system", "content": "RULE"}, {"role": "user", "content": long}]
    for shown in (question_text(asked), question_text(long), pointwise("r", (1, 5), "q", long, None)
                  [1]["content"]):  # fmt: skip
        assert "FIRST" in shown and "LAST" in shown and "(cut)" in shown and len(shown) < 4500
    assert question_text(asked).startswith("RULE")


def test_first_tokens_count_by_what_they_say():
    first = {"4": -1.0, " 4": -2.0, "5": -1.5, "The": -1.2}
    reading = read_first(first, FIVE)
    assert reading is not None and reading.probabilities is not None
    four = 2.718281828**-1.0 + 2.718281828**-2.0
    five = 2.718281828**-1.5
    assert reading.probabilities["4"] == pytest.approx(four / (four + five))
    assert read_first({"The": -0.1, "4": -3.0}, FIVE) is None  # it is saying something else
    assert read_first(None, FIVE) is None
    assert (
        not tell_apart(options_of([1, 10])) and read_first({"1": -0.1}, options_of([1, 10])) is None
    )


# pointwise


def test_what_a_judge_is_asked(server: Served):
    server.reply = lambda body: completion("4")
    found = ask(load(at(server, probabilities="off", scale=[0, 10])), "so", ids="a")
    assert found.values == [pytest.approx(0.4)]
    [body] = server.asked
    assert body["temperature"] == 0 and "logprobs" not in body
    said = body["messages"][-1]["content"]
    for text in (RUBRIC, "Say it.\na", "so", "from 0 (worst) to 10 (best)"):
        assert text in said
    assert "gold of a" not in said


def test_a_judge_sees_gold_only_where_told_to(server: Served):
    server.reply = lambda body: completion("4")
    ask(load(at(server, gold=True)), "so", ids="a")
    assert "gold of a" in server.asked[0]["messages"][-1]["content"]


def test_probabilities_of_a_server_are_read(server: Served):
    def reply(body: dict[str, Any]) -> Reply:
        status, headers, data = completion("4")
        told = json.loads(data)
        likely = [{"token": "4", "logprob": -0.5}, {"token": "2", "logprob": -1.5}]
        told["choices"][0]["logprobs"] = {"content": [{"token": "4", "top_logprobs": likely}]}
        return status, headers, json.dumps(told).encode()

    server.reply = reply
    [value] = ask(load(at(server)), "so").values
    share = 1 / (1 + 2.718281828**-1.0)
    assert value == pytest.approx(share * 0.75 + (1 - share) * 0.25, abs=1e-4)
    assert server.asked[0]["logprobs"] is True and server.asked[0]["top_logprobs"] == 20


def test_a_server_that_refuses_probabilities_is_asked_without(server: Served):
    def reply(body: dict[str, Any]) -> Reply:
        return failure(400, "unknown field: logprobs") if "logprobs" in body else completion("5")

    server.reply = reply
    assert ask(load(at(server, concurrency=1)), "so", "no").values == [1.0, 1.0]
    assert ["logprobs" in body for body in server.asked] == [True, False, False]


def test_a_malformed_reply_is_none_and_counted(server: Served):
    server.reply = lambda body: completion("no idea" if "bad" in json.dumps(body) else "5")
    found = ask(load(at(server)), "fine", "bad", "fine")
    assert found.values == [1.0, None, 1.0]
    assert found.parts == {"malformed": [0.0, 1.0, 0.0], "unanswered": [0.0, 0.0, 0.0]}


@pytest.mark.parametrize(
    "broken",
    [failure(500), (200, {}, b"<html>"), (200, {}, b'{"choices": []}'), (0, {}, b"")],
    ids=["500", "no JSON", "no choices", "hangs up"],
)
def test_a_server_that_fails_one_question_ends_no_other(server: Served, broken: Reply):
    server.reply = lambda body: broken if "bad" in json.dumps(body) else completion("5")
    found = ask(load(at(server)), "fine", "bad", "fine")
    assert found.values == [1.0, None, 1.0]
    assert found.parts["unanswered"] == [0.0, 1.0, 0.0]
    asked = sum("bad" in json.dumps(body) for body in server.asked)
    assert asked == (1 if broken[0] == 200 else posting.ATTEMPTS)  # asked again where it may help


def test_a_server_that_is_slow_is_given_up_on(server: Served, monkeypatch):
    monkeypatch.setattr(posting, "ATTEMPTS", 2)

    def reply(body: dict[str, Any]) -> Reply:
        if "bad" in json.dumps(body):
            time.sleep(1.0)
        return completion("5")

    server.reply = reply
    found = ask(load(at(server, timeout=0.2)), "fine", "bad")
    assert found.values == [1.0, None] and found.parts["unanswered"] == [0.0, 1.0]


def test_a_busy_server_is_asked_again(server: Served):
    server.in_turn(failure(429, retry_after="0"), failure(503), completion("5"))
    assert ask(load(at(server)), "so").values == [1.0]


def test_a_judge_out_of_reach_ends_the_run_with_one_line(server: Served):
    server.reply = lambda body: failure(500, "down")
    with pytest.raises(ModelError, match=r"judge: .*500") as caught:
        ask(load(at(server)), *"12345678")
    assert "\n" not in str(caught.value)


def test_a_refusal_ends_the_run_at_once_and_shows_no_key(server: Served, capsys, own_cache):
    server.reply = lambda body: failure(401, f"bad key {KEY}")
    reward = load(at(server, key_env=VARIABLE))
    with pytest.raises(ModelError, match=f"check the key in environment variable {VARIABLE}") as e:
        ask(reward, "a", "b")
    assert KEY not in str(e.value) and server.headers[0]["Authorization"] == f"Bearer {KEY}"
    server.reply = lambda body: completion("5")
    ask(reward, "a", "b")
    told = capsys.readouterr()
    kept = b"".join(path.read_bytes() for path in own_cache.rglob("*") if path.is_file())
    assert KEY not in told.out + told.err and KEY.encode() not in kept and kept
    assert KEY not in repr(reward)


def test_a_missing_key_is_found_before_anything_is_asked(server: Served):
    with pytest.raises(ModelError, match="environment variable NO_SUCH_KEY is not set"):
        load(at(server, key_env="NO_SUCH_KEY"))
    assert not server.asked


# what it costs, and what is kept


def test_the_same_question_is_asked_once_and_costs_the_same_again(server: Served):
    usage = {"prompt_tokens": 100, "completion_tokens": 2}
    server.reply = lambda body: completion("5", usage=usage)
    first, second = Ledger(), Ledger()
    ask(load(at(server), first), "x", "x", "y", ids="aab")
    assert len(server.asked) == 2
    found = ask(load(at(server), second), "x", "x", "y", "z", ids="aabb")
    assert found.values == [1.0] * 4 and len(server.asked) == 3
    assert first.usage["judge"].prompt_tokens == 200 and first.usage["judge"].completions == 2
    assert second.usage["judge"].prompt_tokens == 300 and second.usage["judge"].completions == 3
    assert second.drawn == 1


def test_a_question_without_an_answer_is_asked_again_next_time(server: Served):
    reward = load(at(server))
    server.reply = lambda body: failure(500)
    assert ask(reward, "x").values == [None]
    server.reply = lambda body: completion("5")
    assert ask(reward, "x").values == [1.0]


def test_a_damaged_file_of_replies_is_one_line(server: Served, own_cache):
    reward = load(at(server))
    ask(reward, "x")
    [file] = own_cache.rglob("*.sqlite")
    file.write_bytes(b"no database, but long enough to be looked at " * 40)
    with pytest.raises(RewardError, match="delete that file"):
        ask(reward, "x")


def test_a_spent_budget_does_not_leave_answers_unjudged(server: Served):
    """They are paid for; whoever draws more is stopped."""
    ledger = Ledger(Caps(rollouts=1))
    reward = load(at(server), ledger)
    ask(reward, "x")
    ask(reward, "y")
    with pytest.raises(BudgetExhausted):
        ledger.check("rollout")
    assert len(server.asked) == 2


# pairwise


def longer_loses(chat: Any, _: int) -> str:
    """A judge with a rule and no favourite place."""
    first, second = chat[-1]["content"].split("Answer A:\n")[1].split("\n\nAnswer B:\n")
    second = second.split("\n\nWhich")[0]
    return "A" if len(first) < len(second) else "B" if len(first) > len(second) else "tie"


def test_answers_are_held_against_their_group():
    judge = scripted(longer_loses, mode="pairwise")
    found = ask(judge, "1", "22", "333", "4444", "55555", ids="aaabb")
    assert found.values == [1.0, 0.5, 0.0, 1.0, 0.0]
    assert judge.asking.ledger.usage["judge"].completions == 2 * (3 + 1)  # both orders


def test_a_judge_that_favours_a_place_says_nothing():
    found = ask(scripted(lambda chat, i: "A", mode="pairwise"), "1", "22", "333", ids="aaa")
    assert found.values == [0.5, 0.5, 0.5]


def test_the_same_text_twice_is_a_tie_nobody_is_asked_about():
    judge = scripted(longer_loses, mode="pairwise")
    assert ask(judge, "x", " x", ids="aa").values == [0.5, 0.5]
    assert "judge" not in judge.asking.ledger.usage


def test_an_answer_alone_cannot_be_compared():
    found = ask(scripted(longer_loses, mode="pairwise"), "x", "y", ids="ab")
    assert found.values == [None, None]


def test_a_malformed_verdict_leaves_the_other_opponents():
    def script(chat: Any, index: int) -> str:
        return "hm" if "333" in chat[-1]["content"] else longer_loses(chat, index)

    found = ask(scripted(script, mode="pairwise"), "1", "22", "333", ids="aaa")
    assert found.values == [1.0, 0.0, None]
    assert found.parts["malformed"] == [0.5, 0.5, 1.0]


def test_two_orders_by_hand():
    def said(a: float) -> Reading:
        return Reading({"A": a, "B": 1 - a})

    assert better(said(1.0), said(0.0)) == 1.0
    assert better(said(1.0), said(1.0)) == 0.5  # the place, not the answer
    assert better(said(1.0), said(0.5)) == 0.75
    assert better(said(0.9), said(0.7)) == pytest.approx(0.6)
    assert better(said(1.0), Reading(None, "malformed")) is None


def test_a_circle_of_opponents():
    assert pairs_of([4, 5, 6, 7], "all") == [(4, 5), (4, 6), (4, 7), (5, 6), (5, 7), (6, 7)]
    assert pairs_of([4, 5, 6, 7], 1) == [(4, 5), (4, 7), (5, 6), (6, 7)]
    assert pairs_of([4], 3) == [] and pairs_of([1, 2], 9) == [(1, 2)]
    assert won(3, {(0, 1): 1.0, (0, 2): 0.5, (1, 2): None}) == [0.75, 0.0, 0.5]


# local judges


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


def test_a_local_judge_reads_its_own_probabilities(folder: Path, own_cache: Path):
    ledger = Ledger()
    reward = load({"judge": {"model": str(folder), "rubric": RUBRIC}}, ledger)
    values = ask(reward, "so", "and so on", "no").values
    model = load_model(str(folder))
    judge: Judge = reward.reward  # type: ignore[attr-defined]
    chat = [*chats("a")]
    by_hand = _expectation(model, judge, chat[0], "so")
    assert values[0] == pytest.approx(by_hand, abs=2e-4) and len(set(values)) == 3
    used = ledger.usage["judge"]
    assert used.completions == 3 and used.prompt_tokens > 300 and used.seconds > 0
    assert ask(reward, "so", "and so on", "no").values == values
    assert list(own_cache.rglob("*.sqlite"))


def _expectation(model: HFModel, judge: Judge, prompt: Any, answer: str) -> float:
    """Greedy arithmetic with plain torch on the very chat."""
    import torch

    from reward_models.questions import pointwise, question_text

    chat = pointwise(judge.rubric, [1, 5], question_text(prompt), answer, None)
    ids = torch.tensor([model.encode(chat)])
    with torch.no_grad():
        logits = model.model(ids).logits[0, -1]
    digits = [model.encode_reply(str(k))[0] for k in range(1, 6)]
    shares = logits[digits].softmax(0)
    return float((shares * torch.arange(5)).sum() / 4)


def test_a_local_judge_compares_by_its_probabilities(folder: Path):
    raw = {"judge": {"model": str(folder), "rubric": RUBRIC, "mode": "pairwise"}}
    values = ask(load(raw), "so", "and so on", ids="aa").values
    assert values[0] is not None and values[1] is not None
    assert values[0] + values[1] == pytest.approx(1.0) and values[0] != 0.5


def test_values_do_not_depend_on_who_else_is_asked(folder: Path):
    raw = {"judge": {"model": str(folder), "rubric": RUBRIC}}
    config = JudgeConfig(**raw["judge"])  # type: ignore[arg-type]
    model = load_model(str(folder))
    judge = judge_with(model, config, RUBRIC, EXAMPLES, Ledger())
    object.__setattr__(judge.asking, "kept", None)
    together = ask(judge, *(f"answer {i}" * i for i in range(8))).values
    alone = [ask(judge, f"answer {i}" * i, ids="abcdefgh"[i]).values[0] for i in range(8)]
    assert together == pytest.approx(alone, abs=2e-4)


def test_replies_are_kept_apart_by_the_type_of_numbers(folder: Path):
    config = JudgeConfig(model=str(folder), rubric=RUBRIC)
    kept = {
        judge_with(load_model(str(folder), dtype=kind), config, RUBRIC, {}, Ledger()).asking.kept
        for kind in ("float32", "bfloat16", "float32")
    }
    assert len(kept) == 2


def test_an_answer_too_long_for_the_judge_is_none(folder: Path):
    found = ask(load({"judge": {"model": str(folder), "rubric": RUBRIC}}), "so", "word " * 700)
    assert found.values[0] is not None and found.values[1] is None
    assert found.parts["unanswered"] == [0.0, 1.0]


def test_a_scale_of_two_digits_is_written_by_a_local_judge():
    judge = scripted(["7", "10"], scale=[1, 10])
    assert ask(judge, "x", "y").values == [pytest.approx(6 / 9), 1.0]


# bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "no/such-folder"}, "no/such-folder"),
        ({"model": "m", "endpoint": "localhost"}, "is no address"),
        ({"model": "m", "rubric": "none.md", "endpoint": "http://localhost"}, "rubric 'none.md'"),
        ({"model": "m", "key_env": "K"}, "a local model needs no key"),
        ({"model": "m", "scale": [5, 1]}, "does not rise"),
        ({"model": "m", "rubrik": "x"}, "rubrik"),
    ],
)
def test_a_judge_that_cannot_be_is_one_line(options, message, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises((RewardError, ModelError), match=message) as caught:
        load({"judge": {"rubric": RUBRIC, **options}})
    assert "\n" not in str(caught.value)


def test_a_rubric_from_a_file(tmp_path, server: Served):
    (tmp_path / "polite.md").write_text("Politer is better.\n")
    server.reply = lambda body: completion("5")
    ask(load(at(server, rubric=str(tmp_path / "polite.md"))), "so")
    assert "Politer is better." in server.asked[0]["messages"][-1]["content"]
    assert PAIR == ("A", "B")
