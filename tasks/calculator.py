"""Arithmetic with numbers of two to four digits, and a calculator to do it with.

A small model cannot multiply 347 by 582, and need not: it is enough that it writes down what is to
be worked out, reads the result and says it. Which of these goes wrong is told by the class. The
problems of train, dev and test have no number in common, so that what is learned is the use of the
tool; three digits are the rule, two and four are asked on test to see how far it carries.
"""

from __future__ import annotations

import ast
import operator
import random
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from tasks.scorers import read_number
from tasks.text import MAX_CHARS, shorten
from tasks.tools import Call, calling, calls_of, misused, unanswered
from tasks.types import Example, Score, SplitName, Task, Transcript

SEED = 9
SIZES: Mapping[SplitName, Mapping[int, int]] = {  # digits: problems
    "train": {2: 120, 3: 480},
    "dev": {2: 20, 3: 80},
    "test": {2: 50, 3: 200, 4: 50},
}
SHARES = {"train": 0.6, "dev": 0.15, "test": 0.25}  # of the numbers there are
FORMS = ("symbols", "words", "spelled")
WORDINGS = {
    "+": ("What is {a} plus {b}?", "Add {b} to {a}."),
    "-": ("What is {a} minus {b}?", "Subtract {b} from {a}."),
    "*": ("What is {a} times {b}?", "Multiply {a} by {b}."),
}
OPERATIONS = {"+": "addition", "-": "subtraction", "*": "multiplication"}
ONES, TENS = (
    words.split()
    for words in (
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
        "fifteen sixteen seventeen eighteen nineteen",
        "twenty thirty forty fifty sixty seventy eighty ninety",
    )
)

LONGEST = 200  # characters of an expression
LARGEST = 10**40
MOST_POWER = 64
SIGNS = str.maketrans({"×": "*", "÷": "/", "−": "-"})  # noqa: RUF001
DO: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}

FAILURES = {
    "no_call": "The calculator was not asked, and the number is another one.",
    "malformed_call": "The last call cannot be read: no JSON, or no end.",
    "bad_call": "The last call names no tool there is, or gives it other arguments than it takes.",
    "tool_error": "The last expression is none that the calculator can work out.",
    "wrong_expression": "The calculator was asked something else.",
    "ignored_result": "The calculator said the right number and the answer is another one.",
    "too_many_calls": "Still a call in the last turn that was allowed.",
    "wrong_number": "Another number (without tools).",
    "no_number": "The answer holds no number.",
}


