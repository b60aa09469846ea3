"""How calls of tools are written in a model's text, read and written back. Knows no tokenizer.

Two syntaxes, as the chat templates of open models write them:

- *hermes* (Qwen, SmolLM3, Hermes): `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, several
  in a turn, words around them;
- *json* (Llama 3.1 and later): the whole turn is `{"name": …, "parameters": {…}}`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from lm.types import ModelError

Syntax = Literal["hermes", "json"]
CALLS_A_TURN = 8
READ_CHARS = 100_000
OPEN, CLOSE = "<tool_call>", "</tool_call>"
_SPEECH = re.compile(r"<(?=/?\s*tool_)", re.IGNORECASE)
_PYTHON_TAG = "<|python_tag|>"


@dataclass(frozen=True)
class Calls:
    """The calls in a text, `{"name": …, "arguments": {…}}` each; or why it holds one that cannot be
    read. A text without either is an answer."""

    calls: tuple[dict[str, Any], ...] = ()
    malformed: str | None = None

    def __bool__(self) -> bool:
        return bool(self.calls) or self.malformed is not None


def read_calls(text: str, syntax: Syntax) -> Calls:
    """The calls in what a model wrote. Never raises; where one cannot be read, none is."""
    text = text[:READ_CHARS]
    pieces = _pieces(text, syntax)
    if len(pieces) > CALLS_A_TURN:
        return Calls(malformed=f"{len(pieces)} calls in one turn; {CALLS_A_TURN} at most")
    found = []
    for piece in pieces:
        try:
            found.append(_read(piece, "arguments" if syntax == "hermes" else "parameters"))
        except (ValueError, RecursionError) as error:
            return Calls(malformed=" ".join(str(error).split())[:120] or type(error).__name__)
    return Calls(tuple(found))


def write_calls(calls: Sequence[Mapping[str, Any]], syntax: Syntax) -> str:
    """The text of a turn that makes `calls`, each `{"name": …, "arguments": {…}}`."""
    if syntax == "json":
        rows = [{"name": call["name"], "parameters": dict(call["arguments"])} for call in calls]
        return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    rows = [{"name": call["name"], "arguments": dict(call["arguments"])} for call in calls]
    return "\n".join(f"{OPEN}\n{json.dumps(row, ensure_ascii=False)}\n{CLOSE}" for row in rows)


def spoken(content: str, calls: Sequence[Mapping[str, Any]], syntax: Syntax) -> str:
    """The text of a turn that says `content` and makes `calls`, so that `read_calls` finds those.

    Raises ModelError, one line, where it would find others: Llama's syntax has room for one call
    and no words, and no argument may hold what frames a call.
    """
    text = "\n".join(filter(None, (content, write_calls(calls, syntax)))) if calls else content
    wanted = json.loads(json.dumps([{k: c[k] for k in ("name", "arguments")} for c in calls]))
    found = read_calls(text, syntax)
    if found.malformed is not None or list(found.calls) != wanted:
        room = "one call without words" if syntax == "json" else f"{CALLS_A_TURN} calls"
        raise ModelError(
            f"model: a demonstration cannot be written so that its calls are read back "
            f"({text[:60]!r}); its template has room for {room} a turn, so split it into turns"
        )
    return text


def described(schemas: Sequence[Mapping[str, Any]]) -> str:
    """What a system message says of tools where the chat template has no place for them."""
    listed = "\n".join(json.dumps(schema, ensure_ascii=False) for schema in schemas)
    return (
        f"You may call these functions:\n<tools>\n{listed}\n</tools>\n"
        'To call one, write <tool_call>\n{"name": <its name>, "arguments": <a JSON object>}\n'
        "</tool_call>. You are then told the result."
    )


def told(results: Sequence[Mapping[str, Any]]) -> str:
    """Results as a user's message, where the template has no role for them."""
    rows = [f"<tool_response>\n{quoted(r['content'])}\n</tool_response>" for r in results]
    return "\n".join(rows)


def quoted(result: str) -> str:
    """A result that can neither end the frame it stands in nor look like a call."""
    return _SPEECH.sub("&lt;", result)


def written(
    chat: Sequence[Mapping[str, Any]], syntax: Syntax, takes_results: bool
) -> list[dict[str, Any]]:
    """A chat whose demos call tools (roles `calls`, `tool`), with those calls as the model writes
    them and results as it reads them: of role `tool` where there is one, else a user's message."""
    found: list[dict[str, Any]] = []
    waiting: list[Mapping[str, Any]] = []  # results that share a user's message
    for message in [*chat, {"role": ""}]:
        if message["role"] == "tool" and not takes_results:
            waiting.append(message)
            continue
        found += [{"role": "user", "content": told(waiting)}] if waiting else []
        waiting = []
        if message["role"] == "calls":
            said = json.loads(message["content"])
            text = spoken(said["content"], said["calls"], syntax)
            found.append({"role": "assistant", "content": text})
        elif message["role"] == "tool":
            found.append({"role": "tool", "content": quoted(message["content"])})
        else:
            found.append(dict(message))
    return found[:-1]


def as_text(chat: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A chat for who takes texts only: calls of demos are written, tools `described`."""
    return in_system(written(chat, "hermes", takes_results=False))


def in_system(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A chat whose tools stand in the system message, as `described`."""
    if not messages or messages[0]["role"] != "tools":
        return [*messages]
    words = described(json.loads(messages[0]["content"]))
    rest = messages[1:]
    if rest and rest[0]["role"] == "system":
        return [{"role": "system", "content": f"{rest[0]['content']}\n\n{words}"}, *rest[1:]]
    return [{"role": "system", "content": words}, *rest]


def _pieces(text: str, syntax: Syntax) -> list[str]:
    """The parts that should be calls, without their frame."""
    if syntax == "json":
        whole = text.strip().removeprefix(_PYTHON_TAG).strip()
        return [whole] if re.match(r'\{\s*"(name|parameters|type|function)"', whole) else []
    parts = text.split(OPEN)[1:]
    # without its end a piece is no JSON, and is reported as such
    return [part.partition(CLOSE)[0] if CLOSE in part else f"{part} (no {CLOSE})" for part in parts]


def _read(piece: str, key: str) -> dict[str, Any]:
    row = json.loads(piece.strip(), parse_constant=_refuse, parse_float=_finite)
    if not isinstance(row, dict) or not isinstance(row.get("name"), str):
        raise ValueError('a call is an object with a "name"')
    arguments = row.get(key, {})
    if not isinstance(arguments, dict):
        raise ValueError(f'"{key}" must be an object')
    call = {"name": row["name"], "arguments": arguments}
    json.dumps(call, ensure_ascii=False).encode()  # half a surrogate pair cannot be passed on
    return call


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no number")
    return value
