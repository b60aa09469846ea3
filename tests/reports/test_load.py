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
    ],
)
def test_bad_folders_are_refused_in_one_line(folder, broken, what):
    with pytest.raises(ReportError, match=what) as refused:
        load_run(broken(folder))
    assert "\n" not in str(refused.value)


def test_arms_over_other_examples_are_refused(folder):
    path = folder / "evals/E1/records.parquet"
    write_records(path, read_records(path)[:19])
    with pytest.raises(ReportError, match=r"zero and shots, seed 0: .*'e19' is in one only"):
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
