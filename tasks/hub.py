"""Rows of a dataset on the Hugging Face Hub, or of a copy of it on this disk, through `datasets`.

A copy is looked for first, in the folder the environment variable TASKLIFT_DATA names:
`$TASKLIFT_DATA/owner/name`, with one folder for each config where there are several, and in it a
file for each split (`train.jsonl`, `test.parquet`, or the files as they lie on the Hub) that has
the dataset's columns. Then what `datasets` keeps in its cache is taken, and only then the Hub is
asked, so that a run does not change when the dataset does and needs no network the second time.
"""

from __future__ import annotations

import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tasks.text import nearest, shorten
from tasks.types import TaskError

if TYPE_CHECKING:
    from datasets import Dataset

T = TypeVar("T")
FOLDER = "TASKLIFT_DATA"
HUB_SECONDS = 3.0


def hub_rows(
    dataset: str,
    config: str | None,
    split: str,
    revision: str | None = None,
    columns: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """The rows of one split, in the order they are stored; a class label is given as its name.

    Only `columns` of them unless that is (). Raises TaskError, one line, when there is no such
    dataset, config, split or column, and when the Hub is needed and cannot be reached.
    """
    where = f'dataset "{dataset}"'
    found = _load(dataset, config, revision, os.environ.get(FOLDER, ""))
    if split not in found:
        raise TaskError(f'{where}: no split "{split}"; it has {", ".join(found)}')
    rows = found[split]
    for name in columns:
        if name not in rows.column_names:
            have = ", ".join(rows.column_names)
            raise TaskError(
                f'{where}: no column "{name}"{nearest(name, rows.column_names)}: {have}'
            )
    return _named(rows.select_columns(list(columns)) if columns else rows)


def hub_splits(dataset: str, config: str | None, revision: str | None = None) -> list[str]:
    """The names of its splits, as the dataset spells them. Raises TaskError as `hub_rows` does."""
    return list(_load(dataset, config, revision, os.environ.get(FOLDER, "")))


def offline_first(what: str, load: Callable[[], T]) -> T:
    """`load()` of a library that reads the Hub: from the cache if that does, else from the Hub.

    Raises TaskError, one line, when the Hub is needed and cannot be reached, and for whatever
    else `load` raises. `what` starts the line.
    """
    try:
        with _quiet(), _offline():
            return load()
    except Exception as error:  # libraries of all kinds
        if not _wants_network(error):
            raise TaskError(f"{what}: {_told(error)}") from error
    if problem := _unreachable():
        raise TaskError(f"{what}: {problem}, and its data is not here; connect once")
    try:
        return load()
    except Exception as error:
        raise TaskError(f"{what}: {_told(error)}") from error


def _wants_network(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ConnectionError) or "offline" in type(error).__name__.lower():
            return True
        error = error.__cause__ or error.__context__
    return False


def _named(rows: Dataset) -> list[dict[str, Any]]:
    from datasets import ClassLabel

    labels = {n: kind for n, kind in rows.features.items() if isinstance(kind, ClassLabel)}
    plain: list[dict[str, Any]] = rows.to_list()
    for row in plain:
        for name, kind in labels.items():
            if row[name] is not None and row[name] >= 0:  # -1: not published
                row[name] = kind.int2str(row[name])
    return plain


@cache
def _load(
    dataset: str, config: str | None, revision: str | None, copies: str
) -> Mapping[Any, Dataset]:
    folder = Path(copies).expanduser() / dataset if copies else None
    if folder and folder.is_dir():
        return _load_copy(folder, config)
    kept = _load_kept(dataset, config, revision)
    return kept or _load_remote(dataset, config, revision)


def _load_copy(folder: Path, config: str | None) -> Mapping[Any, Dataset]:
    from datasets import load_dataset

    try:
        with _quiet():
            if config and (folder / config).is_dir():
                return load_dataset(str(folder / config))
            has_card = (folder / "README.md").is_file()
            return load_dataset(str(folder), config if has_card else None)
    except Exception as error:  # whatever a file on disk may hold
        raise TaskError(f"{folder}: {_told(error)}; write train.jsonl and its like") from error


def _load_kept(dataset: str, config: str | None, revision: str | None) -> Any:
    """What the cache holds of it, None when it holds nothing or another revision."""
    from datasets import load_dataset_builder

    try:
        with _quiet(), _offline():
            builder = load_dataset_builder(dataset, config)
            if revision is None or (builder.hash or "").startswith(revision):
                return builder.as_dataset()
    except Exception:  # it is not there, or not whole: the Hub is asked
        return None
    return None


def _load_remote(dataset: str, config: str | None, revision: str | None) -> Mapping[Any, Dataset]:
    from datasets import load_dataset

    where = f'dataset "{dataset}"'
    if problem := _unreachable():
        raise TaskError(
            f"{where}: {problem}, and there is no copy of it here; connect once, or put files "
            f"such as train.jsonl into $TASKLIFT_DATA/{dataset}{f'/{config}' if config else ''}"
        )
    try:
        return load_dataset(dataset, config, revision=revision)
    except Exception as error:  # many kinds: gated, renamed, no such config, network lost
        raise TaskError(f"{where}: {_told(error)}") from error


def _told(error: Exception) -> str:
    return shorten(" ".join(str(error).split()) or type(error).__name__, 300).rstrip(".")


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars for what is done in a moment, and no warning that the cache is used."""
    from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from datasets.utils.logging import get_verbosity, set_verbosity, set_verbosity_error

    shown, told = not are_progress_bars_disabled(), get_verbosity()
    disable_progress_bars()
    set_verbosity_error()
    try:
        yield
    finally:
        set_verbosity(told)
        if shown:
            enable_progress_bars()


@contextmanager
def _offline() -> Iterator[None]:
    from datasets import config

    before = config.HF_HUB_OFFLINE
    config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE = before


def _unreachable() -> str:
    """'' when the Hub answers. `datasets` itself tries for 23 seconds, a line for each try."""
    from datasets import config

    if config.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    answered = threading.Event()

    def knock() -> None:
        try:
            request = urllib.request.Request(config.HF_ENDPOINT, method="HEAD")
            urllib.request.urlopen(request, timeout=HUB_SECONDS).close()
        except urllib.error.HTTPError:
            pass  # it answered
        except (OSError, ValueError, HTTPException):
            return
        answered.set()

    # in a thread, because no timeout bounds a name look-up
    thread = threading.Thread(target=knock, daemon=True)
    thread.start()
    thread.join(HUB_SECONDS)
    return "" if answered.is_set() else "the Hub cannot be reached"
