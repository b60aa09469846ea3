"""Arms that pick one of n answers, on the tiny model: in the same tables, at n times the price."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from experiments.cli import main
from experiments.plan import make_plan
from experiments.saved import policy_of_arm
from experiments.spec import parse_spec
from reports import load_run
from reports.cost import cost

SMALL: dict[str, Any] = {
    "steps": 2,
    "prompts_per_step": 2,
    "group_size": 4,
    "learning_rate": 1e-2,
    "eval_every": 1,
    "checkpoint_every": 2,
}
SPEC: dict[str, Any] = {
    "name": "picked",
    "task": "letters.py",
    "model": "tiny-random",
    "splits": {"train": 24, "dev": 8, "test": 12},
    "sampling": {"max_tokens": 6},
    "methods": {
        "bootstrap": {"candidates": 1, "dev_examples": 4, "train_examples": 8},
        "grpo": SMALL,
        "best": {"method": "best_of", "n": 6, "reward": "alpha.py:letters"},
        "vote": {"method": "best_of", "n": 3},
    },
    "arms": {
        "zero-shot": [],
        "best": ["best"],
        "grpo": ["grpo"],
        "grpo+best": ["grpo", "best"],
        "prompt+vote": ["bootstrap", "vote"],
    },
}
REWARD = """
def letters(prompts, completions, **columns):
    return [sum(c.isalpha() for c in turns[-1]["content"]) for turns in completions]
