"""Servers that are busy, broken or say no: asked again or told in one line, never with the key."""

from __future__ import annotations

import json
import threading
import time
import traceback
from email.utils import formatdate
from typing import Any

import pytest

from lm import posting
from lm.endpoint import EndpointModel
from lm.ledger import BudgetExhausted, Caps, Ledger
from lm.tool_calls import write_calls
from lm.turns import converse
from lm.types import ModelError, PromptTooLong, Sampling
from tasks.tools import Toolbox
from tests.lm.endpoint_server import (
    DRAWN,
    KEY,
    VARIABLE,
    Reply,
    Served,
    chat,
    completion,
    echo,
    failure,
)


def refused(model: EndpointModel, sampling: Sampling = DRAWN) -> str:
    """The one line of a call that must fail, seen to hold no key wherever it is shown."""
    with pytest.raises(ModelError) as caught:
        model.generate([chat("x")], sampling, "reflection")
    line = str(caught.value)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    for text in (line, shown, repr(model), repr(vars(model)), model.ledger.to_json()):
        assert KEY not in text and json.dumps(KEY)[1:-1] not in text
    assert "\n" not in line and line.startswith("reflection: ")
    return line


@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_key_that_is_not_set(
    server: Served, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv(VARIABLE)
    if value is not None:
        monkeypatch.setenv(VARIABLE, value)
    model = EndpointModel(server.url, "big", VARIABLE)
    told = f"reflection: environment variable {VARIABLE} is not set; export it"
    assert refused(model).startswith(told)
    with pytest.raises(ModelError, match="is not set"):
        model.check("reflection")
    assert not server.asked


@pytest.mark.parametrize("odd", [f"{KEY}\n{KEY}", f"{KEY} {KEY}", f"{KEY}é", f"{KEY}\x7f"])
def test_a_key_no_header_can_hold(
    server: Served, monkeypatch: pytest.MonkeyPatch, odd: str
) -> None:
    monkeypatch.setenv(VARIABLE, odd)
    assert VARIABLE in refused(EndpointModel(server.url, "big", VARIABLE))
    assert not server.asked


def test_busy_servers_are_asked_again(server: Served) -> None:
    server.in_turn(failure(429), failure(500), failure(503), (0, {}, b""), completion("at last"))
    model = EndpointModel(server.url, "big")
    assert model.generate([chat("x")], DRAWN, "judge")[0][0].text == "at last"
    assert len(server.asked) == 5 and model.ledger.usage["judge"].calls == 1
    assert all(body == server.asked[0] for body in server.asked)


def test_asking_again_has_an_end(server: Served) -> None:
    server.reply = lambda body: failure(500, f"crashed\nwith {KEY}")
    line = refused(EndpointModel(server.url, "big", VARIABLE))
    assert "500" in line and "crashed with [key]" in line and server.url in line
    assert len(server.asked) == posting.ATTEMPTS


def test_retry_after_is_honoured(server: Served) -> None:
    server.in_turn(failure(429, Retry_After="0.3"), completion("a"))
    start = time.perf_counter()
    EndpointModel(server.url, "big").generate([chat("x")], DRAWN, "judge")
    assert 0.3 <= time.perf_counter() - start < 5


@pytest.mark.parametrize("wait", ["nonsense", "nan", "-5", formatdate(0, usegmt=True)])
def test_retry_after_that_says_nothing(server: Served, wait: str) -> None:
    server.in_turn(failure(429, Retry_After=wait), completion("a"))
    assert EndpointModel(server.url, "big").generate([chat("x")], DRAWN, "judge")


@pytest.mark.parametrize(
    "wait", ["3600", formatdate(time.time() + 3600, usegmt=True)], ids=["seconds", "date"]
)
def test_a_wait_that_is_too_long(server: Served, wait: str) -> None:
    server.reply = lambda body: failure(429, "quota", Retry_After=wait)
    line = refused(EndpointModel(server.url, "big"))
    assert "quota" in line and "s of patience" in line and len(server.asked) == 1


def test_no_server(server: Served) -> None:
    server.server_close()
    assert "no connection" in refused(EndpointModel(server.url, "big"))


def test_slow_answers(server: Served) -> None:
    replies = iter([0.5, 0.5, 0.0])

    def slow(body: dict[str, Any]) -> Reply:
        time.sleep(next(replies))
        return completion("in time")

    server.reply = slow
    model = EndpointModel(server.url, "big", timeout=0.1)
    assert model.generate([chat("x")], DRAWN, "judge")[0][0].text == "in time"


def test_too_slow_answers(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posting, "ATTEMPTS", 2)
    server.reply = lambda body: (time.sleep(0.3), completion("late"))[1]
    assert "no answer within 0.1 s" in refused(EndpointModel(server.url, "big", timeout=0.1))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_refusals(server: Served, status: int) -> None:
    server.reply = lambda body: failure(status, f"a key like {KEY}\nis not\n" + 5000 * "wanted ")
    line = refused(EndpointModel(server.url, "big", VARIABLE))
    assert f"{status} " in line and server.url in line and "like [key] is not wanted" in line
    assert len(line) < 600 and len(server.asked) == 1
    assert (status in (401, 403)) == (VARIABLE in line)


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_wants_a_key(server: Served, status: int) -> None:
    server.reply = lambda body: (
        failure(status) if "Authorization" not in server.headers[-1] else echo(body)
    )
    assert "key_env" in refused(EndpointModel(server.url, "big"))
    assert EndpointModel(server.url, "big", VARIABLE).generate([chat("x")], DRAWN, "judge")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>not\nthis page</html>",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b"[]",
        b"7",
        b"{}",
        b'{"choices": []}',
        b'{"choices": null}',
        b'{"choices": {"a": 1}}',
        b'{"choices": [{}]}',
        b'{"choices": [null]}',
        b'{"choices": [{"message": null}]}',
        b'{"choices": [{"message": {"content": 7}}]}',
        b'{"choices": [{"message": {"content": ["a"]}}]}',
        json.dumps({"error": KEY}).encode(),
        KEY.encode(),
        b'{"broken": "' + json.dumps(KEY)[1:-1].encode(),
    ],
)
def test_malformed_answers(server: Served, body: bytes) -> None:
    server.reply = lambda _: (200, {}, body)
    line = refused(EndpointModel(server.url, "big", VARIABLE))
    assert server.url in line and "check the address" in line and len(server.asked) == 1


