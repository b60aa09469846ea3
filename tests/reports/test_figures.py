"""The figures: which a run gets, that arms differ by more than colour, and files for a paper."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.records import read_records, write_records
from reports import load_run, summary
from reports.figures import FIGURES, specs, write_figures
from reports.load import ReportError
from reports.plotting import DASHES, PALETTE, SHAPES
from reports.sankey import directions, layout


def marks(spec: dict) -> list[dict]:
    return [layer for layer in spec.get("layer", [spec]) if "encoding" in layer]


def test_a_run_gets_the_figures_it_has_something_for(rich: Path) -> None:
    found = specs(load_run(rich))
    assert set(found) <= set(FIGURES)
    assert set(FIGURES) - set(found) == {"training_score", "training_clipped", "training_grad_norm"}


def test_what_a_run_lacks_is_not_drawn(folder: Path) -> None:
    found = specs(load_run(folder))
    assert "attribution" not in found and "learning_seconds" not in found
    assert not any(name.startswith("training_") for name in found)
    assert {"scores", "failures", "flow", "cost"} <= set(found)


def test_arms_differ_by_shape_and_dash_as_well(rich: Path) -> None:
    found = specs(load_run(rich))
    for name, channel in (
        ("scores", "shape"),
        ("score_cost", "shape"),
        ("learning_rollouts", "shape"),
    ):
        ranges = [m["encoding"][channel]["scale"]["range"] for m in marks(found[name])
                  if channel in m["encoding"]]  # fmt: skip
        assert ranges and all(len(set(r)) == 3 for r in ranges), name
    lines = [m for m in marks(found["training_reward"]) if "strokeDash" in m["encoding"]]
    assert lines


def test_no_two_of_twelve_arms_look_alike() -> None:
    def look(i: int) -> tuple:
        return PALETTE[i % len(PALETTE)], SHAPES[i % len(SHAPES)]

    def line(i: int) -> tuple:
        return PALETTE[i % len(PALETTE)], tuple(DASHES[i % len(DASHES)])

    assert len({look(i) for i in range(42)}) == 42
    assert len({line(i) for i in range(28)}) == 28


def test_the_figure_shows_the_figures_of_the_table(rich: Path) -> None:
    run = load_run(rich)
    spec = specs(run)["scores"]
    rows = [row for data in spec["datasets"].values() for row in data if "ci_low" in row]
    table = summary(run)
    assert [row["score"] for row in rows] == pytest.approx(table["score"].tolist())
    assert [row["ci_low"] for row in rows] == pytest.approx(table["ci_low"].tolist())


def test_a_ribbon_is_as_wide_as_its_count(rich: Path) -> None:
    run = load_run(rich)
    ribbons, boxes = layout(run)
    assert {("zero", "shots+grpo"), ("shots+grpo", "zero")} <= set(directions(run))
    assert directions(run)[0] == ("zero", "shots+grpo")
    for pair in directions(run):
        inside = ribbons.loc[(ribbons["from_arm"] == pair[0]) & (ribbons["to_arm"] == pair[1])]
        assert inside["count"].sum() == 20
        left = (inside["a1"] - inside["a0"]) / inside["count"]
        assert left.max() == pytest.approx(left.min())
        for side, low, high in (("before", "a0", "a1"), ("after", "b0", "b1")):
            ends = inside.sort_values(low)
            assert (ends[low].iloc[1:].to_numpy() >= ends[high].iloc[:-1].to_numpy() - 1e-9).all()
            whole = boxes.loc[
                (boxes["from_arm"] == pair[0])
                & (boxes["to_arm"] == pair[1])
                & (boxes["side"] == side)
            ]
            assert whole["count"].sum() == 20 and whole["bottom"].max() == pytest.approx(1)


def test_figures_are_written_as_svg_and_png(rich: Path, tmp_path: Path) -> None:
    run = load_run(rich)
    files = write_figures(run, tmp_path / "figures")
    assert len(files) == 2 * len(specs(run))
    for path in files:
        content = path.read_bytes()
        assert content.startswith(b"<svg" if path.suffix == ".svg" else b"\x89PNG"), path
    assert "shots+grpo" in (tmp_path / "figures/scores.svg").read_text("utf-8")
    assert "currentColor" not in (tmp_path / "figures/scores.svg").read_text("utf-8")


def test_a_folder_that_cannot_be_written_is_one_line(rich: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportError, match="cannot be written"):
        write_figures(load_run(rich), tmp_path / "file" / "figures")


def test_specs_are_plain_json(rich: Path) -> None:
    assert json.dumps(specs(load_run(rich)), allow_nan=False)


def test_a_long_training_is_drawn_with_fewer_points(rich: Path) -> None:
    rows = [{"step": i, "phase": "train", "loss": 0.1, "reward": i / 9999} for i in range(1, 9000)]
    path = rich / "stages/S2/metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = specs(load_run(rich))["training_reward"]
    for rows in spec["datasets"].values():
        assert 300 < len(rows) <= 400
        assert rows[-1]["step"] > 8900


def test_more_links_than_altair_takes_by_itself(rich: Path) -> None:
    arms = json.loads((rich / "arms.json").read_text())
    evals = ("E0", "E1", "E2", "E3")
    many = [arms[0], *({**arms[1], "arm": f"a{i}", "eval": evals[i % 4]} for i in range(11))]
    (rich / "arms.json").write_text(json.dumps(many))
    for key in evals:
        path = rich / "evals" / key / "records.parquet"
        said = [replace(r, correct=False, score=0.0, failure=f"c{(7 * i + ord(key[1])) % 20:02}")
                for i, r in enumerate(read_records(path))]  # fmt: skip
        write_records(path, said)
    spec = specs(load_run(rich))["flow"]
    assert sum(len(rows) for rows in spec["datasets"].values()) > 5000
    more = [*many, {**arms[1], "arm": "a11", "eval": "E3"}]
    (rich / "arms.json").write_text(json.dumps(more))
    assert {a for a, _ in directions(load_run(rich))} == {"zero"}
