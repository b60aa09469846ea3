"""Answers on disk: EvalRecords as one Parquet table, one column a field; read back as columns.

The schema is written out rather than inferred, so that a run in which nothing failed stores the
same columns of the same types as one in which everything did.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.types import EvalRecord

_ARROW = {
    "str": pa.string(),
    "str | None": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
}
SCHEMA = pa.schema(
    [
        pa.field(name, _ARROW[shown], nullable="None" in shown)
        for name, shown in EvalRecord.__annotations__.items()
    ]
)

CORRECT = "correct"
UNCLASSIFIED = "unclassified"
TEXT = pd.StringDtype("pyarrow", na_value=float("nan"))


def write_records(path: Path, records: Iterable[EvalRecord]) -> None:
    """Write `records` to `path`, whole or not at all: a temporary name first, then a rename."""
    rows = [{name: _storable(value) for name, value in asdict(r).items()} for r in records]
    write_columns(path, pa.Table.from_pylist(rows, schema=SCHEMA))


def write_columns(path: Path, answers: pa.Table) -> None:
    """The same of a table of `SCHEMA`. LZ4 is read in half the time of Parquet's usual Snappy."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        pq.write_table(answers, temporary, compression="lz4")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_records(path: Path) -> list[EvalRecord]:
    """Inverse of `write_records`. Raises OSError, or pyarrow.ArrowException on another file."""
    return [EvalRecord(**row) for row in pq.read_table(path, schema=SCHEMA).to_pylist()]


def read_answers(path: Path) -> pd.DataFrame:
    """The same file as columns: one row an answer in stored order, one column a field.

    Text is held by Arrow, as it lies on disk, which a million answers need: as Python objects
    they would take several times the room. `failure` is missing where there was none; `inputs`
    and `meta` are JSON text. Raises as `read_records`.
    """
    return pq.read_table(path, schema=SCHEMA, pre_buffer=False).to_pandas(
        types_mapper={pa.string(): TEXT}.get, split_blocks=True, self_destruct=True
    )


def outcomes(answers: pd.DataFrame) -> pd.Series:
    """What came of each answer: `CORRECT`, or its failure class; as categories, index as given.

    `UNCLASSIFIED` where a wrong answer has no class, or one that reads like a right answer's.
    """
    code_A, classes = pd.factorize(answers["failure"])  # -1: missing
    named = [UNCLASSIFIED if name in ("", CORRECT) else str(name) for name in classes]
    code_N, names = pd.factorize(np.array([CORRECT, UNCLASSIFIED, *named], dtype=object))
    place_A = np.where(answers["correct"], 0, np.where(code_A < 0, 1, code_A + 2))
    categories = pd.Categorical.from_codes(code_N[place_A], list(names))
    return pd.Series(categories, index=answers.index)


@dataclass(frozen=True, eq=False)
class Places:
    """`example_A[a]` is the place in `ids` of the example of answer a; `ids` in stored order."""

    example_A: np.ndarray
    ids: pd.Index


def places(answers: pd.DataFrame) -> Places:
    """Which example each answer is to."""
    code_A, ids = pd.factorize(answers["example_id"])
    return Places(code_A, pd.Index(ids, name="example_id"))


def mean_scores(answers: pd.DataFrame, of: Places | None = None) -> pd.Series:
    """The mean score of each example over its samples; index: example id, in stored order.

    `of` are the `places` of these answers, where they are known.
    """
    of = places(answers) if of is None else of
    code_A, ids = of.example_A, of.ids
    scores = answers["score"].to_numpy(dtype=float)
    if len(ids) < len(scores):
        # added up from the smallest, so that the order of the rows does not show in the last bit
        order_A = np.lexsort((scores, code_A))
        sum_E = np.bincount(code_A[order_A], weights=scores[order_A])
        scores = sum_E / np.bincount(code_A)
    return pd.Series(scores, index=ids, name="score")


def _storable(value: Any) -> Any:
    """A scorer may hand back half of a surrogate pair; UTF-8, and so Parquet, cannot hold it."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value
