"""Functions a model may call: their schemas from their signatures, and calls that never raise.

A tool is the task author's code and is trusted; what the model hands to it is not: arguments are
checked against the schema first, and whatever goes wrong, a tool that raises included, is a message
the model reads and the scorer finds in the transcript.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_type_hints

from tasks.text import shorten
from tasks.types import TaskError, Transcript

RESULT_CHARS = 2_000  # of a result; what is longer is cut, and says so
ARGUMENT_CHARS = 10_000  # of all arguments of a call, as JSON

Tool = Callable[..., Any]
# Why a call brought no result: not readable as a call; no such tool; arguments that do not fit the
# schema; the tool raised.
CallError = Literal["malformed_call", "unknown_tool", "bad_arguments", "tool_error"]


@dataclass(frozen=True)
class Call:
    """A call in a transcript, and what came of it. `error` is None where the tool gave a result."""

    name: str
    arguments: Mapping[str, Any]
    result: str
    error: CallError | None = None


def calls_of(transcript: Transcript) -> list[Call]:
    """The calls that were carried out or refused, in order; one that could not be read has no name.

    A call in the last turn that was allowed is not among them: nobody answered it (`unanswered`).
    """
    found, asked = [], iter(())
    for message in transcript:
        if message["role"] == "assistant":
            asked = iter(message.get("tool_calls", ()))
        else:
            error = message.get("error")
            call = {} if error == "malformed_call" else next(asked, {})
            given = str(call.get("name", "")), call.get("arguments", {})
            found.append(Call(*given, str(message["content"]), error))
    return found


def unanswered(transcript: Transcript) -> bool:
    """Whether the answer ends with a call, readable or not, in the place of a text."""
    last = transcript[-1]
    return bool(last.get("tool_calls")) or "malformed" in last


def misused(transcript: Transcript) -> str | None:
    """Why there is no answer that rests on a tool: `malformed_call` or `too_many_calls` where the
    transcript ends with a call, `no_call` where it has none; else None."""
    if unanswered(transcript):
        return "malformed_call" if "malformed" in transcript[-1] else "too_many_calls"
    return None if calls_of(transcript) else "no_call"


def calling(name: str, /, **arguments: Any) -> dict[str, Any]:
    """A turn of the assistant with one call and no words, for `Task.demonstration`."""
    calls = [{"name": name, "arguments": arguments}]
    return {"role": "assistant", "content": "", "tool_calls": calls}


def schema_of(tool: Tool) -> dict[str, Any]:
    """The JSON schema of a function, as chat templates take it.

    The description is the first paragraph of the docstring, that of a parameter its line under
    `Args:` ("name: what it is"). Raises TaskError, one line, for a function without a docstring,
    with a parameter that has no type or is no plain one, or a type JSON does not know.
    """
    parameters = _model_of(tool).model_json_schema()
    words, of_parameter = _described(tool)
    properties = parameters.get("properties", {})
    for name, schema in properties.items():
        schema.pop("title", None)
        if name in of_parameter:
            schema["description"] = of_parameter[name]
    shape = {"type": "object", "properties": properties, "required": parameters.get("required", [])}
    shape |= {"$defs": parameters["$defs"]} if "$defs" in parameters else {}
    told = {"name": tool.__name__, "description": words, "parameters": shape}
    return {"type": "function", "function": told}


@dataclass(frozen=True)
class Toolbox:
    """The tools of one example; `max_turns` is how many turns the model has, the answer included.

    What drives the turns is `lm.turns`.
    """

    tools: Mapping[str, Tool]
    max_turns: int

    @classmethod
    def of(cls, tools: Sequence[Tool], max_turns: int) -> Toolbox:
        return cls({tool.__name__: tool for tool in tools}, max_turns)

    def call(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The message that answers a call: `role` tool, `name`, `content`, and what went wrong as
        `error` (`CallError`). Raises no Exception."""
        tool = self.tools.get(name)
        if tool is None:
            known = ", ".join(self.tools)
            return _refused(name, "unknown_tool", f'no tool "{shorten(name, 40)}"; use {known}')
        checked = _checked(tool, arguments)
        if isinstance(checked, str):
            return _refused(name, "bad_arguments", checked)
        try:
            result = tool(**checked)
            return {"role": "tool", "name": name, "content": _as_text(result)}
        except (Exception, SystemExit) as error:
            return _refused(name, "tool_error", f"{error}" or type(error).__name__)


