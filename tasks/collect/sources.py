"""Rows of whatever a user has: CSV, TSV, JSONL, JSON, Parquet, a folder of texts, the Hub."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.collect.delimited import decode, read_delimited
from tasks.hub_data import SPLIT_NAMES, parse_hub
from tasks.types import SplitName, TaskError

KINDS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
LISTED = f"write a {', '.join(KINDS)} file, a folder of texts or hub:owner/name"


@dataclass(frozen=True)
class Record:
    """One row: column name -> value as the source has it. `where` is "file:line", `split` the
    source's own split when it has some."""

    where: str
    columns: Mapping[str, Any]
    split: SplitName | None = None


@dataclass(frozen=True)
class Source:
    """What was read under one spelling. `said` is what there is to say about how."""

    name: str
    records: Sequence[Record]
    sha256: str
    said: str = ""


def read_source(spelling: str) -> Source:
    """All rows of one source. Raises TaskError, one line, for what is missing or badly formed."""
    if spelling.startswith("hub:"):
        return _read_hub(spelling)
    path = Path(spelling).expanduser()
    if os.path.isdir(path):
        return _read_folder(path)
    if not os.path.isfile(path):
        raise TaskError(f"{spelling}: no such file; {LISTED}")
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise TaskError(f"{path}: no kind of file that is known; {LISTED}")
    data = _read_bytes(path)
    digest = hashlib.sha256(data).hexdigest()
    split = SPLIT_NAMES.get(path.stem.lower())
    if kind in (".csv", ".tsv"):
        header, rows, said = read_delimited(path, data)
        records = [
            Record(f"{path.name}:{line}", dict(zip(header, cells, strict=True)), split)
            for line, cells in rows
        ]
    else:
        said = ""
        records = [
            Record(f"{path.name}:{line}", columns, split)
            for line, columns in _read_objects(path, kind, data)
        ]
    if not records:
        raise TaskError(f"{path}: no rows")
    return Source(str(spelling), records, digest, said)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TaskError(f"{path}: cannot be read ({error.strerror})") from error


def _read_objects(path: Path, kind: str, data: bytes) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """(line or number, columns) of JSONL, JSON and Parquet."""
    if kind == ".parquet":
        yield from enumerate(_read_parquet(path), 1)
        return
    text, _ = decode(path, data)
    found: Iterator[tuple[int, Any]] = (
        _json_lines(path, text) if kind != ".json" else enumerate(_json_list(path, text), 1)
    )
    for line, value in found:
        if not isinstance(value, dict):
            kind = type(value).__name__
            raise TaskError(f'{path}:{line}: a {kind}, not an object such as {{"text": "…"}}')
        yield line, value


def _json_lines(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    for line, content in enumerate(text.split("\n"), 1):  # strings may hold other line breaks
        if content.strip():
            yield line, _from_json(content, f"{path}:{line}")


def _json_list(path: Path, text: str) -> list[Any]:
    value = _from_json(text, str(path))
    if isinstance(value, dict):  # {"data": [...]}, {"version": "1", "rows": [...]}
        lists = [part for part in value.values() if isinstance(part, list)]
        value = lists[0] if len(lists) == 1 else value
    if not isinstance(value, list):
        raise TaskError(f"{path}: no list of objects; write [{{…}}, {{…}}], or one a line as JSONL")
    return value


def _from_json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TaskError(f"{where}: not JSON ({error})") from error


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise TaskError(f"{path}: not Parquet ({reason})") from error
    rows = table.to_pylist()
    for column, names in _label_names(table.schema.metadata or {}).items():
        for row in rows:
            number = row.get(column)
            if isinstance(number, int):
                row[column] = names[number] if 0 <= number < len(names) else None
    return rows


def _label_names(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """The names behind ClassLabel columns, which `datasets` keeps in the file's metadata."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        kinds = {name: kind for name, kind in features.items() if isinstance(kind, dict)}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}
    return {n: k["names"] for n, k in kinds.items() if k.get("_type") == "ClassLabel"}


def _read_folder(folder: Path) -> Source:
    """Text files in subfolders, whose names are the labels: folder/billing/17.txt. Above those
    there may be folders for the splits: folder/train/billing/17.txt."""
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    )
    texts = [path for path in files if path.suffix.lower() in (".txt", ".text", ".md", "")]
    texts = [path for path in texts if path.parent != folder]
    if not texts:
        other = next((path for path in files if path.suffix.lower() in KINDS), None)
        hint = f"; name its files, such as {other}" if other else ""
        raise TaskError(
            f"{folder}: no texts in subfolders, such as {folder.name}/LABEL/1.txt{hint}"
        )
    parts = [path.relative_to(folder).parts for path in texts]
    has_splits = all(len(part) > 2 and part[0].lower() in SPLIT_NAMES for part in parts)
    digest = hashlib.sha256()
    records = []
    for path, part in zip(texts, parts, strict=True):
        data = _read_bytes(path)
        digest.update("/".join(part).encode("utf-8", "surrogateescape") + b"\0")
        digest.update(hashlib.sha256(data).digest())
        columns = {"text": decode(path, data)[0], "label": part[1 if has_splits else 0]}
        split = SPLIT_NAMES[part[0].lower()] if has_splits else None
        records.append(Record("/".join(part), columns, split))
    return Source(str(folder), records, digest.hexdigest(), "subfolders are the labels")


def _read_hub(spelling: str) -> Source:
    from tasks.hub import hub_rows, hub_splits

    dataset, config, revision = parse_hub(spelling)
    digest = hashlib.sha256()
    records: list[Record] = []
    names = hub_splits(dataset, config, revision)
    known = [name for name in names if name.lower() in SPLIT_NAMES]
    used = known or names
    for name in used:
        split = SPLIT_NAMES.get(name.lower())
        for number, columns in enumerate(hub_rows(dataset, config, name, revision), 1):
            digest.update(json.dumps(columns, sort_keys=True, default=str).encode())
            records.append(Record(f"{name}:{number}", columns, split))
    left = [name for name in names if name not in used]
    said = f"splits {', '.join(used)}" + (f"; not used: {', '.join(left)}" if left else "")
    return Source(spelling, records, digest.hexdigest(), said)
