"""CSV as people have it: any encoding, comma, semicolon, tab or bar, rows that are too long."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.collect.header import check_header
from tasks.types import TaskError

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
SNIFFED = 50  # records that are looked at for the delimiter
RAGGED_SHARE = 0.1  # of the rows: with more of them, the delimiter or the quotes are wrong
ROWS_INSIDE = 3  # lines of one cell that look like rows: a quote has swallowed them
MAX_CELL = 2**27  # characters; Python's own limit of 131,072 is less than a long document


@dataclass(frozen=True)
class _Row:
    """One record, from its first line to its last. `stray` when its quotes are not those of CSV,
    `swallowed` when such a quote, or what looks like one, made several lines one cell."""

    first: int
    last: int
    cells: list[str]
    stray: bool = False
    swallowed: bool = False

    @property
    def lines(self) -> int:
        return self.last - self.first + 1


def read_delimited(path: Path, data: bytes) -> tuple[list[str], list[tuple[int, list[str]]], str]:
    """Header, rows with the line each ends on, and what is to be said about the file.

    Rows with too many or too few cells are left out. Raises TaskError, one line, when there is no
    header, or what should be one is data, or more than a tenth of the lines are lost so.
    """
    text, encoding = decode(path, data)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else _find_delimiter(text)
    records, quotes = _read_rows(path, text, delimiter)
    if not records:
        raise TaskError(f"{path}: empty; write a header and rows, such as text,label")
    header, told = _unique(_without_end(records[0].cells))
    if len(header) < 2:
        raise TaskError(
            f'{path}: one column, "{header[0][:60] if header else ""}"; a task needs an input and '
            "an answer, with a comma, semicolon, tab or bar between them"
        )
    rows, lost = _even(path, len(header), records, delimiter)
    rows, doubts = check_header(path, [cell.strip() for cell in records[0].cells], rows)
    said = [encoding, DELIMITERS[delimiter], *quotes, *told, *lost, *doubts]
    return header, rows, "; ".join(said)


Lines = list[tuple[int, list[str]]]


def _even(
    path: Path, width: int, records: Sequence[_Row], delimiter: str
) -> tuple[Lines, list[str]]:
    """The rows that are as wide as the header, which is the first record, and a line on the others.

    Counted are the lines of the file that are lost: one quote that is never closed is a single row
    and swallows all that follows.
    """
    rows, ragged = [], []
    for row in records[1:]:
        cells = row.cells[:width] if not any(row.cells[width:]) else row.cells
        if len(cells) == width and not row.swallowed:
            rows.append((row.last, cells))
        else:
            ragged.append(row)
    lost = sum(row.lines for row in ragged)
    if lost > RAGGED_SHARE * (len(rows) + lost):
        raise TaskError(
            f"{path}:{ragged[0].first}: the row here has not as many cells as the header ({width}) "
            f"or a quote in it swallows the next ones; {lost} of {len(rows) + lost} lines are lost "
            f'so; put text that holds a {DELIMITERS[delimiter]} in "quotes", double quotes within, '
            "and close each"
        )
    if not ragged:
        return rows, []
    lines = ", ".join(str(row.first) for row in ragged[:5]) + (", …" if len(ragged) > 5 else "")
    why = "not as many cells as the header, or a quote that swallows lines"
    return rows, [f"left out {lost} lines: {why} (at line {lines})"]


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


def _read_rows(path: Path, text: str, delimiter: str) -> tuple[list[_Row], list[str]]:
    """The records, and whether their quotes are taken as they stand: text with tabs between often
    has quotes that mean nothing, and its cells never go over a line then."""
    rows = list(_records(path, text, delimiter, csv.QUOTE_MINIMAL))
    odd = sum(row.lines for row in rows if row.stray or row.swallowed)
    if delimiter != "\t" or not odd:
        return rows, []
    plain = list(_records(path, text, delimiter, csv.QUOTE_NONE))
    width = len(_without_end(plain[0].cells))
    fit = sum(len(row.cells) >= width and not any(row.cells[width:]) for row in plain)
    return (plain, ["quotes as they stand"]) if len(plain) - fit < odd else (rows, [])


def _records(path: Path, text: str, delimiter: str, quoting: int) -> Iterator[_Row]:
    csv.field_size_limit(MAX_CELL)
    lines = list(io.StringIO(text, newline=""))
    reader = csv.reader(iter(lines), delimiter=delimiter, quoting=quoting)
    before, width = 0, 0
    try:
        for cells in reader:
            raw, first, before = lines[before : reader.line_num], before + 1, reader.line_num
            if not any(cell.strip() for cell in cells):
                continue
            width = width or len(cells)
            stray = quoting != csv.QUOTE_NONE and _is_stray(raw, delimiter)
            swallowed = len(raw) > 1 and (stray or _holds_rows(raw, cells, width, delimiter))
            yield _Row(first, before, cells, stray, swallowed)
    except csv.Error as error:
        raise TaskError(f"{path}:{reader.line_num}: not CSV ({error})") from error


def _is_stray(raw: Sequence[str], delimiter: str) -> bool:
    """Whether text follows a closing quote, or nothing closes one."""
    if not any('"' in line for line in raw):
        return False
    try:
        list(csv.reader(iter(raw), delimiter=delimiter, strict=True))
    except csv.Error:
        return True
    return False


def _holds_rows(raw: Sequence[str], cells: Sequence[str], width: int, delimiter: str) -> bool:
    """Whether most lines inside a record look like rows; of tabs, rare in texts, one will do."""
    if delimiter == "\t":
        return any("\t" in cell and ("\n" in cell or "\r" in cell) for cell in cells)
    inside = [next(csv.reader([line], delimiter=delimiter), []) for line in raw[1:-1]]
    rows = sum(len(found) == width and bool(found[-1].strip()) for found in inside)
    return rows >= ROWS_INSIDE and rows > len(inside) / 2


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
