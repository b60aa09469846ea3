"""Answers as columns: what came of each, and the mean score of an example over its samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from evaluation.records import (
    CORRECT,
    TEXT,
    UNCLASSIFIED,
    mean_scores,
    outcomes,
    read_answers,
    read_records,
    write_records,
)
from evaluation.types import EvalRecord

TEXTS = {name: name for name in ("split", "example_id", "answer", "gold", "text", "feedback")}
RECORD = EvalRecord(
    **{**TEXTS, "sample": 0, "score": 1.0, "correct": True, "failure": None, "finish": "stop"},
    **{"prompt_tokens": 1, "completion_tokens": 1, "seconds": 0.5, "inputs": "{}", "meta": "{}"},
)


def columns(**given: list) -> pd.DataFrame:
    return pd.DataFrame(given).astype({"failure": TEXT, "example_id": TEXT})


def test_a_wrong_answer_never_counts_as_correct() -> None:
    answers = columns(
        example_id=list("abcdef"),
        correct=[True, False, False, False, False, True],
        failure=[None, "tense", None, "", "correct", "tense"],
    )
    found = outcomes(answers.set_axis(range(10, 16)))
    expected = [CORRECT, "tense", UNCLASSIFIED, UNCLASSIFIED, UNCLASSIFIED, CORRECT]
    assert found.tolist() == expected and found.index.tolist() == list(range(10, 16))
    all_right = outcomes(answers.iloc[[0]])
    assert all_right.tolist() == [CORRECT]


def test_samples_are_averaged_by_example_in_any_order() -> None:
    draw = np.random.default_rng(0)
    ids = np.repeat([f"e{i}" for i in range(50)], 7)
    answers = columns(
        example_id=list(ids),
        score=draw.random(350).tolist(),
        failure=[None] * 350,
    )
    found = mean_scores(answers)
    assert found.index.tolist() == [f"e{i}" for i in range(50)]
    by_hand = [answers["score"][7 * i : 7 * i + 7].mean() for i in range(50)]
    assert found.tolist() == pytest.approx(by_hand)
    for seed in range(5):
        shuffled = mean_scores(answers.sample(frac=1, random_state=seed))
        pd.testing.assert_series_equal(shuffled.sort_index(), found.sort_index(), check_exact=True)


def test_one_sample_each_is_its_own_mean() -> None:
    answers = columns(example_id=["b", "a"], score=[0.3, 1.0], failure=[None, None])
    assert mean_scores(answers).to_dict() == {"b": 0.3, "a": 1.0}


def test_answers_from_before_there_were_tools_are_read(tmp_path: Path) -> None:
    write_records(tmp_path / "new.parquet", [RECORD])
    table = pq.read_table(tmp_path / "new.parquet").drop_columns(["transcript"])
    pq.write_table(table, tmp_path / "old.parquet")
    assert read_records(tmp_path / "old.parquet") == [RECORD]
    assert read_answers(tmp_path / "old.parquet")["transcript"].count() == 0