def _refused(name: str, error: CallError, why: str) -> dict[str, Any]:
    content = _as_text(f"error: {why}")
    return {"role": "tool", "name": name, "content": content, "error": error}


def _checked(tool: Tool, arguments: Mapping[str, Any]) -> dict[str, Any] | str:
    """The arguments as the function takes them, or why they are none."""
    from pydantic import ValidationError

    try:
        given = json.dumps(dict(arguments), allow_nan=False)
        if len(given) > ARGUMENT_CHARS:
            return f"arguments of {len(given)} characters; {ARGUMENT_CHARS} at most"
        read = _model_of(tool).model_validate_json(given, strict=True)
        return {name: getattr(read, name) for name in type(read).model_fields}
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return f"{where}: {first['msg']}" if where else str(first["msg"])
    except (TypeError, ValueError, RecursionError) as error:
        return f"arguments cannot be read: {shorten(str(error), 80)}"


@lru_cache(512)
def _model_of(tool: Tool) -> Any:
    """A pydantic model of the function's parameters."""
    from pydantic import ConfigDict, create_model
    from pydantic.errors import PydanticUserError

    name = getattr(tool, "__name__", "")
    if not re.fullmatch(r"[A-Za-z_]\w{0,63}", name):
        raise TaskError(f"tools: {tool!r} has no name to call it by; write a function with def")
    try:
        hints = get_type_hints(tool)
        parameters = inspect.signature(tool).parameters.values()
    except (NameError, TypeError, ValueError) as error:
        raise TaskError(f"tools: {name}: its signature cannot be read ({error})") from None
    fields: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TaskError(f"tools: {name}: parameter {parameter.name} is no plain one; name each")
        if parameter.name not in hints or parameter.name.startswith("_"):
            raise TaskError(
                f"tools: {name}: parameter {parameter.name} has no type; write "
                f"{parameter.name.lstrip('_')}: str"
            )
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (hints[parameter.name], default)
    try:
        config = ConfigDict(extra="forbid", protected_namespaces=())
        model = create_model(name, __config__=config, **fields)
        model.model_json_schema()
        return model
    except (PydanticUserError, TypeError, NameError) as error:
        line = str(error).splitlines()[0]
        raise TaskError(f"tools: {name}: a type that JSON does not know ({line})") from None


def _described(tool: Tool) -> tuple[str, dict[str, str]]:
    text = inspect.getdoc(tool)
    if not text:
        raise TaskError(f"tools: {tool.__name__}: no docstring; say what it does in a sentence")
    words = " ".join(text.partition("\n\n")[0].partition("\nArgs:")[0].split())
    listed = text.partition("Args:")[2].partition("\n\n")[0]
    return words, dict(re.findall(r"^\s+(\w+)(?: *\([^)]*\))?: *(.+)$", listed, re.MULTILINE))


def _as_text(result: Any) -> str:
    """What the model reads: text as it is, anything else as JSON where it can be."""
    if not isinstance(result, str):
        try:
            result = json.dumps(result, ensure_ascii=False, default=str)
        except (ValueError, RecursionError):
            result = repr(result)
    result = result.encode("utf-8", "replace").decode()  # half a surrogate pair cannot be sent
    if len(result) <= RESULT_CHARS:
        return result
    return f"{result[:RESULT_CHARS]}… (cut, {len(result)} characters)"
