"""Every arm stops at its budget within one batch, whatever its methods are, also after a kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from experiments.budget import left
from experiments.cli import main
from experiments.plan import Plan, make_plan
from experiments.spec import parse_spec
from experiments.store import RunFolder
from lm.ledger import Caps, Ledger
from reports import budget, load_run

STEP = 8  # rollouts of a grpo step
SPEC: dict[str, Any] = {
    "name": "matched",
    "task": "letters.py",
    "model": "tiny-random",
    "price_per_hour": 3.6,
    "splits": {"train": 24, "dev": 8, "test": 12},
    "sampling": {"max_tokens": 6},
    "methods": {
        "bootstrap": {"candidates": 1, "dev_examples": 4, "train_examples": 8},
        "grpo": {"steps": 9, "prompts_per_step": 2, "group_size": 4, "learning_rate": 1e-2}
        | {"eval_every": 2, "checkpoint_every": 2},
        "sft": {"steps": 2, "rows_per_step": 4},
    },
    "arms": {
        "zero-shot": [],
        "grpo": ["grpo"],
        "prompt": ["bootstrap"],
        "prompt+grpo": ["bootstrap", "grpo"],
        "capped+grpo": [{"bootstrap": {"rollouts": 8}}, "grpo"],
        "grpo+sft": ["grpo", "sft"],
    },
    "budget": {"rollouts": 30},
}


def written(folder: Path, task: str, **changes: Any) -> list[str]:
    (folder / "letters.py").write_text(task)
    (folder / "spec.yaml").write_text(yaml.safe_dump({**SPEC, **changes}, sort_keys=False))
    return ["run", str(folder / "spec.yaml"), "--out", str(folder / "runs")]


@pytest.fixture(scope="module")
def matched(tmp_path_factory: pytest.TempPathFactory, kinds_task: str) -> Path:
    folder = tmp_path_factory.mktemp("matched")
    assert main(written(folder, kinds_task)) == 0
    return folder / "runs/matched"


def spent(run: Path) -> dict[str, list[int]]:
    """Rollouts of each stage of each arm."""
    return {
        entry["arm"]: [
            Ledger.from_json((run / "stages" / key / "ledger.json").read_text()).rollouts
            for key in entry["stages"]
        ]
        for entry in json.loads((run / "arms.json").read_text())
    }


def test_every_arm_stops_within_a_batch(matched: Path) -> None:
    found = spent(matched)
    assert found["grpo"] == [32]  # 30 would have ended within the fourth step
    assert found["grpo+sft"] == [32, 0]
    assert sum(found["prompt"]) <= 30  # prompt methods stop in front of what would be too much
    assert found["prompt+grpo"][0] == found["prompt"][0]
    for arm in ("prompt+grpo", "capped+grpo"):
        assert 30 <= sum(found[arm]) < 30 + STEP, arm
    assert found["capped+grpo"][0] <= 8 and found["capped+grpo"][1] == 24  # of 22 that are left
    ledgers = [json.loads(p.read_text()) for p in matched.glob("stages/*/ledger.json")]
    assert sum(ledger["optimizer_steps"] == 2 for ledger in ledgers) >= 1  # sft, which draws none


def test_the_table_says_used_and_given(matched: Path) -> None:
    frame = budget(load_run(matched)).set_index("arm")
    assert set(frame["limit"]) == {"rollouts"} and set(frame["budget"]) == {30.0}
    assert "zero-shot" not in frame.index
    assert frame.loc["grpo", "used"] == 32 and frame.loc["grpo", "used_share"] == 32 / 30
    assert frame["used"].to_dict() == {arm: sum(n) for arm, n in spent(matched).items() if n}


def test_a_run_notes_size_price_and_peak(matched: Path) -> None:
    told = json.loads((matched / "run.json").read_text())
    assert told["parameters"] > 10_000 and told["price_per_hour"] == 3.6
    for path in matched.glob("stages/*/ledger.json"):
        assert 10**7 < json.loads(path.read_text())["peak_bytes"] < 10**11


def test_a_price_told_later_is_in_the_report(
    matched: Path, kinds_task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {p: p.stat().st_mtime_ns for p in matched.rglob("DONE")}
    assert main(written(matched.parent.parent, kinds_task, price_per_hour=7.2)) == 0
    assert before == {p: p.stat().st_mtime_ns for p in matched.rglob("DONE")}
    assert json.loads((matched / "run.json").read_text())["price_per_hour"] == 7.2
    capsys.readouterr()
    assert main(["report", str(matched), "--table", "cost", "--format", "csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    at = lines[0].replace('"', "").split(",").index("dollars")
    assert all(float(line.split(",")[at]) >= 0 for line in lines[1:] if '"zero-shot"' in line)


def test_stopped_again_and_again_it_ends_as_undisturbed(
    matched: Path, tmp_path: Path, kinds_task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every seventh model call is the last of its process; in the end as much is spent."""
    arms = {arm: SPEC["arms"][arm] for arm in ("zero-shot", "prompt+grpo", "capped+grpo")}
    words, whole, made = written(tmp_path, kinds_task, arms=arms), Ledger.add, []

    def add(self: Ledger, *args: Any, **figures: Any) -> None:
        made.append(args)
        if len(made) % 7 == 0:
            raise KeyboardInterrupt
        whole(self, *args, **figures)

    monkeypatch.setattr(Ledger, "add", add)
    kills = 0
    while main(words) == 130:
        kills += 1
        made.clear()
        assert kills < 20
    assert kills >= 2
    run = tmp_path / "runs/matched"
    for arm in ("prompt+grpo", "capped+grpo"):
        assert spent(run)[arm] == spent(matched)[arm]
        assert answers(run, arm) == answers(matched, arm)


