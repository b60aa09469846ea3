"""Flow between two arms: every answer counted once, whatever the order, whoever has no partner."""

from __future__ import annotations

import io
import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from evaluation.records import read_records, write_records
from evaluation.types import EvalRecord
from experiments.cli import main
from reports import ReportError, flow, flow_links, load_run, table
from reports.flow import LINKS, NODES, NOT_ASKED

UNKNOWN = "unclassified"
CLASSES = [None, "", "tense", "stem", "empty", "correct"]


def planted(folder: Path, key: str, seed: int, drop: int, samples: int = 12) -> list[EvalRecord]:
    """Several samples of each example, classes at random, in random order, `drop` answers left out.

    A wrong answer may lack a class, or have one that is called `correct`."""
    path = folder / "evals" / key / "records.parquet"
    draw = random.Random(seed)
    records = []
    for record in read_records(path):
        for sample in range(samples):
            right = draw.random() < 0.5
            failure = None if right else draw.choice(CLASSES)
            records.append(
                replace(record, sample=sample, correct=right, score=float(right), failure=failure)
            )
    draw.shuffle(records)
    write_records(path, records[drop:])
    return records[drop:]


def outcome(record: EvalRecord) -> str:
    if record.correct:
        return "correct"
    return record.failure if record.failure not in (None, "", "correct") else UNKNOWN


def test_every_answer_is_in_one_node_and_one_link(folder: Path) -> None:
    before, after = planted(folder, "E0", 1, drop=7), planted(folder, "E1", 2, drop=4)
    found = flow_links(load_run(folder), "zero", "shots")
    assert (tuple(found.nodes.columns), tuple(found.links.columns)) == (NODES, LINKS)
    nodes = found.nodes.set_index(["side", "class"])["count"].to_dict()
    counts = {("before", name): n for name, n in Counter(map(outcome, before)).items()}
    counts |= {("after", name): n for name, n in Counter(map(outcome, after)).items()}
    asked = [{(r.example_id, r.sample) for r in records} for records in (before, after)]
    alone = {"before": asked[1] - asked[0], "after": asked[0] - asked[1]}
    assert nodes == counts | {(side, NOT_ASKED): len(keys) for side, keys in alone.items()}
    ends = pd.concat([found.links.groupby(end)["count"].sum() for end in ("source", "target")])
    assert ends.to_dict() == found.nodes.set_index("node")["count"].to_dict()
    assert not found.links.duplicated(["source", "target"]).any()


def test_every_link_is_what_happened_to_those_answers(folder: Path) -> None:
    before, after = planted(folder, "E0", 3, drop=5), planted(folder, "E1", 4, drop=5)
    partner = {(r.example_id, r.sample): outcome(r) for r in after}
    moves = Counter((outcome(r), partner.pop((r.example_id, r.sample), NOT_ASKED)) for r in before)
    moves.update((NOT_ASKED, name) for name in partner.values())
    frame = flow(load_run(folder), "zero", "shots")
    found = {(row["from"], row["to"]): row["count"] for _, row in frame.iterrows()}
    assert found == dict(moves)
    kinds = {(row["from"], row["to"]): row["kind"] for _, row in frame.iterrows()}
    assert kinds["tense", "correct"] == "fixed" and kinds["correct", "tense"] == "broken"
    assert kinds["correct", "correct"] == "still-correct" and kinds[UNKNOWN, UNKNOWN] == "still"
    assert kinds["stem", "tense"] == "changed" and kinds["stem", UNKNOWN] == "changed"
    assert {kind for ends, kind in kinds.items() if NOT_ASKED in ends} == {"unpaired"}


def test_there_and_back_are_the_same_flow(folder: Path) -> None:
    planted(folder, "E0", 5, drop=2), planted(folder, "E1", 6, drop=3)
    run = load_run(folder)
    there, back = flow(run, "zero", "shots"), flow(run, "shots", "zero")
    turned = back.rename(columns={"from": "to", "to": "from"})
    turned["kind"] = turned["kind"].replace({"fixed": "broken", "broken": "fixed"})
    order = ["from", "to", "kind", "count"]
    pd.testing.assert_frame_equal(
        there[order].sort_values(order, ignore_index=True),
        turned[order].sort_values(order, ignore_index=True),
    )


def test_a_diagram_adds_up_the_seeds_of_both(folder: Path) -> None:
    planted(folder, "E2", 7, drop=0, samples=1)
    arms = json.loads((folder / "arms.json").read_text())[:2]
    again = [{**arms[0], "seed": 1}, {**arms[1], "seed": 1, "eval": "E2"}]
    (folder / "arms.json").write_text(json.dumps([*arms, *again]))
    run = load_run(folder)
    frame, found = flow(run, "zero", "shots"), flow_links(run, "zero", "shots")
    assert set(frame["seed"]) == {0, 1} and len(frame) > len(found.links)
    assert found.links["count"].sum() == frame["count"].sum() == 40
    assert found.nodes.groupby("side")["count"].sum().to_dict() == {"before": 40, "after": 40}


def test_the_links_of_two_arms_on_the_command_line(folder: Path, capsys) -> None:
    assert main(["report", str(folder), "--table", "links", "--format", "csv"]) == 0
    best = pd.read_csv(io.StringIO(capsys.readouterr().out))
    pd.testing.assert_frame_equal(best, flow_links(load_run(folder), "zero", "shots+grpo").links)
    words = ["compare", str(folder), "shots", "zero", "--table", "links", "--format", "csv"]
    assert main(words) == 0
    back = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert back.to_dict("records")[0] == {
        "source": "shots: correct", "target": "zero: tense", "kind": "broken", "count": 9
    }  # fmt: skip
    assert main(["compare", str(folder), "zero", "shots"]) == 0
    assert "pairs" in (shown := capsys.readouterr().out) and "flow" in shown
    with pytest.raises(ReportError, match="'zero' against itself"):
        flow_links(load_run(folder), "zero", "zero")
    with pytest.raises(ReportError, match="name two arms, not 1"):
        table(folder, "links", arms=["zero"])
