"""Tables against numbers worked out by hand."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pandas as pd
import pytest
from statsmodels.stats.contingency_tables import mcnemar

from evaluation.records import read_records, write_records
from reports import (
    ReportError,
    cost,
    curves,
    failures,
    flow,
    load_run,
    pairs,
    slices,
    summary,
    table,
)
from reports.tables import PAIRS, SUMMARY


def test_summary_by_hand(folder):
    frame = summary(load_run(folder))
    assert tuple(frame.columns) == SUMMARY
    zero, shots, both = (row for _, row in frame.iterrows())
    assert [zero.score, shots.score, both.score] == pytest.approx([0.2, 0.6, 0.9])
    assert zero[["delta", "delta_low", "p", "p_adjusted", "fixed", "broken"]].isna().all()
    assert (shots.delta, shots.fixed, shots.broken, shots.n) == (pytest.approx(0.4), 9, 1, 20)
    assert (both.delta, both.fixed, both.broken) == (pytest.approx(0.7), 15, 1)
    assert shots.ci_low < 0.6 < shots.ci_high
    assert shots.delta_low < 0.4 < shots.delta_high
    costs = frame[["rollouts", "completion_tokens", "train_steps", "seconds"]]
    assert costs.to_numpy().tolist() == [[0, 0, 0, 0], [30, 60, 0, 60], [94, 188, 7, 100]]


def test_pairs_and_summary_share_one_holm_family(folder):
    run = load_run(folder)
    frame = pairs(run).set_index(["arm_a", "arm_b"])
    assert tuple(pairs(run).columns) == PAIRS
    tables = {
        ("zero", "shots"): [[3, 1], [9, 7]],
        ("zero", "shots+grpo"): [[3, 1], [15, 1]],
        ("shots", "shots+grpo"): [[11, 1], [7, 1]],
    }
    raw = {pair: mcnemar(cells, exact=True).pvalue for pair, cells in tables.items()}  # type: ignore[attr-defined]
    assert frame["p"].to_dict() == pytest.approx(raw)
    smallest, middle, largest = sorted(raw.values())
    assert sorted(frame["p_adjusted"]) == pytest.approx(
        [3 * smallest, 2 * middle, max(2 * middle, largest)]
    )
    shown = summary(run).set_index("arm")["p_adjusted"]
    assert shown["shots"] == frame["p_adjusted"][("zero", "shots")]
    assert shown["shots+grpo"] == frame["p_adjusted"][("zero", "shots+grpo")]


def test_two_arms_are_compared_in_the_direction_asked_for(folder):
    whole = pairs(load_run(folder)).set_index(["arm_a", "arm_b"])
    there = pd.read_csv(io.StringIO(table(folder, "pairs", "csv", arms=("zero", "shots"))))
    back = pd.read_csv(io.StringIO(table(folder, "pairs", "csv", arms=("shots", "zero"))))
    assert len(there) == len(back) == 1
    (there, back), known = (there.iloc[0], back.iloc[0]), whole.loc[("zero", "shots")]
    assert (there.arm_a, there.arm_b, back.arm_a, back.arm_b) == ("zero", "shots", "shots", "zero")
    assert (there.delta, there.fixed, there.broken) == (pytest.approx(0.4), 9, 1)
    assert (back.delta, back.fixed, back.broken) == (pytest.approx(-0.4), 1, 9)
    assert (back.delta_low, back.delta_high) == pytest.approx((-known.delta_high, -known.delta_low))
    assert there.p_adjusted == back.p_adjusted == pytest.approx(known.p_adjusted)


@pytest.mark.parametrize("name", ["pairs", "flow"])
def test_an_arm_against_itself_or_at_no_seed_of_its_own_is_refused(folder, name):
    with pytest.raises(ReportError, match="'shots' against itself; write two different arms"):
        table(folder, name, arms=("shots", "shots"))
    arms = json.loads((folder / "arms.json").read_text())
    (folder / "arms.json").write_text(json.dumps([arms[0], {**arms[1], "seed": 1}]))
    with pytest.raises(ReportError, match="zero and shots share no seed"):
        table(folder, name, arms=("zero", "shots"))


def test_a_baseline_named_last_gives_the_same_deltas(folder):
    before = summary(load_run(folder)).set_index("arm")
    arms = json.loads((folder / "arms.json").read_text())
    (folder / "arms.json").write_text(json.dumps([*arms[1:], arms[0]]))
    after = summary(load_run(folder)).set_index("arm")
    assert after["delta"].to_dict() == pytest.approx(before["delta"].to_dict(), nan_ok=True)
    assert after["p_adjusted"].to_dict() == pytest.approx(
        before["p_adjusted"].to_dict(), nan_ok=True
    )
    assert (after["fixed"]["shots"], after["broken"]["shots"]) == (9, 1)


def test_samples_count_once_an_example_and_make_the_scores_graded(folder):
    path = folder / "evals" / "E1" / "records.parquet"
    rows = read_records(path)
    again = [replace(row, sample=1, score=0.0) for row in rows]
    write_records(path, [*rows, *again])
    shots = summary(load_run(folder)).set_index("arm").loc["shots"]
    assert (shots["n"], shots["score"]) == (20, pytest.approx(0.3))


def test_failures_name_class_share_meaning_and_an_example(folder):
    frame = failures(load_run(folder)).set_index(["arm", "failure"])
    assert list(frame.index) == [
        ("zero", "tense"),
        ("zero", "empty"),
        ("shots", "tense"),
        ("shots", "stem"),
        ("shots+grpo", "tense"),
    ]
    tense, empty = frame.loc[("zero", "tense")], frame.loc[("zero", "empty")]
    assert (tense["count"], tense["share"], tense["meaning"]) == (10, 0.5, "Another tense.")
    assert (tense["input"], tense["answer"], tense["gold"]) == ("v0\npast", "a0", "g0")
    text = read_records(folder / "evals/E0/records.parquet")[10].text
    assert (empty["meaning"], empty["answer"]) == ("The answer holds no text.", text)


def test_flow_counts_every_answer_once(folder):
    frame = flow(load_run(folder), "zero", "shots")
    assert frame["count"].sum() == 20
    found = {(row["from"], row["to"]): (row["kind"], row["count"]) for _, row in frame.iterrows()}
    assert found == {
        ("tense", "correct"): ("fixed", 9),
        ("tense", "tense"): ("still", 1),
        ("empty", "tense"): ("changed", 6),
        ("correct", "correct"): ("still-correct", 3),
        ("correct", "stem"): ("broken", 1),
    }
    with pytest.raises(ReportError, match="no arm 'nope'"):
        flow(load_run(folder), "zero", "nope")


def test_cost_by_purpose_and_who_shares_it(folder):
    frame = cost(load_run(folder)).set_index(["arm", "purpose"])
    assert frame.loc[("shots", "metric"), "completions"] == 30
    assert frame.loc[("shots", "metric"), "shared_with"] == "shots+grpo"
    assert frame.loc[("shots+grpo", "eval"), "completions"] == 5
    assert frame.loc[("shots+grpo", "rollout"), "shared_with"] == ""
    training = frame.loc[("shots+grpo", "training")]
    assert (training["train_tokens"], training["optimizer_steps"]) == (700, 7)
    assert training["seconds"] == 4.0
    assert frame.loc[("zero", "test"), "completions"] == 20


def test_curves_are_long(folder):
    frame = curves(load_run(folder))
    assert frame.to_dict("records") == [
        {"arm": "shots+grpo", "seed": 0, "method": "grpo", "stage": "S2"}
        | {"step": 1, "rollouts": 8, "name": name, "value": value}
        for name, value in (("reward", 0.5), ("dev_score", 0.25))
    ]


def test_slices_leave_out_ids_and_lists(folder):
    frame = slices(load_run(folder))
    assert set(frame["feature"]) == {"regular"}
    zero = frame[frame["arm"] == "zero"].set_index("value")
    assert zero["n"].to_dict() == {"False": 10, "True": 10}
    assert zero["score"].to_dict() == {"False": 0.2, "True": 0.2}


def test_slices_count_values_over_all_arms_and_answers_that_have_one(folder):
    # over the arms together, `dozen` has twelve values and `more` thirteen
    for key, first in (("E0", 0), ("E1", 1), ("E2", 0)):
        path = folder / "evals" / key / "records.parquet"
        rows = []
        for i, row in enumerate(read_records(path)):
            meta = {"dozen": first + i % 11, "more": first + i % 12}
            meta |= {"mixed": [1, True, None, {}][i % 4]} | ({"some": "x"} if i < 5 else {})
            rows.append(replace(row, meta=json.dumps(meta)))
        write_records(path, rows)
    frame = slices(load_run(folder))
    assert set(frame["feature"]) == {"dozen", "mixed", "some"}
    zero = frame[frame["arm"] == "zero"].set_index(["feature", "value"])
    assert zero.loc["dozen"]["n"].to_dict() == {str(i): 2 if i < 9 else 1 for i in range(11)}
    assert zero.loc["mixed"]["n"].to_dict() == {"1": 5, "True": 5, "None": 5}
    best = frame[(frame["arm"] == "shots+grpo") & (frame["feature"] == "some")]
    assert best[["value", "n", "score"]].to_numpy().tolist() == [["x", 5, 1.0]]
