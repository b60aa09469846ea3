"""The whole report.md, for finished, partial and one-armed runs."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pandas as pd
import pytest

from evaluation.types import EvalRecord
from reports import (
    ReportError,
    cost,
    load_run,
    pairs,
    reads,
    report_markdown,
    summary,
    table,
)


def test_the_report_says_what_happened(folder):
    text = report_markdown(load_run(folder))
    assert "Take **shots+grpo**. It scores 90.0 %" in text
    assert "Not evaluated yet, so absent: grpo (seed 0)." in text
    assert "0123abc" in text
    for heading in (
        "Every arm",
        "Every pair",
        "What fails",
        "From zero to shots",
        "Cost",
        "How to",
    ):
        assert f"## {heading}" in text
    for danger in ("\x1b", "\u202e", "<b>", "https://", "w" * 101):
        assert danger not in text


def test_a_baseline_still_missing_leaves_its_columns_empty(folder):
    (folder / "evals/E0/DONE").unlink()
    run = load_run(folder)
    assert run.notes == ("Not evaluated yet, so absent: zero (seed 0), grpo (seed 0).",)
    assert summary(run)["delta"].isna().all()
    text = report_markdown(run)
    assert "what it gained is unknown: **zero** is not evaluated yet" in text
    assert "above **zero**" not in text


def test_records_carry_arm_and_seed(folder):
    frame = load_run(folder).records
    assert list(frame.columns) == ["arm", "seed", *EvalRecord.__annotations__]
    assert frame.groupby("arm")["correct"].sum().to_dict() == {
        "zero": 4,
        "shots": 12,
        "shots+grpo": 18,
    }
    assert frame.index.equals(pd.RangeIndex(60)) and set(frame["seed"]) == {0}


def test_one_arm_alone_makes_a_report(folder):
    arms = json.loads((folder / "arms.json").read_text())
    (folder / "arms.json").write_text(json.dumps(arms[:1]))
    text = report_markdown(load_run(folder))
    assert "Only **zero** has been evaluated yet: 20.0 %" in text
    assert len(table(folder, "pairs", "csv").splitlines()) == 1
    with pytest.raises(ReportError, match="only arm evaluated"):
        table(folder, "flow")


def test_two_seeds_are_one_comparison_and_told_apart_below(folder):
    arms = json.loads((folder / "arms.json").read_text())[:2]
    again = [{**arm, "seed": 1} for arm in arms]
    (folder / "arms.json").write_text(json.dumps([*arms, *again]))
    run = load_run(folder)
    [row] = pairs(run).to_dict("records")
    assert (row["seeds"], row["seed_sd"], row["fixed"], row["broken"]) == (2, 0.0, 9, 1)
    assert row["p_adjusted"] == row["p"]  # a family of one pair, not of two seeds
    text = report_markdown(run)
    assert "All 2 seeds gain (+40.0 to +40.0 points)." in text
    by_seed = text[text.index("## Every seed") :].splitlines()[4:8]
    assert [line.split("|")[2].strip() for line in by_seed] == ["0", "0", "1", "1"]
    assert cost(run)["shared_with"].iloc[0] == "zero (seed 1)"


def test_the_best_arm_may_be_the_baseline(folder):
    info = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**info, "baseline": "shots+grpo"}))
    assert "no arm scores higher" in report_markdown(load_run(folder))
    assert set(flow_kinds(folder)) == {"broken", "fixed", "still", "still-correct"}


def flow_kinds(folder: Path) -> list[str]:
    return list(pd.read_csv(io.StringIO(table(folder, "flow", "csv")))["kind"])


def test_who_was_judged_by_test_more_than_once_is_said(folder):
    assert "Test was read once for each arm." in report_markdown(load_run(folder))
    arms = json.loads((folder / "arms.json").read_text())
    arms[1]["test_reads"] = 3
    arms[2].pop("test_reads")  # folders of before it was counted
    (folder / "arms.json").write_text(json.dumps(arms))
    run = load_run(folder)
    assert reads(run)["test_reads"].tolist() == [1, 3, 1]
    text = report_markdown(run)
    assert "> **Test was read more than once**: 3 times for **shots** (seed 0); once for" in text
    assert "**shots+grpo** (seed 0)" not in text
