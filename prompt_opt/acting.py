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

from dspy.lm15 import FunctionTool, Response

from evaluation.environment import Environment
from evaluation.types import ScoreFunction
from lm.turns import Tools
from lm.types import Completion, FinishReason
from tasks.types import Example, Prompt, TaskError
from tasks.types import Message as ChatMessage

ToolsOf = Callable[[Sequence[ChatMessage]], Tools | None]
_FINISHES: Mapping[str, FinishReason] = {"length": "length", "tool_call": "turns"}


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

    Whoever asks the same question has the same tools. What DSPy asks about something else, a
    proposal say, offers none.
    """
    if not prompt.tools or not isinstance(score, Environment):
        return no_tools
    bare = replace(prompt, demos=(), nearest=None)
    asked = {bare.messages(example.inputs)[-1]["content"]: example for example in examples}
    environment = score

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
