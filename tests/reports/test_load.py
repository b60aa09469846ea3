"""Folders that are not runs are refused in one line; runs need nothing but their folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation.records import read_records, write_records
from reports import (
    ReportError,
    load_run,
    summary,
    table,
)


def _no_folder(run: Path) -> Path:
    return run / "nowhere"


def _not_a_run(run: Path) -> Path:
    return run / "stages"


def _nothing_evaluated(run: Path) -> Path:
    for done in run.glob("evals/*/DONE"):
        done.unlink()
    return run


def _no_ledger(run: Path) -> Path:
    (run / "stages/S1/ledger.json").unlink()
    return run


def _cut_json(run: Path) -> Path:
    (run / "arms.json").write_text("[{")
    return run


def _no_baseline(run: Path) -> Path:
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({k: v for k, v in info.items() if k != "baseline"}))
    return run


def _ledger_is_a_list(run: Path) -> Path:
    (run / "stages/S1/ledger.json").write_text("[1]")
    return run


def _arms_is_an_object(run: Path) -> Path:
    (run / "arms.json").write_text('{"zero": 1}')
    return run


def _info_is_a_list(run: Path) -> Path:
    (run / "run.json").write_text("[]")
    return run


def _no_step(run: Path) -> Path:
    with (run / "stages/S2/metrics.jsonl").open("a") as file:
        file.write('{"reward": 1.0}\n')
    return run


def _torn_in_the_middle(run: Path) -> Path:
    path = run / "stages/S2/metrics.jsonl"
    path.write_text('{"step": 1, "rew\n' + path.read_text())
    return run


def _no_rows(run: Path) -> Path:
    write_records(run / "evals/E1/records.parquet", [])
    return run


@pytest.mark.parametrize(
    ("broken", "what"),
    [
        (_no_folder, "no folder .*nowhere"),
        (_not_a_run, r"stages is not a run folder: it has no run\.json"),
        (_nothing_evaluated, "none of 4 arms is evaluated yet"),
        (_no_ledger, "cannot be read .*ledger.json"),
        (_cut_json, "cannot be read .*JSONDecodeError"),
        (_no_baseline, "run.json has no 'baseline'"),
        (_no_rows, "E1 holds no answer"),
        (_ledger_is_a_list, "cannot be read"),
        (_arms_is_an_object, "cannot be read"),
        (_info_is_a_list, "run.json is no object of ours"),
        (_no_step, r"S2/metrics\.jsonl: a row has no step"),
        (_torn_in_the_middle, "cannot be read .*JSONDecodeError"),
    ],
)
def test_bad_folders_are_refused_in_one_line(folder, broken, what):
    with pytest.raises(ReportError, match=what) as refused:
        load_run(broken(folder))
    assert "\n" not in str(refused.value)


def test_a_torn_last_line_of_metrics_is_left_out(folder):
    whole = table(folder, "curves", "csv")
    with (folder / "stages/S2/metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "phase": "tr')
    assert table(folder, "curves", "csv") == whole


def test_arms_over_other_examples_are_refused(folder):
    path = folder / "evals/E1/records.parquet"
    write_records(path, read_records(path)[:19])
    with pytest.raises(ReportError, match=r"zero and shots: .*'e19' is in one only"):
        summary(load_run(folder))


def test_a_folder_moved_elsewhere_still_reports(folder, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.move(folder, moved)
    assert len(summary(load_run(moved))) == 3


def test_importing_reports_loads_no_torch():
    code = (
        "import sys, reports, evaluation.evaluate, evaluation.compare\n"
        "print(sorted({'torch', 'dspy', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_arms_share_what_was_asked_and_write_apart(folder):
    run = load_run(folder)
    first, other = list(run.answers)[:2]
    asked = run.answers[other]["inputs"].tolist()
    run.answers[first]["inputs"].array[0] = "something else"
    assert run.answers[other]["inputs"].tolist() == asked
