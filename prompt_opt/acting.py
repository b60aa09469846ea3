"""Prompts that offer tools, on their way through DSPy and back.

A request carries the schemas, a response the transcript of what was called. An answer is the whole
conversation, held by the one loop that evaluates and trains, too (lm/turns.py); DSPy sees its last
text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from dspy.lm15 import FunctionTool, Message, Response

from evaluation.environment import Environment
from evaluation.types import ScoreFunction
from lm.turns import Tools
from lm.types import Completion, FinishReason
from tasks.check_tools import acted as played
from tasks.types import Example, Prompt, TaskError, Transcript
from tasks.types import Message as ChatMessage

ToolsOf = Callable[[Sequence[ChatMessage]], Tools | None]
_FINISHES: Mapping[str, FinishReason] = {"length": "length", "tool_call": "turns"}


class Acted(str):
    """An output that was found with tools: `turns` are those before it, as a `Demo` has them. To
    DSPy, which hands outputs on into demos, it is a text."""

    turns: tuple[Mapping[str, Any], ...]

    def __new__(cls, text: str, turns: Sequence[Mapping[str, Any]] = ()) -> Acted:
        made = super().__new__(cls, text)
        made.turns = tuple(turns)
        return made


def acted(text: str, transcript: Transcript) -> str:
    """`text`, with the turns of `transcript` before the last. What the model wrote stays as it
    wrote it; calls it did not write itself stay calls."""
    turns = turns_before(transcript)
    return Acted(text, turns) if turns else text


def turns_before(transcript: Transcript) -> tuple[Mapping[str, Any], ...]:
    """All but the last, as `Demo.turns`."""
    return tuple(_turn(message) for message in transcript[:-1])


def _turn(message: Mapping[str, Any]) -> dict[str, Any]:
    kept = {"role": message["role"], "content": message["content"]}
    calls = message.get("tool_calls")
    return {**kept, "tool_calls": list(calls)} if calls and not kept["content"] else kept


def shown_answer(score: ScoreFunction, prompt: Prompt, example: Example) -> str:
    """The answer of an example as a demo shows it: where there are tools, with the task's own
    demonstration of their use."""
    if not prompt.tools or not isinstance(score, Environment):
        return example.answer
    turns = played(score.demonstration(example), score.toolbox(example))
    return acted(turns[-1]["content"], turns)


class Said(Protocol):
    """What of an answer goes into a response."""

    @property
    def finish_reason(self) -> FinishReason: ...
    @property
    def transcript(self) -> Sequence[Mapping[str, Any]]: ...


def no_tools(_: Sequence[ChatMessage]) -> None:
    """For models that are asked questions without tools."""


def tools_of(score: ScoreFunction, prompt: Prompt, examples: Sequence[Example]) -> ToolsOf:
    """Which tools a chat about one of `examples` is answered with, found by its last message.

    What DSPy asks about something else, a proposal say, offers none. Raises TaskError for two
    examples that ask the same and have tools of their own: DSPy's requests would not tell them
    apart.
    """
    if not prompt.tools or not isinstance(score, Environment):
        return no_tools
    bare = replace(prompt, demos=(), nearest=None)
    asked: dict[str, Example] = {}
    environment = score
    for example in examples:
        first = asked.setdefault(bare.messages(example.inputs)[-1]["content"], example)
        if first is not example and environment.toolbox(first) != environment.toolbox(example):
            raise TaskError(
                f'tools_for: examples "{first.id}" and "{example.id}" ask the same and have '
                "different tools, which prompt methods cannot tell apart; put into the inputs what "
                "tells them apart"
            )

    def of(chat: Sequence[ChatMessage]) -> Tools | None:
        if not chat or chat[0]["role"] != "tools":
            return None
        if chat[-1]["content"] not in asked:
            raise TaskError("tools: a question that is no example's; a method may ask those only")
        return environment.toolbox(asked[chat[-1]["content"]])

    return of


def offered(chat: Sequence[ChatMessage]) -> tuple[FunctionTool, ...]:
    """The tools of a chat as a request has them."""
    schemas = json.loads(chat[0]["content"]) if chat and chat[0]["role"] == "tools" else []
    told = [schema["function"] for schema in schemas]
    return tuple(FunctionTool(f["name"], f["description"], f["parameters"]) for f in told)


def offer(tools: Sequence[Any]) -> list[ChatMessage]:
    """The message in front of a chat that `offered` was read from, byte by byte."""
    told = [
        {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
        for tool in tools
    ]
    schemas = [{"type": "function", "function": function} for function in told]
    return [{"role": "tools", "content": json.dumps(schemas)}] if schemas else []


def sent(message: ChatMessage) -> Message:
    """A message as a request carries it. The calls and results of demos have no place of their own
    in one whose calls nobody answers: they travel as JSON in a developer's message."""
    write = {"user": Message.user, "assistant": Message.assistant}
    if message["role"] in write:
        return write[message["role"]](message["content"])
    return Message.developer(json.dumps(message))


def received(message: Message) -> ChatMessage:
    """What `sent` was given."""
    if message.role == "developer":
        return json.loads(message.text or "")
    return {"role": message.role, "content": message.text or ""}


def response_parts(answer: Said) -> dict[str, Any]:
    """Finish reason and data of the `Response` that brings `answer`."""
    finish = "tool_call" if answer.finish_reason == "turns" else answer.finish_reason
    turns = [dict(message) for message in answer.transcript]
    return {
        "finish_reason": finish,
        "provider_data": {"transcript": turns} if turns else None,
    }


def completion_of(response: Response) -> Completion:
    """What a response brought, without token ids."""
    data = response.provider_data
    turns = data.get("transcript", ()) if isinstance(data, Mapping) else ()
    return Completion(
        response.text or "",
        (),
        (),
        _FINISHES.get(response.finish_reason, "stop"),
        response.usage.input_tokens or 0,
        transcript=tuple(turns),  # type: ignore[reportArgumentType]
    )