def answers(run: Path, arm: str) -> str:
    [entry] = [e for e in json.loads((run / "arms.json").read_text()) if e["arm"] == arm]
    frame = pd.read_parquet(run / "evals" / entry["eval"] / "records.parquet")
    return frame.drop(columns="seconds").to_json()


def planned(tmp_path: Path, **changes: Any) -> Plan:
    return make_plan(parse_spec({**SPEC, **changes}, "spec"), "world", tmp_path)


def test_keys_hang_on_the_budget_and_are_todays_without(tmp_path: Path) -> None:
    def keys(**changes: Any) -> list[str]:
        return [stage.key for stage in planned(tmp_path, **changes).stages]

    small, large, none = keys(), keys(budget={"rollouts": 31}), keys(budget=None)
    assert not {*small} & {*large} and not {*small} & {*none}
    # as printed by the commit before budgets came
    assert none[0] == "9e35f0c5de1b0a4a"


def test_what_is_left_is_what_the_stages_before_did_not_spend(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    stage = next(s for s in planned(tmp_path).stages if s.parent and s.step.name == "grpo")
    assert stage.parent is not None
    paid = Ledger()
    paid.add("metric", completions=4, prompt_tokens=10, completion_tokens=5, seconds=1.5)
    paid.add("eval", completions=9, prompt_tokens=9, completion_tokens=9, seconds=9.0)
    paid.add_training(tokens=100, steps=1, seconds=1.0)
    folder.stage(stage.parent.key).mkdir(parents=True)
    (folder.stage(stage.parent.key) / "ledger.json").write_text(paid.to_json())
    assert left(folder, stage, Caps(30, 100, 3.0)) == Caps(26, 85, 0.5)
    assert left(folder, stage, Caps(rollouts=3)) == Caps(rollouts=0)
    assert left(folder, stage.parent, Caps(30, 100, 3.0)) == Caps(30, 100, 3.0)
    assert Caps(5, None, 2.0).within(Caps(7, 9, 1.0)) == Caps(5, 9, 1.0)


def test_a_dry_run_says_how_a_budget_is_shared_out(
    tmp_path: Path, kinds_task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*written(tmp_path, kinds_task, budget={"rollouts": 30}), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "budget: each arm at most 30 rollouts; its methods take of it in their order" in shown
    first, second = (
        next(s for s in planned(tmp_path).stages if s.step.name == name and bool(s.parent) == later)
        for name, later in (("bootstrap", False), ("grpo", True))
    )
    wanted = first.expected_rollouts()
    assert wanted == 4 * 4 + 8
    assert (first.expected_rollouts(30), second.expected_rollouts(30)) == (24, 6)
    assert (first.expected_rollouts(20), second.expected_rollouts(20)) == (20, 0)
    assert (second.expected_rollouts(1000), second.expected_rollouts()) == (72, 72)


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        (5000, ["budget", "{rollouts: 5000}"]),
        ({}, ["budget", "{rollouts: 5000}"]),
        ({"rolouts": 3}, ["budget.rolouts", "did you mean 'rollouts'"]),
        ({"rollouts": 0}, ["budget.rollouts"]),
        ({"rollouts": 7}, ["budget: 7 rollouts", "bootstrap", "4 dev", "write 8 or more"]),
    ],
)
def test_bad_budgets(
    tmp_path: Path,
    kinds_task: str,
    capsys: pytest.CaptureFixture[str],
    given: Any,
    parts: list[str],
) -> None:
    assert main(written(tmp_path, kinds_task, budget=given)) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert all(part in line for part in parts), line
