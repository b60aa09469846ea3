"""A user's own DSPy program through the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from evaluation.records import read_records
from evaluation.types import Policy
from experiments.cli import main
from prompt_opt.bootstrap import Bootstrap
from prompt_opt.program import kept_program
from prompt_opt.state import State
from tasks.inflection import Inflection
from tasks.types import Prompt
from tests.experiments.test_bad_input import refused

CODE = '''
import dspy

class Think(dspy.Signature):
    """Think about the verb."""
    verb: str = dspy.InputField()
    hint: str = dspy.OutputField()

class Answer(dspy.Signature):
    """Give the past tense."""
    verb: str = dspy.InputField()
    past: str = dspy.OutputField()

class Forgiving(dspy.ChatAdapter):
    """The tiny model writes noise; whatever it writes is the answer."""
    def parse(self, signature, completion):
        return dict.fromkeys(signature.output_fields, completion)

class Two(dspy.Module):
    def __init__(self):
        super().__init__()
        self.think, self.answer = dspy.Predict(Think), dspy.Predict(Answer)

    def forward(self, verb):
        with dspy.context(adapter=Forgiving()):
            if len(verb) % 3 == 0:
                raise ValueError("bad length")
            hint = self.think(verb=verb).hint
            return self.answer(verb=f"{verb}, {hint}")

Strict = lambda: dspy.Predict("verb -> past")

class One(dspy.Module):
    def __init__(self):
        super().__init__()
        self.step = dspy.ChainOfThought(Answer)

    def forward(self, verb):
        return self.step(verb=verb)

number = 3
'''
SMALL = {"dev_examples": 6, "train_examples": 8}
GRPO = {"steps": 1, "prompts_per_step": 2, "group_size": 2}
SPEC: dict[str, Any] = {
    "name": "own",
    "task": "inflection",
    "model": "tiny-random",
    "splits": {"train": 16, "dev": 8, "test": 12},
    "sampling": {"max_tokens": 4},
    "methods": {
        "two": {"method": "bootstrap", "candidates": 1, "program": "mine.py:Two", **SMALL},
        "one": {"method": "bootstrap", "candidates": 1, "program": "mine.py:One", **SMALL},
        "gepa": {"metric_calls": 20, **SMALL},
        "knn": SMALL,
        "grpo": GRPO,
    },
    "arms": {
        "zero-shot": [],
        "two": ["two"],
        "two+gepa": ["two", "gepa"],
        "grpo+two": ["grpo", "two"],
        "one": ["one"],
        "one+grpo": ["one", "grpo"],
    },
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec").mkdir()
    (tmp_path / "spec/mine.py").write_text(CODE)
    return tmp_path


def written(folder: Path, **changes: Any) -> str:
    path = folder / "spec/spec.yaml"
    path.write_text(yaml.safe_dump({**SPEC, **changes}, sort_keys=False))
    return str(path)


def test_programs_in_a_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", written(folder)]) == 0
    run = folder / "runs/own"
    assert (run / "task/two/mine.py").read_text() == CODE
    arms = {row["arm"]: row for row in json.loads((run / "arms.json").read_text())}
    records = {
        name: read_records(run / "evals" / row["eval"] / "records.parquet")
        for name, row in arms.items()
    }
    for name in ("two", "two+gepa", "grpo+two"):
        kept = run / "stages" / arms[name]["stages"][-1] / "program"
        assert sorted(p.name for p in kept.iterdir() if p.is_file()) == [
            "mine.py",
            "program.json",
            "state.json",
        ]
        short = [r for r in records[name] if len(json.loads(r.inputs)["verb"]) % 3 == 0]
        assert short and {r.failure for r in short} == {"error"}
        assert all("bad length" in r.feedback for r in short)
        assert {r.failure for r in records[name]} != {"error"}
        ledger = json.loads((run / "evals" / arms[name]["eval"] / "ledger.json").read_text())
        assert set(ledger["usage"]) == {"eval"}
        assert ledger["usage"]["eval"]["completions"] > 12
    policy = run / "stages" / arms["one+grpo"]["stages"][0] / "policy/prompt.json"
    prompt = json.loads(policy.read_text())
    assert (prompt["instruction"], prompt["style"]) == ("Give the past tense.", "cot")
    capsys.readouterr()
    before = {p: p.read_bytes() for p in run.rglob("*.parquet")}
    assert main(["run", written(folder)]) == 0  # nothing is missing
    assert before == {p: p.read_bytes() for p in run.rglob("*.parquet")}
    for words in (
        ["report", "runs/own"],
        ["compare", "runs/own", "zero-shot", "two"],
        ["failures", "runs/own", "--arm", "two+gepa"],
        ["eval", "inflection", "--run", "runs/own", "--arm", "two", "--limit", "4"],
    ):
        assert main(words) == 0, words
    assert "score " in capsys.readouterr().out
    line = refused(capsys, "export", "runs/own", "two", "--out", "out")
    assert "program of several steps" in line and "stages/" in line
    assert main(["export", "runs/own", "one", "--out", "out"]) == 0


def test_attribution_takes_the_program_for_the_prompt(folder: Path) -> None:
    arms = {"zero-shot": [], "grpo+two": ["grpo", "two"]}
    assert main(["run", written(folder, arms=arms, attribution=True)]) == 0
    run = folder / "runs/own"
    [_, arm] = json.loads((run / "arms.json").read_text())
    bad = {}
    for cell, key in arm["cells"].items():
        records = read_records(run / "evals" / key / "records.parquet")
        bad[cell] = any("bad length" in record.feedback for record in records)
    assert bad == {"base": False, "prompt": True, "weights": False, "both": True}
    assert main(["report", "runs/own", "--table", "attribution"]) == 0


def test_a_changed_program_is_another_stage(folder: Path) -> None:
    spec = written(folder, arms={"two": ["two"]})
    keys = []
    for code in (CODE, CODE.replace("Think about", "Look at")):
        (folder / "spec/mine.py").write_text(code)
        out = str(folder / f"out{len(keys)}")
        assert main(["run", spec, "--out", out]) == 0
        keys += [p.name for p in Path(out).glob("own/stages/*")]
    assert len(set(keys)) == 2


def test_the_readme_snippet(folder: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    [snippet] = re.findall(r"```yaml\n(methods: .*my_program.*)\n```", readme)
    (folder / "spec/my_program.py").write_text(CODE.replace("class Two(", "class Solve("))
    methods = {name: {**SMALL, **row} for name, row in yaml.safe_load(snippet)["methods"].items()}
    assert main(["run", written(folder, methods=methods, arms={"mine": ["mine"]})]) == 0
    assert list(folder.glob("runs/own/stages/*/program/my_program.py"))


@pytest.mark.parametrize("place", ["instruction", "demo", "step", "honest"])
def test_a_program_that_leaks(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    secret, known = Inflection().split("test")[1], Inflection().split("train")[1]
    past, frame, honest = secret.answer, Prompt.of(Inflection()), Bootstrap.improve
    moves: dict[str, tuple[str, str, Any]] = {
        "instruction": ("think", "signature", f"Like {secret.id} -> {past}."),
        "demo": ("answer", "demos", {**secret.inputs, "past": past}),
        "step": ("answer", "demos", {"verb": f"{secret.id}, {past}", "past": past}),
        "honest": ("answer", "demos", {"verb": f"{known.id}, {known.answer}", "past": "so"}),
    }

    def leak(self: Bootstrap, policy: Policy, *given: Any) -> Policy:
        after = honest(self, policy, *given)
        assert after.program is not None
        source, (step, part, what) = kept_program(after.program, frame), moves[place]
        steps = json.loads(source.state.to_json())
        steps[step][part] = (
            {**steps[step][part], "instructions": what} if part != "demos" else [what]
        )
        source.save(after.program, State.of(steps))
        return after

    monkeypatch.setattr(Bootstrap, "improve", leak)
    spec = written(folder, arms={"two": ["two"]})
    if place == "honest":
        assert main(["run", spec]) == 0
    else:
        line = refused(capsys, "run", spec)
        assert f'test example "{secret.id}"' in line and "two" in line, line
        assert not list(folder.glob("runs/own/stages/*/DONE"))


def with_program(name: str, method: str = "bootstrap") -> dict[str, Any]:
    methods = {"mine": {"method": method, "program": name, **SMALL}}
    return {"methods": methods, "arms": {"mine": ["mine"]}}


MISTAKES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no file": (with_program("nine.py:Two"), ["nine.py: no such file"]),
    "no name": (with_program("mine.py"), ["methods.mine", "my_program.py:Solve"]),
    "no such name": (with_program("mine.py:Too"), ["mine.py", "'Too'", "Two"]),
    "no module": (with_program("mine.py:number"), ["is a int, no dspy.Module"]),
    "other fields": (
        {**with_program("mine.py:Two"), "task": "bikeshare"},
        ["mine.py:Two", "match them"],
    ),
    "knn": (with_program("mine.py:Two", "knn"), ["knn: needs a prompt"]),
    "knn behind it": ({"arms": {"a": ["two", "knn"]}}, ["knn: needs a prompt", "mine.py"]),
    "training behind it": ({"arms": {"a": ["two", "grpo"]}}, ["grpo: needs a prompt"]),
    "training far behind it": (
        {"arms": {"a": ["two", "gepa", "grpo"]}},
        ["grpo: needs a prompt", "mine.py", "several steps"],
    ),
    "a second one": ({"arms": {"a": ["one", "two"]}}, ["arms.a", "give the program to one"]),
    "a style": (
        {"methods": {"gepa": {"program": "mine.py:One", "style": "cot"}}, "arms": {"a": ["gepa"]}},
        ["methods.gepa", "leave style out"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(folder: Path, capsys: pytest.CaptureFixture[str], mistake: str) -> None:
    changes, parts = MISTAKES[mistake]
    line = refused(capsys, "run", written(folder, **changes))
    assert all(part in line for part in parts), line
    assert not list(folder.glob("runs/*/stages/*"))


def test_a_program_that_always_raises(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "spec/mine.py").write_text(CODE.replace("len(verb) % 3 == 0", "verb"))
    line = refused(capsys, "run", written(folder, arms={"two": ["two"]}))
    assert "mine.py:Two: raised on all 6 dev examples" in line and "bad length" in line