def test_torn_answers_are_asked_again(server: Served) -> None:
    status, _, data = completion("whole")
    server.in_turn((status, {"Content-Length": str(len(data) + 9)}, data), completion("whole"))
    model = EndpointModel(server.url, "big", timeout=0.2)
    assert model.generate([chat("x")], DRAWN, "judge")[0][0].text == "whole"


def test_a_redirect_does_not_get_the_key(server: Served) -> None:
    with Served() as other:
        threading.Thread(target=other.serve_forever, args=(0.01,), daemon=True).start()
        for status in (301, 302, 303, 307, 308):
            server.reply = lambda body, s=status: failure(s, Location=f"{other.url}/elsewhere")
            assert "redirects" in refused(EndpointModel(server.url, "big", VARIABLE))
        other.shutdown()
        assert not other.asked


def test_a_model_that_wants_the_other_name_for_max_tokens(server: Served) -> None:
    told = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    server.reply = lambda body: failure(400, told) if "max_tokens" in body else completion("a")
    model = EndpointModel(server.url, "big")
    for _ in range(2):
        model.generate([chat("x")], Sampling(max_tokens=5), "judge")
    assert [body.get("max_completion_tokens") for body in server.asked] == [None, 5, 5]
    server.reply = lambda body: failure(400, told)
    assert "max_completion_tokens" in refused(model)


def test_what_was_answered_is_paid_also_when_the_call_fails(server: Served) -> None:
    def second_fails(body: dict[str, Any]) -> Reply:
        usage = {"prompt_tokens": 5, "completion_tokens": 3}
        bad = body["messages"][-1]["content"] == "bad"
        return failure(400, "never") if bad else completion("a", usage=usage)

    server.reply = second_fails
    model = EndpointModel(server.url, "big", concurrency=1)
    with pytest.raises(ModelError, match="never"):
        model.generate([chat("good"), chat("bad"), *[chat("later")] * 50], DRAWN, "judge")
    assert len(server.asked) < 10
    used = model.ledger.usage["judge"]
    assert used.calls == 1 and used.prompt_tokens == 5 * used.completions > 0


def test_the_cause_is_told_not_its_consequence(
    server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posting, "FIRST_PAUSE", 30.0)
    last = threading.Event()

    def reply(body: dict[str, Any]) -> Reply:
        if body["messages"][-1]["content"] == "busy":
            last.set()
            return failure(500)
        last.wait(5)
        return failure(400, "the real cause")

    server.reply = reply
    start = time.perf_counter()
    with pytest.raises(ModelError, match="the real cause"):
        EndpointModel(server.url, "big").generate([chat("busy"), chat("bad")], DRAWN, "judge")
    assert time.perf_counter() - start < 10


