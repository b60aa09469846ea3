"""What a `task.yaml` may say, or the options of `from_file`: the same keys, checked once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from tasks.scorers import SCORERS
from tasks.text import nearest
from tasks.types import SPLITS, SplitName, TaskError

ANSWER_ONLY = "Answer with the answer only."


@dataclass(frozen=True)
class Declaration:
    """A task as data. Column names refer to the data file.

    `data` is one file, one for each split, or a Hub dataset, hub:owner/name, with its `config`,
    `revision` and names for `splits`; what it has no split for is cut from its train. Without a
    `split` column, rows of one file are dealt into splits by a hash of their inputs and `seed`.
    `inputs` () means every column left over.
    `format_failures` None means those of the scorer, [] none.
    """

    data: Path | Mapping[SplitName, Path] | str
    name: str = ""
    instruction: str = ANSWER_ONLY
    inputs: tuple[str, ...] = ()
    answer: str = "answer"
    output: str = ""
    id: str = "id"
    split: str = "split"
    meta: tuple[str, ...] = ()
    scorer: str = "exact"
    choices: tuple[str, ...] = ()
    pattern: str = ""
    format_failures: tuple[str, ...] | None = None
    seed: int = 0
    config: str = ""
    revision: str = ""
    splits: Mapping[SplitName, str] = field(default_factory=dict)


KEYS = tuple(key.name for key in fields(Declaration))
OF_HUB = ("config", "revision", "splits")
LISTS = ("inputs", "meta", "choices", "format_failures")


def read_yaml(path: Path) -> Mapping[str, Any]:
    """The mapping in a YAML file. Raises TaskError with file and line."""
    import yaml

    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise TaskError(f"{path}:{line}: not YAML ({error.problem})") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise TaskError(f"{path}: cannot be read ({reason})") from error
    if not isinstance(raw, dict):
        raise TaskError(f"{path}: must hold keys such as data: rows.jsonl, scorer: exact")
    return raw


def declare(raw: Mapping[str, Any], where: Path) -> Declaration:
    """Check keys and kinds of values; `data` is found relative to the folder of `where`.

    Raises TaskError, one line that starts with `where`, for the first thing that is wrong.
    """
    for key in raw:
        if key not in KEYS:
            hint = nearest(str(key), KEYS) or f"; known are {', '.join(KEYS)}"
            raise TaskError(f'{where}: unknown key "{key}"{hint}')
    if "data" not in raw:
        raise TaskError(f"{where}: no data; write data: rows.jsonl")
    values = {key: _read_value(key, value, where) for key, value in raw.items()}
    if values.get("scorer", "exact") not in SCORERS:
        name = values["scorer"]
        hint = nearest(name, SCORERS)
        raise TaskError(f'{where}: unknown scorer "{name}"{hint}: one of {", ".join(SCORERS)}')
    declared = Declaration(**values)
    for key in OF_HUB:
        if key in raw and not isinstance(declared.data, str):
            raise TaskError(f"{where}: {key} is for Hub datasets; write data: hub:owner/name")
    return declared


def _read_value(key: str, value: Any, where: Path) -> Any:
    if key == "data":
        return _read_data(value, where)
    if key == "splits":
        return _read_splits(value, where)
    if key == "seed":
        if type(value) is not int:
            raise TaskError(f"{where}: seed must be a whole number, not {value!r}")
        return value
    if key not in LISTS:
        return _read_text(key, value, where)
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise TaskError(f"{where}: {key} must be a list, such as {key}: [first, second]")
    return tuple(_read_text(key, item, where) for item in items)


def _read_text(key: str, value: Any, where: Path) -> str:
    if isinstance(value, bool):
        raise TaskError(
            f"{where}: {key} holds {value}, YAML's reading of a bare yes, no, on, off, true or "
            'false; put it in "quotes"'
        )
    if not isinstance(value, str | int | float) or not str(value).strip():
        # an empty instruction is a fair baseline; an empty name or column is a slip
        if key == "instruction" and value == "":
            return ""
        raise TaskError(f"{where}: {key} must be text, not {value!r}")
    return str(value)


def _read_splits(value: Any, where: Path) -> Mapping[SplitName, str]:
    if not isinstance(value, dict) or "train" not in value or not set(value) <= set(SPLITS):
        raise TaskError(
            f"{where}: splits must name the dataset's, such as {{train: train, dev: validation, "
            "test: test}; train is needed"
        )
    return {s: _read_text("splits", value[s], where) for s in SPLITS if s in value}


def _read_data(value: Any, where: Path) -> Path | Mapping[SplitName, Path] | str:
    if isinstance(value, str) and value.startswith("hub:"):
        return value
    if isinstance(value, str | Path):
        return where.parent / Path(value).expanduser()
    if not isinstance(value, dict) or set(value) != set(SPLITS):
        raise TaskError(
            f"{where}: data must be one file, hub:owner/name, or {{train: a.jsonl, "
            "dev: b.jsonl, test: c.jsonl}"
        )
    return {
        s: where.parent / Path(_read_text("data", value[s], where)).expanduser() for s in SPLITS
    }
