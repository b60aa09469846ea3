"""A Hub dataset as the data of a `task.yaml`: its splits by our names, its values as texts."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tasks.declaration import Declaration
from tasks.hub import hub_rows, hub_splits
from tasks.rows import Row
from tasks.text import nearest
from tasks.types import SPLITS, SplitName, TaskError
from tasks.values import as_text

HUB = re.compile(r"hub:(?P<name>[^:@\s]+)(?::(?P<config>[^:@\s]+))?(?:@(?P<revision>[^:@\s]+))?")
SPLIT_NAMES: Mapping[str, SplitName] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("dev", "validation", "valid", "val", "development", "eval"), "dev"),
    **dict.fromkeys(("test", "testing"), "test"),
}
Rows = list[tuple[SplitName | None, Row]]


def parse_hub(spelling: str) -> tuple[str, str | None, str | None]:
    """(dataset, config, revision) of hub:owner/name[:config][@revision]. Raises TaskError."""
    match = HUB.fullmatch(spelling)
    if not match or match["name"].count("/") > 1 or match["name"].startswith((".", "/", "~")):
        raise TaskError(f'"{spelling}": write hub:owner/name, hub:owner/name:config@revision')
    return match["name"], match["config"], match["revision"]


def read_hub(spec: Declaration, where: str) -> tuple[Rows, str]:
    """Every row with its split, and a text that changes when what was read does.

    A split is None where it is to be cut: from train, when the dataset has no dev or no test; from
    all there is, when it has one split only. Raises TaskError in one line.
    """
    assert isinstance(spec.data, str), "files are read elsewhere"
    dataset, config, revision = parse_hub(spec.data)
    config, revision = spec.config or config, spec.revision or revision
    names = _split_names(spec, hub_splits(dataset, config, revision), where)
    heads = [n.partition(".")[0] for n in (*spec.inputs, spec.answer, *spec.meta)]
    wanted = tuple(dict.fromkeys(heads)) if spec.inputs else ()
    digest = hashlib.sha256()
    rows: Rows = []
    for split, name in names.items():
        for number, raw in enumerate(hub_rows(dataset, config, name, revision, wanted), 1):
            digest.update(json.dumps(raw, sort_keys=True, default=str).encode("utf-8", "replace"))
            columns = {**_flat(raw), spec.id: f"{name}-{number}"}
            cut = split == "train" and len(names) < len(SPLITS)
            rows.append((None if cut else split, Row(f"{dataset} {name}:{number}", columns)))
    return _as_texts(rows, spec), f"{dataset} {config} {revision} {digest.hexdigest()}"


def _split_names(spec: Declaration, there: Sequence[str], where: str) -> dict[SplitName, str]:
    """Our splits -> those of the dataset; without dev or test where it has none."""
    for split, name in spec.splits.items():
        if name not in there:
            raise TaskError(
                f'{where}: splits: {split}: the dataset has no split "{name}"'
                f"{nearest(name, there)}; it has {', '.join(there)}"
            )
    if spec.splits:
        return {split: spec.splits[split] for split in SPLITS if split in spec.splits}
    found: dict[SplitName, str] = {}
    for name in there:
        if split := SPLIT_NAMES.get(name.lower()):
            found.setdefault(split, name)
    if "train" not in found:
        if len(there) > 1:
            raise TaskError(
                f"{where}: which of {', '.join(there)} is train? Write splits: "
                f"{{train: {there[0]}}}"
            )
        return {"train": there[0]}  # all of it is cut
    return {split: found[split] for split in SPLITS if split in found}


def _flat(raw: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Mappings by their parts: answers.text; each stays as a whole, too."""
    flat: dict[str, Any] = {}
    for name, value in raw.items():
        flat[f"{prefix}{name}"] = value
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
    return flat


def _as_texts(rows: Rows, spec: Declaration) -> Rows:
    """Inputs as texts. An answer may stay a list: all of it is accepted. Raises TaskError for a
    label that the dataset does not publish (-1), and for what is empty: nobody can mend it there.
    """
    has_names = any(isinstance(row.columns.get(spec.answer), str) for _, row in rows)
    parts = {name for _, row in rows for name, v in row.columns.items() if isinstance(v, Mapping)}

    def texts(row: Row) -> Iterator[tuple[str, Any]]:
        for name, value in row.columns.items():
            if (
                (name == spec.answer and isinstance(value, list))
                or name in spec.meta
                or name == "meta"
            ):
                yield name, value
            elif spec.inputs or name not in parts:
                yield name, as_text(value)

    found: Rows = []
    for split, row in rows:
        value = row.columns.get(spec.answer, "")
        if has_names and value == -1:
            raise TaskError(
                f'{row.where}: "{spec.answer}" is -1, a label that is not published; name another '
                "split, such as splits: {train: train, test: validation}"
            )
        columns = dict(texts(row))
        for name in (spec.answer, *spec.inputs):
            if columns.get(name, "x") in ("", []):
                raise TaskError(
                    f'{row.where}: "{name}" is empty; tasklift collect {spec.data} --out DIR makes '
                    "a task without such rows"
                )
        found.append((split, Row(row.where, columns)))
    return found