def test_budgets(server: Served) -> None:
    model = EndpointModel(server.url, "big", ledger=Ledger(Caps(rollouts=1)))
    model.generate([chat("x")], DRAWN, "reflection")
    with pytest.raises(BudgetExhausted):
        model.generate([chat("x")], DRAWN, "reflection")
    model.generate([chat("x")], DRAWN, "eval")
    assert len(server.asked) == 2


@pytest.mark.parametrize("options", [{"top_k": 5}, {"min_p": 0.1}, {"repetition_penalty": 1.1}])
def test_sampling_the_protocol_does_not_know(server: Served, options: dict[str, Any]) -> None:
    line = refused(EndpointModel(server.url, "big"), Sampling(**options))
    assert next(iter(options)) in line and not server.asked


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "api.host/v1",
        "ftp://host/v1",
        "http://",
        "http://[::1/v1",
        "http://host:99999999/v1",
        "http://host/v 1",
        "http://hóst/v1",
        "http://user:hunter2@host/v1",
        "http://hunter2@host/v1",
        "user:hunter2@host/v1",
        "http://user:hunter2@[host/v1",
        "https://host/v1?api_key=hunter2",
        "https://host/v1?version=1&key=hunter2",
    ],
)
def test_addresses_that_cannot_be_used(endpoint: str) -> None:
    with pytest.raises(ModelError) as caught:
        EndpointModel(endpoint, "big")
    shown = "".join(traceback.format_exception(caught.value))
    line = str(caught.value)
    assert "hunter2" not in shown and line.startswith("endpoint: ") and "\n" not in line
    assert ("hunter2" in endpoint) == ("key_env" in line)


@pytest.mark.parametrize("options", [{"model": ""}, {"concurrency": 0}, {"timeout": 0}])
def test_options_that_mean_nothing(options: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="endpoint: "):
        EndpointModel(**{"endpoint": "http://host/v1", "model": "big", **options})


FULL = [
    failure(400, "This model's maximum context length is 4096 tokens. You asked for 5000."),
    (400, {}, b'{"error": {"message": "no", "code": "context_length_exceeded"}}'),
    failure(400, "request (9000 tokens) exceeds the available context size (4096 tokens)"),
    failure(422, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096"),
]


@pytest.mark.parametrize("reply", FULL)
def test_a_prompt_that_is_too_long_is_told_apart(server: Served, reply: Reply) -> None:
    server.reply = lambda body: reply
    model = EndpointModel(server.url, "m")
    with pytest.raises(PromptTooLong, match="use fewer demos"):
        model.generate([chat("x")], DRAWN, "reflection")
    server.reply = lambda body: failure(400, "no such model, in this or any context")
    with pytest.raises(posting.Refused):
        model.generate([chat("x")], DRAWN, "reflection")


def look(where: str) -> str:
    """Looks."""
    return f"sky {where}"


@pytest.mark.parametrize("reply", [FULL[0], failure(400, "no such model")])
def test_an_answer_that_outgrows_the_window_ends_alone(server: Served, reply: Reply) -> None:
    call = write_calls([{"name": "look", "arguments": {"where": "up"}}], "hermes")

    def serve(body: dict[str, Any]) -> Reply:
        turns = sum(message["role"] == "assistant" for message in body["messages"])
        if turns == 1 and body["messages"][1]["content"] == "long":
            return reply
        return completion("blue" if turns else call)

    server.reply = serve
    box = Toolbox.of([look], 3)
    chats = [chat("short"), chat("long"), chat("short")]
    model = EndpointModel(server.url, "m")
    if reply is not FULL[0]:  # any other failure is no answer
        with pytest.raises(posting.Refused):
            converse(model, chats, [box] * 3, DRAWN, "eval")
        return
    rows = converse(model, chats, [box] * 3, DRAWN, "eval")
    assert [row[0].finish_reason for row in rows] == ["stop", "length", "stop"]
    assert [row[0].text for row in rows] == ["blue", call, "blue"]
    [turn] = rows[1][0].transcript
    assert turn["tool_calls"] and len(rows[0][0].transcript) == 3
    assert len(server.asked) == 6  # nothing is asked twice
