"""Tripped wires stand on top of the report; without any, a report says nothing of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments import verbs
from reports import ReportError, audits, load_run, report_markdown, table, tripped
from reports.audits import AUDITS, noteworthy

EVIL = "\x1b[31mred | <b>x</b> [a](https://evil.example)\n\u202eabc"
TRIPPED = {"name": "reward: length", "level": "tripped", "step": None, "detail": f"paid {EVIL}"}
NOTE = {"name": "dead groups", "level": "note", "step": 7, "detail": "90% of groups"}
OK = {"name": "checkpoint", "level": "ok", "step": 5, "detail": "what a resume reads is live"}


def found(run: Path, *rows: object, stage: str = "S2") -> Path:
    (run / "stages" / stage / "audits.json").write_text(json.dumps(rows))
    return run


def test_every_finding_is_a_row(folder: Path) -> None:
    frame = audits(load_run(found(folder, TRIPPED, NOTE, OK)))
    assert tuple(frame.columns) == AUDITS
    assert list(frame["audit"]) == ["reward: length", "dead groups", "checkpoint"]
    assert set(frame["arm"]) == {"shots+grpo"} and set(frame["method"]) == {"grpo"}
    assert frame["step"].tolist()[1:] == [7, 5] and frame["step"].isna()[0]
    assert list(noteworthy(load_run(folder))["level"]) == ["tripped", "note"]
    assert '"note",7,"90% of groups"' in table(folder, "audits", "csv")


def test_a_shared_stage_is_a_row_of_each_arm_and_one_line_on_top(folder: Path) -> None:
    run = load_run(found(folder, NOTE | {"level": "tripped"}, stage="S1"))
    assert list(audits(run)["arm"]) == ["shots", "shots+grpo"]
    [line] = tripped(run)
    assert line == "tripped wire: bootstrap of shots, shots+grpo (seed 0): dead groups: " + str(
        NOTE["detail"]
    )


def test_a_tripped_wire_is_the_first_thing_a_report_says(folder: Path) -> None:
    lines = report_markdown(load_run(found(folder, TRIPPED, NOTE, OK))).splitlines()
    assert lines[0] == "# verbs"
    said = "> **Tripped wire** in grpo of shots+grpo (seed 0): *reward: length*: paid "
    assert lines[2].startswith(said)
    text = "\n".join(lines)
    assert text.count("Tripped wire**") == 1
    assert text.index("What the audits found") > text.index("## Cost")
    assert "dead groups" in text and "what a resume reads" not in text


def test_what_is_shown_is_escaped(folder: Path) -> None:
    run = load_run(found(folder, TRIPPED | {"name": f"reward {EVIL}"}))
    [line] = tripped(run)
    assert line.isprintable()
    for danger in ("\x1b", "\u202e", "<b>", "https://"):
        assert danger not in report_markdown(run)


def test_a_run_shows_its_wires_before_its_tables(folder: Path, capsys) -> None:
    verbs._finish(found(folder, TRIPPED))
    shown = capsys.readouterr().out
    assert shown.startswith("tripped wire: grpo of shots+grpo (seed 0): reward: length: paid ")
    assert shown.index("tripped wire") < shown.index("summary")


@pytest.mark.parametrize("rows", [None, [], [OK]])
def test_without_any_a_report_says_nothing(folder: Path, rows: list | None, capsys) -> None:
    if rows is not None:
        found(folder, *rows)
    run = load_run(folder)
    assert tripped(run) == []
    assert "Tripped wire*" not in report_markdown(run)
    assert "What the audits found" not in report_markdown(run)
    verbs._finish(folder)
    assert "tripped" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "text", ['{"name": 1}', "[1]", '[{"name": "a"}]', json.dumps([OK | {"detail": 3}]), "[{", "3"]
)
def test_findings_that_are_none_are_refused_in_one_line(folder: Path, text: str) -> None:
    (folder / "stages/S2/audits.json").write_text(text)
    with pytest.raises(ReportError, match=r"audits\.json|cannot be read") as refused:
        load_run(folder)
    assert "\n" not in str(refused.value)
