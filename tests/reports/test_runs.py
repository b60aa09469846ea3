"""Several run folders as one table each: types, order, what cannot be read."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import reports
from reports import ReportError, load, load_run, styled
from reports.columns import DTYPES, spec, tables_markdown
from reports.documented import COLUMNS
from reports.files import read_frame, write_frame
from reports.runs import ALL_TABLES


@pytest.fixture
def two(folder: Path) -> Path:
    """Two runs, the second of one arm and with another name, and what is no run, below a folder."""
    root = folder.parent / "runs"
    shutil.copytree(folder, root / "a")
    shutil.copytree(folder, root / "b")
    other = json.loads((root / "b/run.json").read_text()) | {"name": "alone", "model": "135m"}
    (root / "b/run.json").write_text(json.dumps(other))
    arms = json.loads((root / "b/arms.json").read_text())[:1]
    (root / "b/arms.json").write_text(json.dumps(arms))
    rows = {"step": [1, 2], "example_id": ["t1", "t2"], "sample": [0, 1], "text": ["x", "y"]}
    rows |= {"token_ids": [[1], [2]], "reward": [0.5, 1.0], "score": [0.0, 1.0]}
    pq.write_table(pa.table(rows), root / "a/stages/S2/rollouts.parquet")
    (root / "notes.txt").write_text("no folder")
    return root


@pytest.mark.parametrize("name", ALL_TABLES)
def test_columns_and_types_are_those_documented(two: Path, name: str) -> None:
    frame = load(str(two / "*")).table(name)
    assert tuple(frame.columns) == COLUMNS[name]
    kinds = {column: (spec(name, column) or ("?", ""))[0] for column in frame.columns}
    assert {c: str(t) for c, t in frame.dtypes.items()} == {c: DTYPES[k] for c, k in kinds.items()}


def test_the_page_about_the_tables_is_true(root: Path) -> None:
    assert set(ALL_TABLES) | {"compare"} == set(COLUMNS)
    assert (root / "docs/tables.md").read_text("utf-8") == tables_markdown(COLUMNS)


def test_runs_stand_side_by_side(two: Path) -> None:
    runs = load(two / "*")
    assert runs.summary["run"].tolist() == ["verbs"] * 3 + ["alone"]
    assert runs.summary["model"].tolist() == ["tiny"] * 3 + ["135m"]
    own = reports.summary(load_run(two / "a"))
    pd.testing.assert_frame_equal(pd.DataFrame(runs.summary.iloc[:3, 3:]), own, check_dtype=False)
    assert set(runs.flow["run"]) == {"verbs"} and set(runs.flow["arm_b"]) == {"shots+grpo"}
    assert len(runs.records) == 80 and not runs.problems
    assert "summary" in dir(runs)
    with pytest.raises(AttributeError, match="'sumary' is no table"):
        _ = runs.sumary


def test_nothing_is_read_before_it_is_asked_for_and_nothing_twice(two: Path, monkeypatch) -> None:
    read = []
    monkeypatch.setattr("reports.runs.load_run", lambda path: read.append(path) or load_run(path))
    runs = load(two / "*")
    assert read == []
    mine = runs.summary
    mine.loc[0, "arm"] = "changed"
    assert runs.summary.loc[0, "arm"] == "zero"
    assert len(runs.pairs) == 3 and len(read) == 2


def test_two_runs_of_the_same_name_are_told_apart(two: Path) -> None:
    runs = load([two / "a", two / "a", two / "b"])
    assert len(runs.paths) == 2
    shutil.copytree(two / "a", two / "c")
    assert set(load(two / "*").reads["run"]) == {str(two / "a"), "alone", str(two / "c")}


def test_a_run_that_cannot_be_read_is_named(two: Path) -> None:
    (two / "b/evals/E0/records.parquet").write_bytes(b"torn")
    (two / "stray").mkdir()
    with pytest.warns(UserWarning, match="stray is not a run folder"):
        runs = load(two / "*")
    with pytest.warns(UserWarning, match="b cannot be read"):
        assert set(runs.summary["run"]) == {"verbs"}
    assert list(runs.problems) == [str(two / "stray"), str(two / "b")]
    assert "Not read" in runs._repr_html_()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(runs.pairs) == 3  # said once
    with pytest.warns(UserWarning), pytest.raises(ReportError, match="b cannot be read"):
        _ = load(two / "b").summary


@pytest.mark.parametrize("asked", ["nowhere", "nowhere/*", []])
def test_no_run_at_all(tmp_path: Path, asked: str | list[str]) -> None:
    with pytest.raises(ReportError, match=r"name (a run folder|run folders), such as runs/<name>"):
        load(f"{tmp_path}/{asked}" if isinstance(asked, str) else asked)


def test_rollouts_read_the_columns_asked_for(two: Path) -> None:
    runs = load(two / "a")
    frame = runs.read_rollouts(["token_ids", "parts"])
    assert list(frame["stage"]) == ["S2"] * 2 and list(frame["arms"]) == ["shots+grpo"] * 2
    assert [list(ids) for ids in frame["token_ids"]] == [[1], [2]] and frame["parts"].isna().all()
    assert runs.rollouts["reward"].tolist() == [0.5, 1.0]
    with pytest.warns(UserWarning, match="no column 'tokens'; write some of step"):
        runs.read_rollouts(["tokens"])


def test_a_notebook_shows_what_people_read_and_runs_nothing(two: Path) -> None:
    runs = load(two / "a")
    shown = runs._repr_html_()
    assert "20.0 % [5.7, 43.7]" in shown and "p (Holm)" in shown
    evil = runs.failures._repr_html_()  # type: ignore[operator]
    assert "<b>" not in evil and "&lt;b&gt;" in evil and "\u202e" not in evil
    bold = styled(runs.summary).to_html()
    assert bold.count("font-weight: bold") == 1
    assert "* p &lt; 0.05" in shown and " **" in shown
    assert "100 of" in load(two / "a").records.pipe(lambda f: pd.concat([f] * 2)).pipe(
        reports.shown.html
    )


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("name", ALL_TABLES)
def test_files_come_back_as_they_were(two: Path, tmp_path: Path, name: str, ending: str) -> None:
    frame = load(two / "*").table(name)
    write_frame(frame, tmp_path / f"t.{ending}", ending)
    back = read_frame(tmp_path / f"t.{ending}", name)
    pd.testing.assert_frame_equal(back, pd.DataFrame(frame), check_exact=True)


def test_line_breaks_and_empty_texts_come_back(tmp_path: Path) -> None:
    texts = ["a\r\nb", "\r", "", "NA", '"', "a\x00b", "-1", "=1+1", " x "]
    frame = pd.DataFrame({"text": pd.Series(texts, dtype="str"), "failure": pd.NA})
    frame = frame.astype({"failure": "str"}).assign(score=np.random.default_rng(0).random(9) / 3)
    for ending in ("csv", "parquet"):
        write_frame(frame, tmp_path / f"t.{ending}", ending)
        pd.testing.assert_frame_equal(read_frame(tmp_path / f"t.{ending}", "records"), frame)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_text("no")
    for name in ("t.parquet", "none.csv"):
        with pytest.raises(ReportError, match="is no summary as CSV or Parquet"):
            read_frame(tmp_path / name, "summary")
    with pytest.raises(ReportError, match="cannot be written"):
        write_frame(pd.DataFrame(), tmp_path / "nowhere" / "t.csv", "csv")
