"""CSV as people have it: any encoding, comma, semicolon, tab or bar, rows that are too long."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tasks.types import TaskError

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
SNIFFED = 50  # records that are looked at for the delimiter
RAGGED_SHARE = 0.1  # of the rows: with more of them, the delimiter or the quotes are wrong
MAX_CELL = 2**27  # characters; Python's own limit of 131,072 is less than a long document


def read_delimited(path: Path, data: bytes) -> tuple[list[str], list[tuple[int, list[str]]], str]:
    """Header, rows with the line each ends on, and what is to be said about the file.

    Rows with too many or too few cells are left out. Raises TaskError, one line, when there is no
    header, or when more than a tenth of the lines are lost so.
    """
    text, encoding = decode(path, data)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else _find_delimiter(text)
    records = list(_records(path, text, delimiter))
    if not records:
        raise TaskError(f"{path}: empty; write a header and rows, such as text,label")
    header, told = _unique(_without_end(records[0][1]))
    if len(header) < 2:
        raise TaskError(
            f'{path}: one column, "{header[0][:60] if header else ""}"; a task needs an input and '
            "an answer, with a comma, semicolon, tab or bar between them"
        )
    rows, lost = _even(path, len(header), records, delimiter)
    said = [encoding, DELIMITERS[delimiter], *told, *lost]
    return header, rows, "; ".join(said)


Lines = list[tuple[int, list[str]]]


def _even(path: Path, width: int, records: Lines, delimiter: str) -> tuple[Lines, list[str]]:
    """The rows that are as wide as the header, which is the first record, and a line on the others.

    Counted are the lines of the file that are lost: one quote that is never closed is a single row
    and swallows all that follows.
    """
    rows, ragged, lost, before = [], [], 0, records[0][0]
    for line, cells in records[1:]:
        cells = cells[:width] if not any(cells[width:]) else cells
        if len(cells) == width:
            rows.append((line, cells))
        else:
            ragged.append(before + 1)
            lost += line - before
        before = line
    if lost > RAGGED_SHARE * (len(rows) + lost):
        raise TaskError(
            f"{path}:{ragged[0]}: the row here has not as many cells as the header ({width}), and "
            f"{lost} of {len(rows) + lost} lines are lost to such rows; put text that holds a "
            f'{DELIMITERS[delimiter]} in "quotes", and close every quote'
        )
    if not ragged:
        return rows, []
    lines = ", ".join(map(str, ragged[:5])) + (", …" if len(ragged) > 5 else "")
    return rows, [f"left out {lost} lines: not as many cells as the header (at line {lines})"]


def decode(path: Path, data: bytes) -> tuple[str, str]:
    """The text and the name of its encoding: by its mark, else UTF-8, else Windows-1252."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encodings = ["utf-16"]
    else:
        encodings = ["utf-8-sig", "cp1252", "latin-1"]
    for encoding in encodings:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if text.count("\0") > len(text) / 100:
            break
        return text.replace("\0", ""), encoding.removesuffix("-sig")
    raise TaskError(f"{path}: no text that can be read; save it as UTF-8")


def _records(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(MAX_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise TaskError(f"{path}:{reader.line_num}: not CSV ({error})") from error


def _find_delimiter(text: str) -> str:
    """The one that cuts most of the first records into the same number of cells, two or more."""

    def agreement(delimiter: str) -> tuple[float, int]:
        sizes: list[int] = []
        try:
            for cells in csv.reader(io.StringIO(text[:200_000], newline=""), delimiter=delimiter):
                sizes += [len(cells)] if cells else []
                if len(sizes) == SNIFFED:
                    break
        except csv.Error:
            return 0.0, 0
        [(size, count)] = Counter(sizes).most_common(1) or [(0, 0)]
        return (count / len(sizes), size) if size > 1 and size == sizes[0] else (0.0, 0)

    csv.field_size_limit(MAX_CELL)
    found = {delimiter: agreement(delimiter) for delimiter in DELIMITERS}
    best = max(found, key=lambda delimiter: found[delimiter][0])
    return best if found[best][0] else ","


def _without_end(cells: Sequence[str]) -> list[str]:
    """Spreadsheets write empty columns behind the last one."""
    names = [cell.strip() for cell in cells]
    while names and not names[-1]:
        names.pop()
    return names


def _unique(names: Sequence[str]) -> tuple[list[str], list[str]]:
    seen: dict[str, int] = {}
    unique, told = [], []
    for place, name in enumerate(names, 1):
        name = name or f"column {place}"
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            told.append(f'the second column "{name}" is called "{name} {seen[name]}"')
            name = f"{name} {seen[name]}"
        unique.append(name)
    return unique, told
