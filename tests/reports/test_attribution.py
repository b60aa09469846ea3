"""The attribution of a run: figures by hand, what is said of them, and what may be missing."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from evaluation.records import read_records, write_records
from reports import (
    ReportError,
    attribution,
    attribution_in_words,
    cost,
    load_run,
    report_markdown,
    summary,
    table,
)
from reports.attribution import ATTRIBUTION


def copy_eval(run: Path, source: str, key: str, right: int) -> None:
    """An evaluation like `source` in which the first `right` examples are right, no others."""
    shutil.copytree(run / "evals" / source, run / "evals" / key)
    path = run / "evals" / key / "records.parquet"
    records = [
        replace(
            r, score=float(i < right), correct=i < right, failure=None if i < right else "tense"
        )
        for i, r in enumerate(sorted(read_records(path), key=lambda r: r.example_id))
    ]
    write_records(path, records)


def note(run: Path, cells: dict[str, str] | None, index: int = 2) -> None:
    arms = json.loads((run / "arms.json").read_text())
    arms[index]["cells"] = cells
    (run / "arms.json").write_text(json.dumps(arms))


@pytest.fixture
def apart(folder: Path) -> Path:
    """shots+grpo taken apart: base 4 of 20 right, prompt 12, weights 10, both 18."""
    copy_eval(folder, "E2", "W", right=10)
    note(folder, {"base": "E0", "prompt": "E1", "weights": "W", "both": "E2"})
    return folder


def test_the_table_by_hand(apart: Path) -> None:
    frame = attribution(load_run(apart))
    assert tuple(frame.columns) == ATTRIBUTION
    [row] = frame.to_dict("records")
    assert (row["arm"], row["seed"], row["n"]) == ("shots+grpo", 0, 20)
    cells = [row[name] for name in ("base", "tuned_prompt", "tuned_weights", "tuned_both")]
    assert cells == pytest.approx([0.2, 0.6, 0.5, 0.9])
    assert row["weights_effect"] == pytest.approx(((0.5 - 0.2) + (0.9 - 0.6)) / 2)
    assert row["prompt_effect"] == pytest.approx(((0.6 - 0.2) + (0.9 - 0.5)) / 2)
    assert row["interaction_effect"] == pytest.approx(0.9 - 0.6 - 0.5 + 0.2)
    for name in ("weights", "prompt", "interaction"):
        assert row[f"{name}_low"] <= row[f"{name}_effect"] <= row[f"{name}_high"]
        assert 0 < row[f"{name}_p"] <= 1


def test_cells_are_no_arms(apart: Path) -> None:
    run = load_run(apart)
    assert summary(run)["arm"].tolist() == ["zero", "shots", "shots+grpo"]
    assert run.notes == ("Not evaluated yet, so absent: grpo (seed 0).",)


def test_what_the_figures_say_and_cannot_tell(apart: Path) -> None:
    said = attribution_in_words(load_run(apart))["shots+grpo"]
    assert said.startswith("from 20.0 % with neither tuned to 90.0 % with both; ")
    assert "tuning the prompt changes the score by +40.0 points [" in said
    assert "averaged over base and tuned prompt" in said
    assert "more or less than the sum of what each brings alone cannot be told" in said
    assert "which covers 0" in said


def test_several_seeds_give_a_mean_and_a_spread(apart: Path) -> None:
    arms = json.loads((apart / "arms.json").read_text())
    copy_eval(apart, "E2", "W1", right=20)
    copy_eval(apart, "E2", "B1", right=20)
    again = {"seed": 1, "eval": "B1"}
    arms.append({**arms[2], **again, "cells": {**arms[2]["cells"], "weights": "W1", "both": "B1"}})
    (apart / "arms.json").write_text(json.dumps(arms))
    run = load_run(apart)
    assert attribution(run)["seed"].tolist() == [0, 1]
    said = attribution_in_words(run)["shots+grpo"]
    assert "to 95.0 % with both (means of 2 seeds)" in said
    # weights: 0.3 at seed 0, (0.8 + 0.4) / 2 at seed 1
    assert "changes the score by +45.0 points (mean of 2 seeds, +30.0 to +60.0)" in said
    assert "; the interval covers 0 at 1 of them" in said


def test_seeds_that_contradict_each_other_tell_nothing(apart: Path) -> None:
    arms = json.loads((apart / "arms.json").read_text())
    copy_eval(apart, "E2", "none", right=0)
    worse = {**arms[2]["cells"], "base": "E2", "prompt": "E2", "weights": "none", "both": "none"}
    arms.append({**arms[2], "seed": 1, "eval": "none", "cells": worse})
    (apart / "arms.json").write_text(json.dumps(arms))
    said = attribution_in_words(load_run(apart))["shots+grpo"]
    assert "whether tuning the weights changes the score cannot be told" in said
    assert "seeds contradict each other" in said


def test_what_the_chain_left_alone_has_no_effect(apart: Path) -> None:
    note(apart, {"base": "E0", "prompt": "E1", "weights": "E0", "both": "E1"})
    said = attribution_in_words(load_run(apart))["shots+grpo"]
    assert "the chain kept the weights it began with" in said
    assert "interaction" not in said


@pytest.mark.parametrize("cells", [None, {}, "no DONE"])
def test_cells_still_missing_are_noted(apart: Path, cells: dict | str | None) -> None:
    if cells == "no DONE":
        (apart / "evals/W/DONE").unlink()
    else:
        note(apart, cells)  # type: ignore[arg-type]
    run = load_run(apart)
    assert attribution(run).empty
    assert "Attribution not evaluated yet: shots+grpo (seed 0)." in run.notes
    assert "Weights or prompt" not in report_markdown(run)


@pytest.mark.parametrize("cells", [["E0"], {"base": "E0"}, {"base": "E0", "bsae": "E1"}])
def test_cells_of_another_shape_are_refused_in_one_line(apart: Path, cells: object) -> None:
    note(apart, cells)  # type: ignore[arg-type]
    with pytest.raises(ReportError, match="cannot be read") as caught:
        load_run(apart)
    assert "\n" not in str(caught.value)


def test_cells_over_other_examples_are_refused(apart: Path) -> None:
    path = apart / "evals/W/records.parquet"
    write_records(path, read_records(path)[1:])
    with pytest.raises(ReportError, match=r"shots\+grpo, seed 0: the arms answered different"):
        attribution(load_run(apart))


def test_the_table_and_the_report_show_it(apart: Path) -> None:
    shown = table(apart, "attribution")
    assert "shots+grpo: from 20.0 %" in shown and "+40.0" in shown
    assert max(map(len, shown.split("shots+grpo: from")[0].splitlines())) <= 120
    written = table(apart, "attribution", "markdown")
    assert "| 20.0 % | 60.0 % | 50.0 % | 90.0 % | +30.0 [" in written
    assert "- **shots+grpo**: from 20.0 %" in written
    frame = pd.read_csv(io.StringIO(table(apart, "attribution", "csv")))
    pd.testing.assert_frame_equal(frame, attribution(load_run(apart)), check_exact=True)
    assert "from" not in table(apart, "attribution", arms=["zero"])
    text = report_markdown(load_run(apart))
    assert "## Weights or prompt" in text and "- **shots+grpo**: from 20.0 %" in text


def test_a_run_without_says_how_to_ask_for_it(folder: Path) -> None:
    assert "write attribution: true" in table(folder, "attribution")
    assert "Weights or prompt" not in report_markdown(load_run(folder))


def test_cells_of_no_arm_cost_what_they_cost(apart: Path) -> None:
    note(apart, {"base": "E0", "prompt": "E1", "weights": "W", "both": "E1"}, index=1)
    frame = cost(load_run(apart)).set_index(["arm", "purpose"])
    assert frame.loc[("shots+grpo", "attribution"), "completions"] == 20  # W; the rest are arms
    assert frame.loc[("shots+grpo", "attribution"), "shared_with"] == "shots"
    assert ("zero", "attribution") not in frame.index
    assert frame.loc[("zero", "test"), "shared_with"] == ""
