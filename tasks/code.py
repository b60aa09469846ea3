"""From a model's reply to a program: code in fences or bare, whole functions or bodies alone."""

from __future__ import annotations

import ast
import re
from textwrap import indent

from tasks.text import MAX_CHARS

FENCE = re.compile(r"```[^\S\n]*[\w+-]*[^\S\n]*\n(.*?)(?:\n?```|\Z)", re.DOTALL)
PROGRAM = ("def ", "class ", "import ", "from ", "@")


def extract_code(text: str) -> str:
    """The longest fenced block of a reply, or all of it where there is none."""
    blocks = FENCE.findall(text[:MAX_CHARS])
    return max(blocks, key=len) if blocks else text[:MAX_CHARS]


def as_programs(prompt: str, function: str, code: str) -> tuple[str, ...]:
    """What to run where `code` answers `prompt`, which ends with the head of `function`: the first
    of these that is Python, which the sandbox finds out, since compiling is a risk of its own.

    A whole function stands behind the imports and helpers of `prompt`, a body behind all of it;
    who takes an answer out of a reply strips it, so a body's first line may have lost its indent,
    or all its lines.
    """
    if code[:1].isspace():
        return (prompt + code,)
    whole, body = f"{_in_front(prompt, function)}\n{code}", f"{prompt}    {code}"
    if code.startswith("return"):
        return (body,)
    name = re.escape(function)
    if re.search(rf"^(?:(?:async\s+)?def\s+{name}\b|{name}\s*=(?!=))", code, re.MULTILINE):
        return (whole,)
    moved = prompt + indent(code, "    ")
    second = code.partition("\n")[2].lstrip("\n")
    if code.startswith(PROGRAM) and not second[:1].isspace():
        return whole, moved
    return body, whole, moved


def _in_front(prompt: str, function: str) -> str:
    """The imports and helpers that stand in front of the function to be written."""
    last = next(n for n in ast.parse(prompt).body if getattr(n, "name", "") == function)
    return "\n".join(prompt.splitlines()[: last.lineno - 1])
