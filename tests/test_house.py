"""The plan of the house, held: imports run downward, and light rooms stay light."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

FLOORS = {
    "tasks": 0,
    "lm": 0,
    "evaluation": 1,
    "reward_models": 2,
    "rl": 3,
    "prompt_opt": 3,
    "reports": 3,
    "experiments": 4,
}


def imported_rooms(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names & set(FLOORS)


@pytest.mark.parametrize("room", FLOORS)
def test_imports_run_downward(root: Path, room: str) -> None:
    files = sorted((root / room).rglob("*.py"))
    assert files
    for path in files:
        for other in imported_rooms(path) - {room}:
            assert FLOORS[other] < FLOORS[room], f"{path} imports {other}"


@pytest.mark.parametrize(
    "module",
    ["tasks", "tasks.load", "tasks.check", "reports", "experiments.spec", "experiments.cli", "lm"],
)
def test_light_modules_stay_light(module: str) -> None:
    code = (
        f"import sys, {module}; "
        "print([m for m in ('torch', 'dspy', 'transformers', 'trl') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("room", "foreign"), [("rl", "dspy"), ("prompt_opt", "trl")])
def test_rl_and_prompt_opt_do_not_know_each_others_library(
    root: Path, room: str, foreign: str
) -> None:
    for path in (root / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names.append(node.module or "")
            assert not any(name.split(".")[0] == foreign for name in names), path


def test_help_answers_in_half_a_second() -> None:
    def once() -> float:  # of the processor: the clock says how busy the machine is
        before = os.times()
        subprocess.run(
            [sys.executable, "-m", "experiments.cli", "--help"], capture_output=True, check=True
        )
        after = os.times()
        return sum(after[2:4]) - sum(before[2:4])

    assert min(once() for _ in range(5)) < 0.5


def test_what_is_listed_as_long_exists(root: Path) -> None:
    for line in (root / "tests" / "long.txt").read_text().split():
        file, _, function = line.partition("::")
        assert f"def {function}" in (root / file).read_text(), line
