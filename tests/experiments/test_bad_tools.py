"""Tools that cannot be used: one clear line, exit code 2, before anything is spent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.experiments.test_acting import SMALL, SPEC, TASK
from tests.experiments.test_bad_input import refused, write_spec

MISTAKES: dict[str, tuple[str, str, list[str]]] = {
    "no docstring": ("'''Looks somewhere.'''", "", ["tools: look: no docstring"]),
    "no type": ("where: str", "where", ["tools: look: parameter where has no type"]),
    "a text": ("(look,)", "'look'", ["tools is 'look'", "tuple of functions"]),
    "no functions": ("(look,)", "(1,)", ["tools is (1,)", "tuple of functions"]),
    "one name twice": ("(look,)", "(look, look)", ["two tools have one name", "rename"]),
    "no turns": ("max_turns = 2", "max_turns = 0", ["max_turns is 0", "such as 4"]),
    "no subclass": ("Sky(Task)", "Sky(Bare)", ['no method "tools_for"', "subclass tasks.Task"]),
    "tools_for that raises": (
        "    max_turns",
        "    def tools_for(self, example): return example.meta['db']\n    max_turns",
        ['tools_for of "sky" failed', "KeyError: 'db'"],
    ),
}
BARE = "from tasks import Example, Score\nclass Bare: inputs, output = ('input',), 'answer'\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def acting(folder: Path, task: str = TASK, **changes: Any) -> str:
    (folder / "sky.py").write_text(task)
    methods = {**SPEC["methods"], "dpo": {**SMALL, "prompts_per_round": 4}}
    return str(write_spec(folder, **{**SPEC, "name": "bad", "methods": methods, **changes}))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_task_mistakes(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    mistake: str,
) -> None:
    before, after, words = MISTAKES[mistake]
    task = (BARE if mistake == "no subclass" else "") + TASK.replace(before, after)
    line = refused(capsys, "run", acting(folder, task, arms={"untouched": []}))
    assert all(word in line for word in words), line


TWO_STEPS = """
import dspy

class Two(dspy.Module):
    def __init__(self):
        super().__init__()
        self.first = dspy.Predict("input -> hint")
        self.second = dspy.Predict("input, hint -> answer")

    def forward(self, input):
        return self.second(input=input, hint=self.first(input=input).hint)
"""


@pytest.mark.parametrize(
    ("step", "who"),
    [
        ("dpo", "dpo"),
        ({"bootstrap": {"program": "two.py:Two"}}, "bootstrap: a program of several steps"),
    ],
)
def test_methods_that_do_not_work_with_tools(
    folder: Path, capsys: pytest.CaptureFixture[str], step: Any, who: str
) -> None:
    (folder / "two.py").write_text(TWO_STEPS)
    line = refused(capsys, "run", acting(folder, arms={"a": [step]}))
    assert f"{who}: does not work with tools yet" in line and "tools: false" in line
