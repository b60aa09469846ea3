"""Whether the first row of a table is a header: without one its first example would be lost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.collect.names import ANSWERS, INPUTS, KEYS, plain_word
from tasks.text import shorten
from tasks.types import TaskError

USUAL = {*ANSWERS, *INPUTS, *KEYS, "split"}
LONG_NAME = 8  # words

Lines = list[tuple[int, list[str]]]


def check_header(path: Path, header: Sequence[str], rows: Lines) -> tuple[Lines, list[str]]:
    """The rows that do not repeat the header, and what there is to say.

    Raises TaskError when a cell of the header stands in its own column again and none has a usual
    name, such as text or label.
    """
    kept = [(line, cells) for line, cells in rows if [c.strip() for c in cells] != [*header]]
    again = {
        name
        for place, name in enumerate(header)
        if name and any(cells[place].strip().lower() == name.lower() for _, cells in kept)
    }
    odd = sorted(again) or [
        name for place, name in enumerate(header) if _is_datum(place, name, kept)
    ]
    told = [f"left out {len(rows) - len(kept)} lines: the header again"] * (len(kept) < len(rows))
    if not odd or any(plain_word(name) in USUAL for name in header if name not in again):
        return kept, told
    shown = f'"{shorten(odd[0], 40)}"'
    if again:
        raise TaskError(
            f"{path}:1: no header? {shown} stands in its column again; write a first line with the "
            "names of the columns, such as text,label, or rename that column"
        )
    return kept, [*told, f"note: line 1, {shown}, is taken for the header; is it one?"]


def _is_datum(place: int, name: str, rows: Lines) -> bool:
    """A number above numbers, or as long as a text."""
    if len(name.split()) >= LONG_NAME:
        return True
    return _is_number(name) and all(_is_number(cells[place]) for _, cells in rows)


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True