"""


def write(folder: Path, task: str, **changes: Any) -> Path:
    (folder / "letters.py").write_text(task)
    (folder / "alpha.py").write_text(REWARD)
    spec = {**SPEC, **changes}
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    return folder / "spec.yaml"


def run(spec: Path, *more: str) -> int:
    return main(["run", str(spec), "--out", str(spec.parent / "runs"), *more])


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, kinds_task: str) -> Path:
    folder = tmp_path_factory.mktemp("picked")
    assert run(write(folder, kinds_task)) == 0
    return folder / "runs/picked"


def test_the_arm_stands_in_the_same_table(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = load_run(done)
    assert found.arm_names == list(SPEC["arms"])
    by_arm = {arm.arm: found.answers[arm.eval] for arm in found.arms}
    assert {len(answers) for answers in by_arm.values()} == {12}  # one record an example
    # more letters are paid, and more letters are the score: the reward has picked by them
    assert by_arm["best"]["score"].mean() > by_arm["zero-shot"]["score"].mean()
    for table in ("summary", "pairs", "cost", "failures", "samples", "efficiency"):
        assert main(["report", str(done), "--table", table]) == 0
        assert "best" in capsys.readouterr().out or table == "samples"
    assert main(["answer", str(done)]) == 0
    assert main(["compare", str(done), "grpo", "grpo+best"]) == 0


def test_it_pays_for_all_its_draws(done: Path) -> None:
    found = load_run(done)
    rows = cost(found).set_index(["arm", "purpose"])
    once, six = (rows.loc[(arm, "test")] for arm in ("zero-shot", "best"))
    assert (once["completions"], six["completions"]) == (12, 72)
    assert six["prompt_tokens"] == once["prompt_tokens"]  # the question is read once
    answers = next(found.answers[arm.eval] for arm in found.arms if arm.arm == "best")
    assert answers["completion_tokens"].sum() == six["completion_tokens"]
    stages = next(arm.stages for arm in found.arms if arm.arm == "best")
    assert [found.stages[key].ledger.rollouts for key in stages] == [0]  # nothing to make it


def test_the_policy_is_kept_and_asked_again(
    done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = policy_of_arm(done, "grpo+best")
    assert saved.policy.best_of is not None and saved.policy.adapter is not None
    assert json.loads(saved.policy.best_of.reward).endswith("alpha.py:letters")
    entry = next(e for e in json.loads((done / "arms.json").read_text()) if e["arm"] == "grpo+best")
    told = json.loads((done / "evals" / entry["eval"] / "eval.json").read_text())
    assert told["policy"] == saved.policy.fingerprint()
    kept = (done / "stages" / entry["stages"][-1] / "policy/policy.json").read_text()
    assert str(done.parent.parent) not in kept  # seen from the run folder
    task = done.parent.parent / "letters.py"
    capsys.readouterr()
    assert main(["eval", str(task), "--run", str(done), "--arm", "best", "--limit", "5"]) == 0
    assert "n 5" in capsys.readouterr().out
    assert main(["export", str(done), "best", "--out", str(tmp_path / "out")]) == 0
    readme = (tmp_path / "out/README.md").read_text()
    assert "drew 6 answers" in readme and "alpha.py:letters" in readme
    assert json.loads((tmp_path / "out/generation_config.json").read_text())["do_sample"] is True


def test_a_changed_reward_is_another_arm(
    tmp_path: Path, kinds_task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = write(tmp_path, kinds_task, arms={"zero-shot": [], "best": ["best"]})
    assert run(spec) == 0
    before = {path.name for path in tmp_path.glob("runs/picked/evals/*")}
    assert run(spec) == 0
    assert {path.name for path in tmp_path.glob("runs/picked/evals/*")} == before
    (tmp_path / "alpha.py").write_text(REWARD.replace("sum(", "-sum("))
    task = tmp_path / "letters.py"
    capsys.readouterr()
    words = ["eval", str(task), "--run", str(tmp_path / "runs/picked"), "--arm", "best"]
    assert main(words) == 2
    assert "has changed since the arm was made" in capsys.readouterr().err
    assert run(spec) == 0
    fresh = {path.name for path in tmp_path.glob("runs/picked/evals/*")} - before
    assert len(fresh) == 1 and len(list(tmp_path.glob("runs/picked/stages/*"))) == 2
    scores = {
        path.parent.name: pd.read_parquet(path)["score"].mean()
        for path in tmp_path.glob("runs/picked/evals/*/records.parquet")
    }
    assert scores[fresh.pop()] == min(scores.values())  # now it picks the worst


def test_seeds_draw_anew(tmp_path: Path, kinds_task: str) -> None:
    assert run(write(tmp_path, kinds_task, arms={"best": ["best"]}, seeds=[0, 1])) == 0
    assert len(list(tmp_path.glob("runs/picked/evals/*"))) == 2


def test_halving_judges_a_paused_arm_by_how_it_will_answer(tmp_path: Path, kinds_task: str) -> None:
    slow = {"method": "grpo", **SMALL, "steps": 6, "learning_rate": 1e-9}
    methods = {**SPEC["methods"], "grpo": {**SMALL, "steps": 6}, "slow": slow}
    arms = {"zero": [], "grpo": ["grpo"], "slow": ["slow"], "grpo+best": ["grpo", "best"]}
    arms["slow+best"] = ["slow", "best"]
    changes = {"budget": {"rollouts": 48}, "allocate": {"halving": {}}}
    assert run(write(tmp_path, kinds_task, arms=arms, methods=methods, **changes)) == 0
    rows = json.loads((tmp_path / "runs/picked/allocation.json").read_text())["rows"]
    first = {row["arm"]: row for row in rows if row["rung"] == 0}
    assert first["grpo"]["rollouts"] == first["grpo+best"]["rollouts"] < 48
    assert first["grpo"]["eval"] != first["grpo+best"]["eval"]
    assert {arm for arm, row in first.items() if row["kept"]} == {"zero", "grpo+best", "slow+best"}


def test_the_plan_says_what_an_answer_takes(
    tmp_path: Path, kinds_task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(write(tmp_path, kinds_task), "--dry-run") == 0
    assert "nothing to train; 6 draws for each answer" in capsys.readouterr().out


def test_attribution_takes_apart_arms_that_move_prompt_and_weights_alone(tmp_path: Path) -> None:
    arms = {
        "both": ["bootstrap", "grpo"],
        "both+best": ["bootstrap", "grpo", "vote"],
    }
    raw = {**SPEC, "arms": arms, "attribution": True, "task": "inflection"}
    spec = parse_spec(raw, "test")
    from experiments.attribution import crossed

    plan = make_plan(spec, "w", tmp_path)
    assert [arm.name for arm in crossed(spec, plan.arms)] == ["both"]


MISTAKES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "not the last one": ({"arms": {"a": ["vote", "grpo"]}}, ["arms.a", "vote", "as the last one"]),
    "twice": ({"arms": {"a": ["vote", "best"]}}, ["arms.a", "once"]),
    "one draw": ({"methods": {"best_of": {"n": 1}}}, ["methods.best_of.n", "2"]),
    "greedy": ({"methods": {"best_of": {"temperature": 0}}}, ["methods.best_of.temperature"]),
    "gold": (
        {"methods": {"best_of": {"reward": "task"}}, "arms": {"a": ["best_of"]}},
        ["best_of", "'task' reads the gold answer", "majority"],
    ),
    "no such reward": (
        {"methods": {"best_of": {"reward": "majorty"}}, "arms": {"a": ["best_of"]}},
        ["majorty"],
    ),
    "attribution of it alone": (
        {"arms": {"a": ["bootstrap", "grpo", "vote"]}, "attribution": True},
        ["attribution", "nothing else"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_line(
    tmp_path: Path, kinds_task: str, capsys: pytest.CaptureFixture[str], mistake: str
) -> None:
    changes, expected = MISTAKES[mistake]
    changes = {**changes, "methods": {**SPEC["methods"], **changes.get("methods", {})}}
    assert run(write(tmp_path, kinds_task, **changes)) == 2
    line = capsys.readouterr().err.strip()
    assert "\n" not in line and all(part in line for part in expected), line
