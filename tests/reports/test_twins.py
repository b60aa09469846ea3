"""Two runs of one task against each other: what is paired, and what is said about the rest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from evaluation.exact import holm
from experiments.cli import main
from reports import ReportError, compare_runs, load_run, pairs
from reports.documented import COLUMNS


@pytest.fixture
def other(folder: Path) -> Path:
    """The same run again, under another name."""
    copy = folder.parent / "again"
    shutil.copytree(folder, copy)
    change(copy, name="again")
    return copy


def change(run: Path, **told: object) -> None:
    path = run / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | told))


def edit(run: Path, key: str, made) -> None:
    path = run / "evals" / key / "records.parquet"
    made(pd.read_parquet(path)).to_parquet(path)


def test_the_same_examples_give_what_one_run_gives(folder: Path, other: Path) -> None:
    found = compare_runs(load_run(folder), load_run(other), "zero", "shots")
    [row] = found.table.to_dict("records")
    own = pairs(load_run(folder)).set_index(["arm_a", "arm_b"]).loc["zero", "shots"]
    for name in ("delta", "delta_low", "delta_high", "p", "fixed", "broken", "n"):
        assert row[name] == own[name]
    assert row["p_adjusted"] == row["p"] and (row["run_a"], row["run_b"]) == ("verbs", "again")
    assert tuple(found.table.columns) == COLUMNS["compare"]
    assert found.notes == ("20 examples match by id, inputs and right answer",)


def test_arms_left_out_are_those_both_have_and_the_best(folder: Path, other: Path) -> None:
    a, b = load_run(folder), load_run(other)
    both = compare_runs(a, b).table
    assert both["arm_a"].tolist() == both["arm_b"].tolist() == ["zero", "shots", "shots+grpo"]
    assert both["delta"].eq(0).all()
    arms = json.loads((other / "arms.json").read_text())[:2]
    (other / "arms.json").write_text(json.dumps(arms))
    b = load_run(other)
    rows = compare_runs(a, b).table
    assert list(zip(rows["arm_a"], rows["arm_b"], strict=True))[-1] == ("shots+grpo", "shots")
    assert rows["p_adjusted"].tolist() == holm(rows["p"].tolist()) != rows["p"].tolist()
    named = compare_runs(a, b, arm_a="zero").table
    assert named[["arm_a", "arm_b"]].to_numpy().tolist() == [["zero", "zero"]]
    best = compare_runs(a, b, arm_a="shots+grpo").table
    assert best[["arm_a", "arm_b"]].to_numpy().tolist() == [["shots+grpo", "shots"]]


def test_only_what_both_asked_alike_is_paired(folder: Path, other: Path) -> None:
    def mend(frame: pd.DataFrame) -> pd.DataFrame:
        frame.loc[0, "inputs"] = '{"verb": "other"}'
        frame.loc[1, "gold"] = "other"
        frame.loc[2, "example_id"] = "new"
        return frame.drop(index=3).sample(frac=1, random_state=0)

    edit(other, "E1", mend)
    found = compare_runs(load_run(folder), load_run(other), "zero", "shots")
    assert found.notes == (
        "16 examples match by id, inputs and right answer, 2 have the same id and other inputs or "
        "another answer, 2 are in the first run only, 1 are in the second run only",
    )
    before = load_run(folder).scores["E0"].iloc[4:]
    after = load_run(folder).scores["E1"].iloc[4:]
    assert found.table["n"].tolist() == [16]
    assert found.table["delta"].iloc[0] == pytest.approx(after.mean() - before.mean())


def test_seeds_are_paired_by_number_else_in_order(folder: Path, other: Path) -> None:
    arms = json.loads((other / "arms.json").read_text())
    more = [dict(arms[1], seed=seed, eval=key) for seed, key in ((0, "E0"), (5, "E1"))]
    (other / "arms.json").write_text(json.dumps([*arms[:1], *more]))
    a, b = load_run(folder), load_run(other)
    assert compare_runs(a, b, "zero", "shots").table["delta"].tolist() == [0]  # seed 0 is E0 here
    (other / "arms.json").write_text(json.dumps([dict(row, seed=row["seed"] + 7) for row in more]))
    found = compare_runs(a, load_run(other), "zero", "shots")
    assert found.notes[0].endswith("no seed is in both, so they are paired in order")
    assert found.table["seeds"].tolist() == [1]


def test_what_else_differs_is_said(folder: Path, other: Path) -> None:
    change(other, task_hash="new", model="large", model_fingerprint="b00")
    arms = json.loads((other / "arms.json").read_text())
    (other / "arms.json").write_text(json.dumps([row | {"exam": "x"} for row in arms]))
    first = json.loads((folder / "arms.json").read_text())
    (folder / "arms.json").write_text(json.dumps([row | {"exam": "y"} for row in first]))
    notes = compare_runs(load_run(folder), load_run(other)).notes
    assert [note.split(" ")[1] for note in notes[1:]] == ["models", "task's", "exams"]


def test_what_cannot_be_compared(folder: Path, other: Path) -> None:
    a = load_run(folder)
    with pytest.raises(ReportError, match=r"no arm 'none' in .*again; write one of zero, shots"):
        compare_runs(a, load_run(other), arm_b="none")
    with pytest.raises(ReportError, match="against itself"):
        compare_runs(a, a, "zero", "zero")
    edit(other, "E0", lambda frame: frame.assign(inputs="{}"))
    with pytest.raises(ReportError, match="no example is the same; 0 examples match"):
        compare_runs(a, load_run(other), "zero", "zero")
    change(other, task="sums")
    with pytest.raises(ReportError, match=r"is of task 'inflect', .* of 'sums'; compare runs"):
        compare_runs(a, load_run(other))


def test_from_the_command_line(folder: Path, other: Path, capsys) -> None:
    assert main(["compare", f"{folder}:zero", f"{other}:shots"]) == 0
    shown = capsys.readouterr().out
    assert "20 examples match" in shown and "still-correct" in shown and "+40.0" in shown
    assert main(["compare", str(folder), str(other), "--margin", "2", "--format", "csv"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith('"run_a","arm_a","run_b","arm_b"') and "p_noninferior" in told.out
    assert told.err == "20 examples match by id, inputs and right answer\n"
    assert main(["compare", f"{folder}:zero", f"{other}:shots", "--table", "links"]) == 0
    assert "verbs: zero: tense" in " ".join(capsys.readouterr().out.split())
    assert main(["compare", str(folder), str(other), "--table", "flow"]) == 2
    assert "write RUN:ARM RUN:ARM" in capsys.readouterr().err
    assert main(["compare", str(folder), "zero", "shots"]) == 0  # the old form
    assert main(["compare", str(folder), "zero"]) == 2
    assert "no folder zero" in capsys.readouterr().err


def test_report_of_several_runs(folder: Path, other: Path, tmp_path: Path, capsys) -> None:
    both = ["report", str(folder), str(other)]
    assert main([*both, "--table", "summary", "--format", "csv"]) == 0
    assert capsys.readouterr().out.count('"again","inflect","tiny"') == 3
    out = tmp_path / "records.parquet"
    assert main([*both, "--table", "records", "--format", "parquet", "--out", str(out)]) == 0
    assert len(pd.read_parquet(out)) == 120
    assert main(["report", f"{folder.parent}/*", "--table", "reads", "--format", "csv"]) == 0
    assert '"again","inflect"' in capsys.readouterr().out
    (other / "run.json").write_text("{")
    assert main([*both, "--table", "reads"]) == 0
    assert "again/run.json cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["A", "B"], "add e.g. --table summary"),
        (["A", "--out", "x"], "--out needs one table"),
        (["A", "--format", "latex"], "--format latex needs one table"),
        (["A", "--table", "summary", "--format", "parquet"], "add --out summary.parquet"),
        (["A", "--table", "summary", "--out", "nowhere/x.csv"], "cannot be written"),
        (["A", "--table", "summary", "--html", "x.html"], "leave --table out"),
        (["A", "B", "--html", "x.html"], "add e.g. --table summary"),
    ],
)
def test_bad_words(folder: Path, words: list[str], what: str, capsys, monkeypatch) -> None:
    monkeypatch.chdir(folder.parent)
    named = [str(folder) if word in "AB" else word for word in words]
    assert main(["report", *named]) == 2
    told = capsys.readouterr().err
    assert what in told and told.count("\n") == 1
