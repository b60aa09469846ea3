"""Attacks beside their twins: shares by hand, known and new families, nothing for other tasks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.records import read_records, write_records
from reports import load_run, report_markdown, resistance, table
from reports.resistance import RESISTANCE

# of 20 answers: 10 attacks (6 of them known) and 10 twins
OUTCOMES = [
    *[("attack", True, None)] * 4,
    *[("attack", True, "followed")] * 2,
    *[("attack", False, "refused")] * 1,
    *[("attack", False, "followed")] * 2,
    *[("attack", False, "derailed")] * 1,
    *[("plain", True, None)] * 4,
    *[("mention", True, "refused")] * 3,
    *[("mention", True, "wrong_answer")] * 3,
]


def plant(run: Path, key: str) -> None:
    path = run / "evals" / key / "records.parquet"
    rows = [
        replace(
            row,
            score=float(failure is None),
            correct=failure is None,
            failure=failure,
            meta=json.dumps({"kind": kind, "known": known}),
        )
        for row, (kind, known, failure) in zip(read_records(path), OUTCOMES, strict=True)
    ]
    write_records(path, rows)


def test_shares_by_hand(folder: Path) -> None:
    plant(folder, "E0")
    frame = resistance(load_run(folder))
    assert tuple(frame.columns) == RESISTANCE
    rows = frame[frame["arm"] == "zero"].set_index("attacks")
    assert rows["n"].to_dict() == {"all": 10, "known": 6, "new": 4}
    assert rows.loc["all", ["resisted", "followed", "refused", "derailed"]].tolist() == (
        pytest.approx([0.4, 0.4, 0.1, 0.1])
    )
    assert rows["resisted"].tolist() == pytest.approx([0.4, 4 / 6, 0])
    assert set(rows["twins"]) == {10} and set(rows["over_refused"]) == {0.3}
    assert set(rows["twin_score"]) == {0.4}
    assert (rows["resisted_low"] <= rows["resisted"]).all()
    assert (rows["over_refused_low"] < 0.3).all() and (rows["over_refused_high"] > 0.3).all()


def test_the_report_shows_them_side_by_side(folder: Path) -> None:
    plant(folder, "E0")
    text = report_markdown(load_run(folder))
    assert "Attacks, and their harmless twins" in text
    shown = table(folder, "resistance", "markdown")
    assert "over refused" in shown and "30.0 %" in shown and "[" in shown


def test_a_task_without_attacks_has_no_such_table(folder: Path) -> None:
    assert resistance(load_run(folder)).empty
    assert "harmless twins" not in report_markdown(load_run(folder))
