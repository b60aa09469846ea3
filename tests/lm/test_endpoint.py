"""The endpoint model asks, counts and keeps the order, against a real server on this machine."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from lm.endpoint import EndpointModel
from lm.ledger import Ledger
from lm.types import LanguageModel, ModelError, Sampling
from tests.lm.endpoint_server import (
    DRAWN,
    KEY,
    VARIABLE,
    Reply,
    Served,
    chat,
    completion,
    echo,
)


def test_it_is_a_language_model(server: Served) -> None:
    server.reply = echo
    model: LanguageModel = EndpointModel(server.url, "big", ledger=Ledger())
    rows = model.generate([chat("a"), chat("b")], Sampling(), "reflection")
    assert [[c.text for c in row] for row in rows] == [["A"], ["B"]]
    assert model.generate([], Sampling(), "reflection") == []
    assert model.ledger.usage["reflection"].calls == 1
    model.forget()
    with pytest.raises(ModelError, match="log-probabilities"):
        model.logprobs([chat("a")], [[1]])


def test_what_a_request_holds(server: Served) -> None:
    model = EndpointModel(server.url, "big")
    model.generate([chat("a")], Sampling(max_tokens=7), "judge")
    full = Sampling(max_tokens=9, temperature=0.7, top_p=0.9, stop=("##", "\n"), seed=2**60)
    model.generate([chat("a")], full, "judge")
    plain = {"model": "big", "messages": chat("a"), "temperature": 0.0, "max_tokens": 7}
    assert server.asked[0] == plain
    assert 0 <= server.asked[1].pop("seed") < 2**31
    more = {"temperature": 0.7, "max_tokens": 9, "top_p": 0.9, "stop": ["##", "\n"]}
    assert server.asked[1] == {**plain, **more}
    assert server.paths == ["/v1/chat/completions"] * 2
    assert "Authorization" not in server.headers[0]


def test_seeds_differ_by_row_and_repeat_by_call(server: Served) -> None:
    model = EndpointModel(server.url, "big", concurrency=1)
    for seed in (1, 1, 2):
        drawn = Sampling(temperature=1.0, seed=seed, n=2)  # the server returns one at a time
        model.generate([chat("a"), chat("a")], drawn, "judge")
    seeds = [body["seed"] for body in server.asked]
    assert seeds[:4] == seeds[4:8] and len(set(seeds)) == 8
    for draw in (5, 6, 5):  # a question with random numbers of its own
        model.generate([chat("a")], Sampling(temperature=1.0, seed=1, draws=(draw,)), "judge")
    own = [body["seed"] for body in server.asked[12:]]
    assert own[0] == own[2] != own[1]


@pytest.mark.parametrize("end", ["", "/", "/chat/completions", "/chat/completions/"])
def test_addresses_with_and_without_the_end(server: Served, end: str) -> None:
    model = EndpointModel(server.url + end, "big")
    model.generate([chat("a")], Sampling(), "judge")
    assert server.paths == ["/v1/chat/completions"]
    assert model.fingerprint() == EndpointModel(server.url, "big").fingerprint()


def test_a_query_is_sent_but_not_shown(server: Served) -> None:
    model = EndpointModel(f"{server.url}?api-version=3", "big")
    model.generate([chat("a")], Sampling(), "judge")
    assert server.paths == ["/v1/chat/completions?api-version=3"]
    assert "version" not in repr(model)


def test_many_are_asked_at_once_and_order_is_kept(server: Served) -> None:
    def slow_first(body: dict[str, Any]) -> Reply:
        time.sleep(0.1 if body["messages"][-1]["content"] == "q0" else 0.02)
        return echo(body)

    server.reply = slow_first
    model = EndpointModel(server.url, "big", concurrency=4)
    rows = model.generate([chat(f"q{i}") for i in range(16)], DRAWN, "judge")
    assert [row[0].text for row in rows] == [f"Q{i}" for i in range(16)]
    assert 2 <= server.most <= 4


def test_usage_is_counted(server: Served) -> None:
    usage = {"prompt_tokens": 11, "completion_tokens": 7}
    server.reply = lambda body: completion("abc", "a", "", usage=usage)
    model = EndpointModel(server.url, "big")
    row = model.generate([chat("x")], Sampling(temperature=1.0, n=3), "reflection")[0]
    assert server.asked[0]["n"] == 3
    assert [c.token_ids for c in row] == [()] * 3 and [c.logprobs for c in row] == [()] * 3
    assert sum(c.completion_tokens for c in row) == 7 and row[0].completion_tokens == 4
    assert {c.prompt_tokens for c in row} == {11}
    used = model.ledger.usage["reflection"]
    assert (used.calls, used.completions) == (1, 3)
    assert (used.prompt_tokens, used.completion_tokens) == (11, 7) and used.seconds > 0


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": "many", "completion_tokens": -1}])
def test_without_usage_four_characters_are_a_token(server: Served, usage: Any) -> None:
    server.reply = lambda body: completion("123456789", usage=usage)
    model = EndpointModel(server.url, "big")
    answer = model.generate([chat("12345678")], DRAWN, "judge")[0][0]
    assert answer.completion_tokens == 3
    assert answer.prompt_tokens == -(-len("Be brief." + "12345678") // 4)


def test_a_server_that_returns_fewer_than_n(server: Served) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 4}
    server.reply = lambda body: completion(*["ab", "cd"][: body.get("n", 1)], usage=usage)
    model = EndpointModel(server.url, "big")
    rows = model.generate([chat("x")], Sampling(temperature=1.0, n=5), "judge")
    assert [c.text for c in rows[0]] == ["ab", "cd", "ab", "cd", "ab"]
    assert [body.get("n", 1) for body in server.asked] == [5, 3, 1]
    used = model.ledger.usage["judge"]
    assert (used.completions, used.prompt_tokens, used.completion_tokens) == (5, 30, 12)


def test_a_server_that_returns_more_than_n(server: Served) -> None:
    server.reply = lambda body: completion("a", "b", "c")
    rows = EndpointModel(server.url, "big").generate([chat("x")], DRAWN, "judge")
    assert [c.text for c in rows[0]] == ["a"]


def test_why_an_answer_ended(server: Served) -> None:
    server.in_turn(
        completion("cut off", finish="length"),
        completion("whole", finish="stop"),
        completion("kept ## mark", finish="length"),
        completion("filtered", finish="content_filter"),
    )
    model = EndpointModel(server.url, "big", concurrency=1)
    rows = model.generate([chat("x")] * 4, Sampling(stop=("##",)), "judge")
    told = [(row[0].text, row[0].finish_reason) for row in rows]
    assert told == [
        ("cut off", "length"),
        ("whole", "stop"),
        ("kept ", "stop"),
        ("filtered", "stop"),
    ]


@pytest.mark.parametrize(
    ("content", "text"),
    [(None, ""), ([{"type": "text", "text": "a"}, {"text": "b"}], "ab"), ("\ud800x", "?x")],
)
def test_odd_contents(server: Served, content: Any, text: str) -> None:
    body = json.dumps({"choices": [{"message": {"content": content}}]}).encode()
    server.reply = lambda _: (200, {}, body)
    assert EndpointModel(server.url, "m").generate([chat("x")], DRAWN, "judge")[0][0].text == text


def test_the_key_is_sent_and_read_anew_at_each_call(
    server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = EndpointModel(server.url, "big", VARIABLE)
    model.generate([chat("x")], DRAWN, "judge")
    monkeypatch.setenv(VARIABLE, " other \n")  # as `export X=$(cat file)` may leave it
    model.generate([chat("x")], DRAWN, "judge")
    sent = [headers["Authorization"] for headers in server.headers]
    assert sent == [f"Bearer {KEY}", "Bearer other"]


def test_the_key_is_no_part_of_the_fingerprint(
    server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    prints = [EndpointModel(server.url, "big", name).fingerprint() for name in (None, VARIABLE)]
    monkeypatch.setenv(VARIABLE, "other")
    prints.append(EndpointModel(server.url, "big", VARIABLE).fingerprint())
    assert len(set(prints)) == 1
    assert EndpointModel(server.url, "small").fingerprint() != prints[0]
