"""Inflection-like answers with planted errors: named, counted, and followed through all arms."""

from __future__ import annotations

import importlib
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evaluation.records import read_records, write_records
from evaluation.types import EvalRecord
from experiments.cli import TABLES as LISTED
from experiments.cli import main
from reports import (
    TABLES,
    error_examples,
    error_types,
    error_types_by_arm,
    format_in_words,
    formats,
    load_run,
    report_markdown,
    table,
)
from reports.error_types import BY_ARM, ERROR_TYPES, EXAMPLES
from reports.format_split import FORMAT

LETTERS = list("bdfgklmnprst")


def verbs(n: int = 400, seed: int = 0) -> list[tuple[str, bool]]:
    rng = np.random.default_rng(seed)
    made = {"".join(rng.choice(LETTERS, size=rng.integers(4, 8))) for _ in range(n)}
    return [(verb, bool(rng.random() < 0.25)) for verb in sorted(made)]


def record(verb: str, irregular: bool, answer: str, failure: str | None) -> EvalRecord:
    gold = f"{verb[:-1]}ought" if irregular else f"{verb}ed"
    return EvalRecord(
        split="test",
        example_id=verb,
        sample=0,
        score=float(failure is None),
        correct=failure is None,
        failure=failure,
        answer=gold if failure is None else answer,
        gold=gold,
        text=answer,
        feedback="",
        finish="stop",
        prompt_tokens=9,
        completion_tokens=2,
        seconds=0.1,
        inputs=json.dumps({"verb": verb}),
        meta=json.dumps({"pattern": "irregular" if irregular else "regular", "in": len(verb)}),
    )


def before(verb: str, irregular: bool, luck: float) -> tuple[str, str | None]:
    """Copies half of the verbs, talks around a tenth."""
    if luck < 0.5:
        return verb, "unchanged"
    return ("", None) if luck < 0.9 else (f"It is {verb}ed, of course", "truncated")


def after(verb: str, irregular: bool, luck: float) -> tuple[str, str | None]:
    """Puts -ed to most irregular verbs; a few slips else."""
    if irregular and luck < 0.7:
        return f"{verb}ed", "over_regularized"
    return ("", None) if luck < 0.95 else (verb[::-1], "other")


@pytest.fixture
def planted(folder: Path) -> Path:
    """The run of conftest with other answers: its arms shots and shots+grpo as told above."""
    for key, answered, seed in (("E0", before, 1), ("E1", before, 2), ("E2", after, 3)):
        luck = np.random.default_rng(seed)
        rows = [
            record(verb, irregular, *answered(verb, irregular, luck.random()))
            for verb, irregular in verbs()
        ]
        write_records(folder / "evals" / key / "records.parquet", rows)
    return folder


def test_over_regularized_irregular_verbs_are_named_with_counts_that_can_be_checked(planted):
    run = load_run(planted)
    frame = error_types(run)
    assert tuple(frame.columns) == ERROR_TYPES
    assert set(frame["arm"]) == {"shots+grpo"}
    told = frame.set_index(["kind", "name", "failure"])
    answers = run.answers["E2"]
    irregular = answers["meta"].str.contains('"irregular"')
    over = answers["failure"].eq("over_regularized")
    group = told.loc["subgroup", "pattern = irregular", "over_regularized"]
    assert (group["n"], group["failures"]) == (irregular.sum(), (over & irregular).sum())
    assert (group["share"], group["rate_outside"]) == (1.0, 0.0)
    every = told.loc["subgroup", "pattern = irregular", "all"]
    assert every["failures"] == (irregular & ~answers["correct"]).sum()
    assert every["mostly"] == f"over_regularized, {over.sum()} of {every['failures']}"
    cluster = told.loc["cluster", 'verb + "ed"', "all"]
    assert (cluster["n"], cluster["failures"]) == ((~answers["correct"]).sum(), over.sum())
    assert cluster["where"] == f"pattern = irregular ({over.sum()} of {over.sum()})"


def test_every_arm_is_followed_and_the_baseline_compared(planted):
    frame = error_types_by_arm(load_run(planted))
    assert tuple(frame.columns) == BY_ARM
    over = frame[(frame["name"] == 'verb + "ed"')].set_index("arm")
    assert list(over.index) == ["zero", "shots", "shots+grpo"]
    assert over.loc["zero", "failures"] == 0 and over.loc["zero", "change"] == 0.0
    assert over.loc["shots+grpo", "change"] == over.loc["shots+grpo", "rate"] > 0
    for arm in ("zero", "shots"):
        copies = error_types_by_arm(load_run(planted), arm).set_index(["name", "arm"])
        assert copies.loc[("the verb, unchanged", "shots+grpo"), "failures"] == 0
        assert copies.loc[("the verb, unchanged", arm), "failures"] > 100


