"""The child process of `reasoning`: the generators' own scorers, with what they evaluate guarded.

Four of reasoning-gym's scorers call `eval` on the answer, six give it to sympy's `parse_expr`,
which is `eval` as well. Here both take what an honest answer may hold, literals and formulas, and
refuse the rest; the scorers count that as an answer they cannot read.

Three things they would take for right are wrong here: any text at all, where the scorer compares
`bool("False")`; "nan", at no distance from anything; and an integral that is not solved, unless the
generator itself could not.

What has more digits than a small program is refused before it is worked out: 9**9**9**9 would take
all the time there is and the process with it.
"""

from __future__ import annotations

import ast
import base64
import builtins
import math
import pickle
import re
import sys
from functools import cache
from typing import Any

import reasoning_gym
import sympy

# numbers, names without attributes, operators; no quotes, no dots but between digits, no __
FORMULA = re.compile(r"(?:\d+\.?\d*|\.\d+|[A-Za-z][A-Za-z0-9]*|[-+*/^()\s,=])*")
ARITHMETIC = re.compile(r"(?:0[xX][0-9a-fA-F]+|\d+\.?\d*|[-+/%&|^~()<>\s]|\*(?!\*))*")
FUNCTIONS = "sin cos tan sec csc cot sinh cosh tanh asin acos atan exp log ln sqrt pi Abs Integral"
NAMES = {*FUNCTIONS.split()}
NOTHING = re.compile(r"(?<![A-Za-z])(?:nan|inf|infinity|Integral)[ij]?(?![A-Za-z])", re.IGNORECASE)
LONGEST = 2_000
MOST_DIGITS = 10_000  # of any number, or degree, on the way


def score(question: list[Any]) -> float:
    """The generator's score of a text. `question`: generator, options, entry (pickled by our own
    parent, in base64), text. Raises what its scorer raises."""
    generator, options, pickled, text = question
    dataset = _dataset(generator, tuple(sorted(options.items())))
    entry = pickle.loads(base64.b64decode(pickled))
    gold = str(entry["answer"])
    if generator == "game_of_life_halting":
        return float(text.strip().lower() == gold.lower())
    if any(found not in gold for found in NOTHING.findall(text)):
        return 0.0
    return float(dataset.score_answer(text, entry))


@cache
def _dataset(generator: str, options: tuple[tuple[str, Any], ...]) -> Any:
    _guard()
    return reasoning_gym.create_dataset(generator, **dict(options), seed=1, size=10)


def _guard() -> None:
    """Put the guarded functions where the scorers look them up; sympy's own work is its own."""
    sympy.parse_expr = guarded_parse
    for name, module in list(sys.modules.items()):
        if name.startswith("reasoning_gym."):
            vars(module)["eval"] = guarded_eval
            if vars(module).get("parse_expr") is _parse:
                vars(module)["parse_expr"] = guarded_parse


_parse = sympy.parse_expr


def guarded_eval(text: str, *_: Any) -> Any:
    """A literal, or arithmetic without powers; ValueError for anything else."""
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        if len(text) > LONGEST or not ARITHMETIC.fullmatch(text):
            raise ValueError("not a literal") from None
    _check_digits(text)
    return builtins.eval(text, {"__builtins__": {}})


def guarded_parse(text: str, *given: Any, **options: Any) -> Any:
    """sympy's `parse_expr` of a formula; ValueError for what holds anything but one."""
    names = {*re.findall(r"[A-Za-z]\w*", text)}
    odd = {name for name in names if len(name) > 1 and name not in NAMES}
    if len(text) > LONGEST or odd or not FORMULA.fullmatch(text):
        raise ValueError("not a formula")
    _check_digits(text)
    return _parse(text, *given, **options)


def _check_digits(text: str) -> None:
    """Raises ValueError for what is no expression, or gets too large when it is worked out."""
    try:
        _digits(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, MemoryError, RecursionError, OverflowError) as error:
        raise ValueError("no expression that can be worked out") from error


def _digits(node: ast.AST) -> float:
    """How many digits the value has at most, before or behind the point; a variable counts one."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return abs(math.log10(abs(node.value))) if node.value else 0.0
    parts = [_digits(part) for part in ast.iter_child_nodes(node)]
    found = sum(parts, 0.5)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow | ast.LShift):
        left, right = _digits(node.left), _digits(node.right)
        grows = not any(isinstance(part, ast.Name) for part in ast.walk(node.right))  # x**x stays
        times = 10 ** min(right, 9.0) if grows else 1.0
        found = left + times if isinstance(node.op, ast.LShift) else max(left, 1.0) * times
    if isinstance(node, ast.Name):
        found = 1.0
    if found > MOST_DIGITS:
        raise ValueError("too large")
    return found
