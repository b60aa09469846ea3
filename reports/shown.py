"""Tables in a notebook, as people read them: rounded, intervals in brackets, the best in bold.

Everything a model wrote is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape as escaped
from typing import TYPE_CHECKING

import pandas as pd

from reports import escape, marks
from reports.render import texts

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

ROWS = 100  # shown of a long table


class Table(pd.DataFrame):
    """A DataFrame that a notebook shows with `styled`. What is computed from it is a plain one."""

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    def _repr_html_(self) -> str:
        return html(self)


def styled(frame: pd.DataFrame, rows: int = ROWS) -> Styler:
    """The first `rows` of a table as a pandas Styler: figures as in the report, escaped."""
    from pandas.io.formats.style import Styler

    top = frame.head(rows)
    shown = texts(top, lambda text: escape.plain(text, 300), gap=" ")
    names = list(shown.columns)
    told = pd.DataFrame(shown.rows(), columns=pd.Index(names), dtype="object")
    for star, place in zip(marks.stars(top), told.index, strict=True):
        if star:
            told.loc[place, "delta"] = f"{told.loc[place, 'delta']} {star}"
    bold = pd.DataFrame("", index=told.index, columns=told.columns)
    for name, flags in marks.best(top).items():
        if name in bold:
            bold.loc[flags, name] = "font-weight: bold"
    numbers = [name for name, number in shown.columns.items() if number]
    look = Styler(told).apply(lambda _: bold, axis=None).set_properties(**{"text-align": "left"})
    look.set_properties(subset=pd.Index(numbers), **{"text-align": "right"})
    look.hide(axis="index").format(escape="html")
    look.relabel_index([escaped(shown.heading(name)) for name in names], axis="columns")
    return look


def html(frame: pd.DataFrame, title: str = "", problems: Mapping[str, str] | None = None) -> str:
    """A table for a notebook, with how much of it is not shown and what could not be read."""
    parts = [f"<p>{escaped(title)}</p>"] if title else []
    parts.append(styled(frame).to_html())
    if any(marks.stars(frame.head(ROWS))):
        parts.append(f"<p>{escaped(marks.LEGEND)}</p>")
    if len(frame) > ROWS:
        parts.append(f"<p>{ROWS:,} of {len(frame):,} rows</p>")
    said = (problems or {}).values()
    parts += [f"<p>Not read: {escaped(escape.plain(problem, 300))}</p>" for problem in said]
    return "\n".join(parts)
