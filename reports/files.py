"""Tables as files that another program reads, and back."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pyarrow as pa

from reports.columns import dtypes, spec, typed
from reports.load import ReportError
from reports.render import Format, render

PARQUET = "parquet"
FILE_FORMATS = ("terminal", "markdown", "csv", "latex", PARQUET)


def write_frame(frame: pd.DataFrame, path: str | Path, format: str, title: str = "") -> None:
    """Write a table in one of `FILE_FORMATS`, whole or not at all.

    Raises ReportError where the folder is not there, or cannot be written to.
    """
    place = Path(path)
    temporary = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        if format == PARQUET:
            pd.DataFrame(frame).to_parquet(temporary, index=False)
        else:
            # as it stands: a line break that a model wrote is not the system's to change
            told: Format = format  # type: ignore[assignment]
            temporary.write_text(render(frame, told, title=title), "utf-8", newline="")
        os.replace(temporary, place)
    except OSError as error:
        raise ReportError(f"{place} cannot be written ({error.strerror}); name another") from error
    finally:
        temporary.unlink(missing_ok=True)


def read_frame(path: str | Path, table: str) -> pd.DataFrame:
    """A CSV or Parquet file (by its ending) back, with the types that docs/tables.md has for
    `table`.

    In CSV, missing text and the empty one are the same: it is missing where the table may miss it.
    Raises ReportError on a file that is neither.
    """
    place = Path(path)
    try:
        if place.suffix == ".parquet":
            return typed(table, pd.read_parquet(place))
        names = pd.read_csv(place, nrows=0).columns
        wanted = dtypes(table, names)
        frame = pd.read_csv(
            place,
            dtype=wanted,  # type: ignore[arg-type]
            keep_default_na=False,
            na_values={name: [""] for name, kind in wanted.items() if kind != "str"}
            | {name: [""] for name in _may_miss(table, names)},
        )
        return typed(table, frame)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ReportError(f"{place} is no {table} as CSV or Parquet ({error})") from error


def _may_miss(table: str, names: pd.Index) -> list[str]:
    kinds = {str(name): spec(table, str(name)) for name in names}
    return [name for name, found in kinds.items() if found is not None and found[0] == "str?"]
