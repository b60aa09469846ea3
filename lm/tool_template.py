"""What a chat template makes of tools, found out by asking it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lm.tool_calls import OPEN, Syntax

_NAME, _RESULT = "tasklift_probe", "tasklift result"


@dataclass(frozen=True)
class ToolTemplate:
    """`shows_tools`: the template has a place for schemas, and writes calls in `syntax`. Where it
    has none, or writes calls in a way that is not known here, tools stand in the system message and
    calls are Hermes'. `takes_results`: it has a role for what a tool answers."""

    shows_tools: bool = False
    syntax: Syntax = "hermes"
    takes_results: bool = False

    @classmethod
    def of(cls, tokenizer: Any) -> ToolTemplate:
        if tokenizer.chat_template is None:
            return cls()
        asked: list[dict[str, Any]] = [{"role": "user", "content": "a"}]
        results = [*asked, {"role": "assistant", "content": "b"}]
        results.append({"role": "tool", "content": _RESULT})
        takes_results = _RESULT in _render(tokenizer, results)
        arguments = {"type": "object", "properties": {}}
        told = {"name": _NAME, "description": "None.", "parameters": arguments}
        tools = [{"type": "function", "function": told}]
        if _NAME not in _render(tokenizer, asked, tools):
            return cls(takes_results=takes_results)
        call = {"name": _NAME, "arguments": {"a": 1}}
        turn = {"role": "assistant", "content": "", "tool_calls": [_nested(call)]}
        said = _render(tokenizer, [*asked, turn])
        said = said[len(_render(tokenizer, asked)) :] if said else ""
        if OPEN in said and json.dumps(call) in said:
            return cls(True, "hermes", takes_results)
        if '"parameters":' in said:
            return cls(True, "json", takes_results)
        return cls(takes_results=takes_results)


def _nested(call: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": call}


def _render(tokenizer: Any, messages: Sequence[dict[str, Any]], tools: Any = None) -> str:
    """The text, "" where the template refuses."""
    try:
        return tokenizer.apply_chat_template(list(messages), tools=tools, tokenize=False)
    except Exception:  # a template can fail in any way
        return ""