def calculator(expression: str) -> str:
    """Works out an arithmetic expression.

    Args:
        expression: such as 12 * (3 + 4)
    """
    if len(expression) > LONGEST:
        raise ValueError(f"{len(expression)} characters; {LONGEST} at most")
    try:
        with warnings.catch_warnings(action="ignore"):  # Python's on "1if 1else 2" and the like
            tree = ast.parse(expression.translate(SIGNS).strip(), mode="eval")
        value = _value(tree.body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        told = "no arithmetic expression" if isinstance(error, SyntaxError) else str(error)
        raise ValueError(told) from None
    except (ArithmeticError, TypeError) as error:
        raise ValueError(str(error) or "cannot be worked out") from None
    whole = isinstance(value, int) or value.is_integer()
    return str(int(value)) if whole else f"{value:.15g}"


def _value(node: ast.AST) -> int | float:
    """Numbers and operations on them, nothing else; raises ValueError. Never grows large."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        value: Any = node.value
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        inner = _value(node.operand)
        value = -inner if isinstance(node.op, ast.USub) else inner
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        base, power = _value(node.left), _value(node.right)
        if abs(power) > MOST_POWER:
            raise ValueError(f"a power above {MOST_POWER}")
        value = base**power
    elif isinstance(node, ast.BinOp) and type(node.op) in DO:
        value = DO[type(node.op)](_value(node.left), _value(node.right))
    else:
        raise ValueError("only numbers, + - * / // % ** and parentheses")
    if not isinstance(value, int | float) or not abs(value) < LARGEST:
        raise ValueError("a number too large")
    return value


class Calculator(Task):
    """600 train, 100 dev and 300 test problems; `meta` has operation, digits and form."""

    name = "calculator"
    instruction = "Work out the result. Answer with the number alone."
    inputs = ("problem",)
    output = "result"
    failure_classes = FAILURES
    format_failures = ("malformed_call", "bad_call", "no_number")
    tools = (calculator,)
    max_turns = 3

    def split(self, name: SplitName) -> Sequence[Example]:
        return _build_split(name)

    def score(self, example: Example, text: str) -> Score:
        said = _number(text)
        if said == example.answer:
            return Score(1.0, True, answer=example.answer)
        failure = "wrong_number" if said else "no_number"
        return _wrong(example, failure, said or text)

    def score_transcript(self, example: Example, transcript: Transcript) -> Score:
        text = str(transcript[-1]["content"])
        said = None if unanswered(transcript) else _number(text)
        if said == example.answer:
            return Score(1.0, True, answer=example.answer)
        failure = _classify(example, calls_of(transcript), transcript)
        return _wrong(example, failure, said or text)

    def demonstration(self, example: Example) -> Transcript:
        call = calling("calculator", expression=example.meta["expression"])
        return [call, {"role": "assistant", "content": example.answer}]


def _classify(example: Example, calls: Sequence[Call], transcript: Transcript) -> str:
    if failure := misused(transcript):
        return failure
    if any(call.error is None and call.result == example.answer for call in calls):
        return "ignored_result"
    error = calls[-1].error
    if error is None:
        return "wrong_expression"
    return error if error in FAILURES else "bad_call"


def _wrong(example: Example, failure: str, said: str) -> Score:
    expression, right = example.meta["expression"], example.answer
    why = {
        "no_call": "Call the calculator",
        "malformed_call": "The call cannot be read; write it as the instructions show",
        "bad_call": 'Call "calculator" with "expression"',
        "tool_error": "The calculator could not work that out",
        "wrong_expression": "The calculator was asked something else",
        "ignored_result": "The calculator had the right number; say that one",
        "too_many_calls": "Say the number once the calculator has told it",
        "wrong_number": "Another number",
        "no_number": "There is no number in the answer",
    }[failure]
    return Score(0.0, False, failure, f"{why}: {expression} is {right}.", shorten(said))


def _number(text: str) -> str | None:
    """The last number of a text as the calculator would write it."""
    found = read_number(text[-MAX_CHARS:])
    if found is None or not abs(found[0]) < LARGEST:
        return None
    value, percent = found
    return f"{value:.15g}%" if percent else str(int(value)) if value.is_integer() else f"{value}"


@cache
def _build_split(name: SplitName) -> tuple[Example, ...]:
    rng = random.Random(f"{SEED}/{name}")
    kinds = [
        (digits, form, sign)
        for digits, count in SIZES[name].items()
        for form, sign in _evenly([(f, s) for f in FORMS for s in OPERATIONS], count)
    ]
    rng.shuffle(kinds)
    seen: set[str] = set()
    return tuple(_build_example(rng, name, seen, *kind) for kind in kinds)


def _evenly(kinds: Sequence[tuple[str, str]], count: int) -> list[tuple[str, str]]:
    return [kinds[i % len(kinds)] for i in range(count)]


def _build_example(
    rng: random.Random, split: SplitName, seen: set[str], digits: int, form: str, sign: str
) -> Example:
    numbers = _numbers(digits)[split]
    while True:
        a, b = rng.sample(numbers, 2)
        expression = f"{a} {sign} {b}"
        if expression not in seen and (sign != "-" or a > b):
            break
    seen.add(expression)
    wording = "{a} {sign} {b}" if form == "symbols" else rng.choice(WORDINGS[sign])
    shown = {"a": spelled(a), "b": spelled(b)} if form == "spelled" else {"a": a, "b": b}
    meta = {
        "operation": OPERATIONS[sign],
        "digits": digits,
        "form": form,
        "expression": expression,
    }
    name = re.sub(r"\W+", "", expression.translate(str.maketrans("+-*", "pmt")))
    problem = wording.format(sign=sign, **shown)
    answer = calculator(expression)
    return Example(f"{form}-{name}", {"problem": problem}, answer, meta)


@cache
def _numbers(digits: int) -> dict[str, list[int]]:
    """The numbers of so many digits, dealt to the splits."""
    numbers = list(range(10 ** (digits - 1), 10**digits))
    random.Random(f"{SEED}/{digits}").shuffle(numbers)
    dealt, start = {}, 0
    for split, share in SHARES.items():
        stop = start + round(share * len(numbers))
        dealt[split], start = numbers[start:stop], stop
    return dealt


def spelled(number: int) -> str:
    """A number below 10,000 in English words."""
    if number < 20:
        return ONES[number]
    if number < 100:
        ten, one = divmod(number, 10)
        return TENS[ten - 2] + (f"-{ONES[one]}" if one else "")
    size, word = (100, "hundred") if number < 1000 else (1000, "thousand")
    many, rest = divmod(number, size)
    return f"{ONES[many]} {word}" + (f" {spelled(rest)}" if rest else "")
