"""Rows of a JSONL or CSV file, each with the line it came from, so that a mistake can be shown."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.types import TaskError

SAMPLE = '{"input": "2 + 2", "answer": "4"}'


@dataclass(frozen=True)
class Row:
    """One row: column name -> value as the file has it. `where` is "file:line"."""

    where: str
    columns: Mapping[str, Any]


def read_rows(path: Path) -> list[Row]:
    """All rows of a .jsonl or .csv file, in order.

    Raises TaskError, naming file and line, for a file that is missing, empty, not UTF-8 or badly
    formed, and for a row whose columns are not those of the first.
    """
    if not os.path.isfile(path):  # Path.is_file raises on a name that is too long
        raise TaskError(f"{path}: no such file")
    if path.suffix not in (".jsonl", ".csv"):
        raise TaskError(f"{path}: data must be a .jsonl or a .csv file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise TaskError(f"{path}: cannot be read ({error}); save it as UTF-8 text") from error
    rows = list(_read_jsonl(path, text) if path.suffix == ".jsonl" else _read_csv(path, text))
    if not rows:
        raise TaskError(f"{path}: empty; write one row a line, such as {SAMPLE}")
    _check_columns(rows)
    return rows


def _read_jsonl(path: Path, text: str) -> Iterator[Row]:
    # not splitlines(): JSON strings may hold U+2028 and its like unescaped
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            columns = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TaskError(f"{where}: not JSON ({error}); write {SAMPLE}") from error
        if not isinstance(columns, dict):
            kind = type(columns).__name__
            raise TaskError(f"{where}: a {kind}, not an object; write {SAMPLE}")
        yield Row(where, columns)


def _read_csv(path: Path, text: str) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, [])
        if len(set(header)) < len(header):
            raise TaskError(f"{path}:1: a column name occurs twice: {', '.join(header)}")
        for cells in reader:
            if not cells:
                continue
            where = f"{path}:{reader.line_num}"
            if len(cells) != len(header):
                raise TaskError(
                    f"{where}: {len(cells)} cells where the header has {len(header)}; "
                    'put text that holds a comma in "quotes"'
                )
            yield Row(where, dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise TaskError(f"{path}:{reader.line_num}: not CSV ({error})") from error


def _check_columns(rows: list[Row]) -> None:
    first = rows[0]
    for row in rows:
        if odd := set(first.columns) ^ set(row.columns):
            name = min(odd)
            have, lack = (first, row) if name in first.columns else (row, first)
            raise TaskError(f'{lack.where}: no column "{name}", which {have.where} has')