def test_examples_show_what_each_arm_answered(planted):
    run = load_run(planted)
    frame = error_examples(run)
    assert tuple(frame.columns) == EXAMPLES
    over = frame[(frame["kind"] == "cluster") & (frame["name"] == 'verb + "ed"')]
    assert list(over["arm"]) == ["zero", "shots", "shots+grpo"] * 3
    mine = over[over["arm"] == "shots+grpo"]
    assert list(mine["answer"]) == [f"{verb}ed" for verb in mine["example_id"]]
    assert not mine["correct"].any()
    zero = run.answers["E0"].set_index("example_id")
    for row in over[over["arm"] == "zero"].to_dict("records"):
        assert row["correct"] == zero.loc[row["example_id"], "correct"]


def test_the_report_and_the_verbs_tell_them(planted, capsys):
    text = report_markdown(load_run(planted))
    assert "## Where shots+grpo fails" in text
    assert "| pattern = irregular | over\\_regularized |" in text
    assert "Looked for in all" in text
    assert main(["failures", str(planted), "--arm", "zero"]) == 0
    assert "the verb, unchanged" in capsys.readouterr().out
    csv = pd.read_csv(io.StringIO(table(planted, "error_types", "csv")))
    assert tuple(csv.columns) == ERROR_TYPES


def test_of_very_many_examples_a_sample_is_looked_at_and_the_report_says_so(planted, monkeypatch):
    module = importlib.import_module("reports.error_types")  # the name is that of a function, too
    monkeypatch.setattr(module, "MOST_EXAMPLES", 300)
    monkeypatch.setattr(module, "MOST_READ", 200)
    run = load_run(planted)
    assert "Looked for in 300 of 4" in report_markdown(run)
    assert error_types_by_arm(run).groupby("kind")["n"].max()["cluster"] == 200
    assert error_types(run).equals(error_types(load_run(planted)))


def test_of_very_many_samples_the_first_are_looked_at_and_the_report_says_so(planted, monkeypatch):
    alone = error_types(load_run(planted))
    for path in planted.glob("evals/*/records.parquet"):
        rows = read_records(path)
        later = [replace(r, sample=i, correct=False, failure="later") for r in rows for i in (1, 2)]
        write_records(path, [*later, *rows])
    run = load_run(planted)
    assert "were looked at" not in report_markdown(run)
    assert error_types_by_arm(run).groupby("kind")["n"].max()["cluster"] == 3 * len(rows)
    module = importlib.import_module("reports.error_types")
    monkeypatch.setattr(module, "MOST_EXAMPLES", 400)
    monkeypatch.setattr(module, "MOST_READ", 400)
    run = load_run(planted)
    assert "at a seed the first 1 were looked at and the first 1 read" in report_markdown(run)
    assert error_types(run).equals(alone)


def test_where_nothing_is_systematic_it_says_so(folder):
    run = load_run(folder)
    assert error_types(run).empty and error_types_by_arm(run).empty and error_examples(run).empty
    assert "Nothing that the second half of the examples confirmed." in report_markdown(run)
    assert "Nothing that" in table(folder, "error_types")


def test_format_and_capability_add_up_to_the_delta_of_right_answers(planted):
    path = planted / "run.json"
    info = json.loads(path.read_text())
    run = load_run(planted)
    frame = formats(run)
    assert tuple(frame.columns) == FORMAT and set(frame["by"]) == {"correct"}
    assert np.allclose(frame["delta"], frame["format"] + frame["capability"] + frame["error"])
    last = frame[(frame["arm_a"] == "zero") & (frame["arm_b"] == "shots+grpo")].iloc[0]
    truncated = run.answers["E0"]["failure"].eq("truncated")
    fixed = (truncated & run.answers["E2"]["correct"]).sum()
    assert (last["format_fixed"], last["format_broken"]) == (fixed, 0)
    assert "points of right answers" in format_in_words(run, "zero", "shots+grpo")
    assert format_in_words(run, "shots+grpo", "zero") == ""
    named = {**info, "format_failures": ["unchanged", "truncated"]}
    path.write_text(json.dumps(named))
    more = formats(load_run(planted))
    assert (more["format_fixed"] > frame["format_fixed"]).any()


def test_graded_scores_have_a_row_of_their_own(folder):
    for key in ("E0", "E1"):
        path = folder / "evals" / key / "records.parquet"
        frame = pd.read_parquet(path)
        frame.loc[frame["failure"] == "tense", "score"] = 0.5
        frame.to_parquet(path)
    assert list(formats(load_run(folder))["by"]) == ["correct", "score"] * 3


def test_the_command_line_lists_the_tables_there_are():
    assert set(LISTED) == set(TABLES)
