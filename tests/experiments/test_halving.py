"""Successive halving over arms: who goes on, that a pause loses nothing, and what stays shut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from experiments.allocation import BudgetSpec, HalvingSpec, Rung, rungs, share
from experiments.cli import main
from experiments.halving import _plan
from experiments.prepare import prepare
from experiments.spec import load_spec
from lm.ledger import BudgetExhausted, Caps, Ledger, Paused
from reports import allocation, budget, load_run, report_markdown, summary

GRPO = {"steps": 12, "prompts_per_step": 2, "group_size": 4, "eval_every": 1, "checkpoint_every": 2}
SPEC: dict[str, Any] = {
    "name": "halved",
    "task": "letters.py",
    "model": "tiny-random",
    "splits": {"train": 24, "dev": 8, "test": 12},
    "sampling": {"max_tokens": 6},
    "methods": {
        "bootstrap": {"candidates": 1, "dev_examples": 4, "train_examples": 8},
        "quick": {"method": "grpo", **GRPO, "learning_rate": 1e-2},
        "still": {"method": "grpo", **GRPO, "learning_rate": 1e-9},
    },
    "arms": {
        "zero-shot": [],
        "still": ["still"],
        "quick": ["quick"],
        "prompt+quick": ["bootstrap", "quick"],
        "prompt": ["bootstrap"],
    },
    "budget": {"rollouts": 64},
    "allocate": "halving",
}


def written(folder: Path, task: str, **changes: Any) -> list[str]:
    (folder / "letters.py").write_text(task)
    (folder / "spec.yaml").write_text(yaml.safe_dump({**SPEC, **changes}, sort_keys=False))
    return ["run", str(folder / "spec.yaml"), "--out", str(folder / "runs")]


@pytest.fixture(scope="module")
def halved(tmp_path_factory: pytest.TempPathFactory, kinds_task: str) -> Path:
    folder = tmp_path_factory.mktemp("halved")
    assert main(written(folder, kinds_task)) == 0
    return folder / "runs/halved"


def rows(run: Path) -> list[dict[str, Any]]:
    return json.loads((run / "allocation.json").read_text())["rows"]


def test_each_decision_follows_from_the_scores(halved: Path) -> None:
    found = rows(halved)
    assert [(row["rung"], row["arm"]) for row in found[:5]] == [(0, arm) for arm in SPEC["arms"]]
    assert sum(row["rung"] == 1 for row in found) == 3 and max(row["rung"] for row in found) == 1
    for rung in (0, 1):
        scored = [row for row in found if row["rung"] == rung and row["arm"] != "zero-shot"]
        best = sorted(scored, key=lambda row: -row["dev_score"])[: len(scored) // 2]
        assert {row["arm"] for row in scored if row["kept"]} == {row["arm"] for row in best}
    assert all(row["kept"] and not row["rollouts"] for row in found if row["arm"] == "zero-shot")
    # one that cannot learn is out at once
    assert not next(row for row in found if row["arm"] == "still")["kept"]


def test_neither_test_nor_the_order_of_arms_undoes_a_decision(halved: Path) -> None:
    folder = halved.parent.parent
    spec = load_spec(folder / "spec.yaml")
    turned = {name: spec.arms[name] for name in reversed(list(spec.arms))}
    other = spec.model_copy(update={"arms": turned})
    plans = {_plan(prepare(one, folder)) for one in (spec, other)}
    fewer = spec.model_copy(update={"splits": spec.splits.model_copy(update={"test": 5})})
    assert plans | {_plan(prepare(fewer, folder))} == {
        json.loads((halved / "allocation.json").read_text())["plan"]
    }
    slower = spec.model_copy(update={"seeds": [1]})
    assert _plan(prepare(slower, folder)) not in plans


def test_a_rung_is_kept_within_a_batch(halved: Path) -> None:
    for row in rows(halved):
        cap = row["budget"].get("rollouts")
        assert cap == {0: 32, 1: 64}[row["rung"]]
        assert row["rollouts"] < cap + 8
        if row["arm"] == "quick":
            assert row["rollouts"] == cap


def test_only_the_winner_and_the_baseline_are_opened_on_test(halved: Path) -> None:
    kept = {row["arm"] for row in rows(halved) if row["rung"] == 1 and row["kept"]}
    arms = json.loads((halved / "arms.json").read_text())
    assert {entry["arm"] for entry in arms} == kept and len(kept) == 2
    tested = [
        p for p in halved.glob("evals/*/eval.json") if json.loads(p.read_text())["split"] == "test"
    ]
    assert {p.parent.name for p in tested} == {entry["eval"] for entry in arms}
    assert json.loads((halved / "run.json").read_text())["test_opened"] == 1


def test_the_report_names_those_dropped(halved: Path) -> None:
    run = load_run(halved)
    frame = allocation(run)
    assert set(frame["arm"]) == set(SPEC["arms"]) and set(frame["decision"]) == {"kept", "dropped"}
    assert frame["drawn"].sum() >= frame.groupby("arm")["rollouts"].max()[["still", "quick"]].sum()
    assert len(summary(run)) == 2 and set(budget(run)["budget"]) == {64.0}
    text = report_markdown(run)
    assert "## Who was given the budget" in text and "| dropped |" in text


def test_the_winner_is_as_if_it_had_never_been_paused(
    halved: Path, tmp_path: Path, kinds_task: str
) -> None:
    """Its stages are those of a plain run under the same budget: same keys, rollouts, answers."""
    arms = json.loads((halved / "arms.json").read_text())
    [winner] = [entry for entry in arms if entry["arm"] != "zero-shot"]
    chosen = {arm: SPEC["arms"][arm] for arm in ("zero-shot", "quick", "prompt+quick")}
    assert winner["arm"] in chosen
    assert main(written(tmp_path, kinds_task, arms=chosen, allocate=None)) == 0
    plain = tmp_path / "runs/halved"
    for key in winner["stages"]:
        one, two = (
            json.loads((r / "stages" / key / "ledger.json").read_text()) for r in (halved, plain)
        )
        assert (
            Ledger.from_json(json.dumps(one)).rollouts == Ledger.from_json(json.dumps(two)).rollouts
        )
        drawn = [r / "stages" / key / "rollouts.parquet" for r in (halved, plain)]
        if drawn[0].exists():
            before, after = map(pd.read_parquet, drawn)
            assert before.to_json() == after.to_json()
    place = f"evals/{winner['eval']}/records.parquet"
    before, after = (
        pd.read_parquet(run / place).drop(columns="seconds") for run in (halved, plain)
    )
    assert before.to_json() == after.to_json()


def test_again_it_decides_nothing_anew_and_elsewhere_the_same(
    halved: Path, tmp_path: Path, kinds_task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (halved / "allocation.json").read_text()
    assert main(written(halved.parent.parent, kinds_task)) == 0
    assert (halved / "allocation.json").read_text() == before

    words, whole, made = written(tmp_path, kinds_task), Ledger.add, []

    def add(self: Ledger, *args: Any, **figures: Any) -> None:
        made.append(args)
        if len(made) == 40:
            raise KeyboardInterrupt
        whole(self, *args, **figures)

    monkeypatch.setattr(Ledger, "add", add)
    assert main(words) == 130
    assert main(words) == 0
    there = [{**row, "drawn": 0} for row in rows(tmp_path / "runs/halved")]
    assert there == [{**row, "drawn": 0} for row in rows(halved)]


def test_rungs_by_hand() -> None:
    two = rungs(HalvingSpec(), BudgetSpec(rollouts=100, seconds=8.0), 4)
    assert two == [Rung(0, 4, 2, Caps(50, None, 4.0)), Rung(1, 2, 1, Caps(100, None, 8.0))]
    assert [(r.arms, r.kept) for r in rungs(HalvingSpec(), BudgetSpec(rollouts=9), 5)] == [
        (5, 3),
        (3, 2),
        (2, 1),
    ]
    assert [r.caps.rollouts for r in rungs(HalvingSpec(eta=3), BudgetSpec(rollouts=90), 9)] == [
        30,
        90,
    ]
    # 4 arms to r, 2 of them on to 2 r: 6 r in all, so that 600 give r = 100
    assert share(HalvingSpec(rollouts=600), 4) == 200
    assert share(HalvingSpec(rollouts=605), 4) == 200
    assert share(HalvingSpec(rollouts=5), 4) == 0


def test_a_pause_is_no_end() -> None:
    ledger = Ledger(Caps(rollouts=10), pause=Caps(rollouts=5, seconds=3.0))
    ledger.add("rollout", completions=5, prompt_tokens=1, completion_tokens=1, seconds=1.0)
    with pytest.raises(Paused):
        ledger.check("rollout")
    ledger.check("eval")
    ledger.check_time()
    ledger.add_training(tokens=1, steps=1, seconds=2.5)
    with pytest.raises(Paused):
        ledger.check_time()
    ledger.add(
        "rollout", completions=5, prompt_tokens=1, completion_tokens=1, seconds=1.0, again=True
    )
    with pytest.raises(BudgetExhausted):  # what ends counts before what pauses
        ledger.check("rollout")
    assert ledger.drawn == 5


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"budget": None}, ["allocate", "budget: {rollouts: 5000}"]),
        ({"allocate": {"halving": {"rollouts": 600}}}, ["not both"]),
        ({"allocate": {"halving": {"rollouts": 3}}, "budget": None}, ["3 rollouts", "write more"]),
        ({"allocate": {"halving": {"eta": 1}}}, ["allocate.halving.eta"]),
        ({"allocate": "halvin"}, ["allocate"]),
        ({"allocate": {"halfing": {}}}, ["halfing", "did you mean 'halving'"]),
        ({"arms": {"zero-shot": [], "quick": ["quick"]}}, ["two arms"]),
        ({"baseline": "quick"}, ["baseline", "zero-shot: []"]),
        ({"budget": {"rollouts": 14}}, ["allocate", "7 rollouts", "still", "after 8 only"]),
        (
            {
                "budget": {"rollouts": 7},
                "arms": {
                    "zero-shot": [],
                    "a": ["bootstrap"],
                    "b": [{"bootstrap": {"style": "cot"}}],
                },
            },
            ["budget: 7 rollouts", "write 8 or more"],
        ),
        ({"attribution": True}, ["attribution", "allocate dropped", "attribution: false"]),
    ],
)
def test_bad_allocations(
    tmp_path: Path,
    kinds_task: str,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    parts: list[str],
) -> None:
    assert main(written(tmp_path, kinds_task, **changes)) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert all(part in line for part in parts), line


def test_a_dry_run_shows_the_rungs(
    tmp_path: Path, kinds_task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = written(tmp_path, kinds_task, budget=None, allocate={"halving": {"rollouts": 600}})
    assert main([*words, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "halving, rung 0: 4 arms up to 100 rollouts each; 2 kept" in shown
    assert "halving, rung 1: 2 arms up to 200 rollouts each; 1 kept" in shown
