"""From a model's reply to a program: code in fences or bare, whole functions or bodies alone."""

from __future__ import annotations

import ast
import re

from tasks.text import MAX_CHARS

FENCE = re.compile(r"```[^\S\n]*[\w+-]*[^\S\n]*\n(.*?)(?:\n?```|\Z)", re.DOTALL)
PROGRAM = ("def ", "class ", "import ", "from ", "@")  # what no answer's body begins with


def extract_code(text: str) -> str:
    """The longest fenced block of a reply, or all of it where there is none."""
    blocks = FENCE.findall(text[:MAX_CHARS])
    return max(blocks, key=len) if blocks else text[:MAX_CHARS]


def as_program(prompt: str, function: str, code: str) -> str:
    """What to run where `code` answers `prompt`, which ends with the head of `function`.

    A whole function stands behind the imports and helpers of `prompt`, a body behind all of it.
    """
    if code[:1].isspace():
        return prompt + code
    whole = re.search(rf"^def\s+{re.escape(function)}\b", code, re.MULTILINE)
    if (whole and not code.startswith("return")) or code.startswith(PROGRAM):
        return f"{_in_front(prompt, function)}\n{code}"
    return f"{prompt}    {code}"  # a body; who takes an answer out of a reply strips it


def _in_front(prompt: str, function: str) -> str:
    """The imports and helpers that stand in front of the function to be written."""
    last = next(n for n in ast.parse(prompt).body if getattr(n, "name", "") == function)
    return "\n".join(prompt.splitlines()[: last.lineno - 1])
