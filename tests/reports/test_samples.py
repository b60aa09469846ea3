"""Several answers to an example, several seeds, and a margin, in a run folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.passes import pass_at_k
from evaluation.records import read_records, write_records
from experiments.cli import main
from reports import load_run, report_markdown, samples, seeds, summary, table
from reports.samples import SAMPLES
from reports.tables import SEEDS


def again(run: Path, key: str, right: int) -> None:
    """A second and third answer to each example, the first `right` examples' second one right."""
    path = run / "evals" / key / "records.parquet"
    first = read_records(path)
    more = [
        replace(
            row,
            sample=sample,
            score=float(sample == 1 and i < right),
            correct=sample == 1 and i < right,
            failure=None if sample == 1 and i < right else "tense",
        )
        for sample in (1, 2)
        for i, row in enumerate(first)
    ]
    write_records(path, [*first, *more])


def test_mean_at_k_and_pass_at_k_by_hand(folder: Path) -> None:
    again(folder, "E0", right=4)  # 4 of 20 were right once; now 4 examples twice or others once
    frame = samples(load_run(folder))
    assert tuple(frame.columns) == SAMPLES
    assert frame["k"].tolist() == [1, 2, 3] and set(frame["samples"]) == {3}
    assert set(frame["arm"]) == {"zero"}  # the other arms answered once
    assert frame["mean_at_k"].tolist() == pytest.approx([8 / 60] * 3)
    answers = load_run(folder).answers["E0"]
    right = answers.groupby("example_id")["correct"].sum()
    for _, row in frame.iterrows():
        each = pass_at_k(right.to_numpy(), 0 * right.to_numpy() + 3, row["k"])
        assert row["pass_at_k"] == pytest.approx(each.mean())
        assert row["pass_low"] < row["pass_at_k"] < row["pass_high"]
    assert frame["pass_at_k"].iloc[0] == pytest.approx(frame["mean_at_k"].iloc[0])
    text = report_markdown(load_run(folder))
    assert "Several answers to an example" in text and "pass@k" in text


def test_one_answer_each_makes_no_table(folder: Path) -> None:
    assert samples(load_run(folder)).empty
    assert "Several answers" not in report_markdown(load_run(folder))


def test_a_row_for_each_seed_against_the_baseline_at_that_seed(folder: Path) -> None:
    arms = json.loads((folder / "arms.json").read_text())[:2]
    other = [{**arms[0], "seed": 1}, {**arms[1], "seed": 1, "eval": "E2"}]
    (folder / "arms.json").write_text(json.dumps([*arms, *other]))
    run = load_run(folder)
    frame = seeds(run).set_index(["arm", "seed"])
    assert tuple(seeds(run).columns) == SEEDS
    assert frame["delta"].dropna().to_dict() == pytest.approx(
        {("shots", 0): 0.4, ("shots", 1): 0.7}
    )
    shots = summary(run).set_index("arm").loc["shots"]
    assert (shots["seeds"], shots["delta"]) == (2, pytest.approx(0.55))
    assert shots["seed_sd"] == pytest.approx(0.3 / 2**0.5)
    one = frame.loc[("shots", 0)]
    assert shots["delta_low"] < one["delta_low"]  # two seeds 30 points apart say little
    assert shots["p"] > 0.05
    assert "seed sd" in table(folder, "summary", "markdown")


def test_compare_takes_a_margin(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(folder), "zero", "shots", "--margin", "2"]) == 0
    assert "p (worse)" in table(folder, "pairs", "markdown", arms=("zero", "shots"), margin=0.02)
    assert "(worse)" in capsys.readouterr().out
    assert main(["compare", str(folder), "zero", "shots", "--margin", "200"]) == 2
    error = capsys.readouterr().err
    assert "write points between 0 and 100" in error and error.count("\n") == 1
