"""SQL that somebody else wrote, run so that it can read and do nothing else.

Each query gets a copy of the database in memory, so none leaves anything behind for the next. What
may be done is a list: select, read these tables, call these functions. Work is counted in steps of
SQLite's virtual machine, and as so many of them in functions of ours that read texts; never in
seconds, so the same query ends the same way everywhere.

What SQLite does before the first step, it counts in no way: subqueries written into each other
take memory that doubles with every line of a query. `confine_process` bounds that, for all of
SQLite in a process; hence queries run in one of their own (`tasks.sql_shop.ask`).
"""

from __future__ import annotations

import math
import re
import sqlite3
import string
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import date
from typing import Any

STEPS, LOOK_EVERY = 200_000, 1_000
SQL_CHARS = 1_000
VALUE_BYTES = 1_000  # of a text, blob or row on the way; no function can make a longer one
CALL_STEPS, STEP_CHARS = 20, 10  # what a call of one of our functions counts as
HEAP = 8 << 20  # bytes that SQLite may take, the database and its copies included
ROWS, VALUE_CHARS = 20, 200  # that are shown
SCHEMA_TABLES = ("sqlite_master", "sqlite_schema")  # they say what tables there are
# Nothing that knows the time or rolls dice: the same query must give the same rows. Nothing that
# searches a text for another, which is one step of SQLite's however long both are: `_like` counts.
KNOWN = (
    "abs avg cast coalesce concat count date dense_rank first_value group_concat ifnull iif lag "
    "last_value lead length like lower max min nth_value ntile nullif percent_rank rank round "
    "row_number sign strftime substr substring sum total typeof upper"
)
FUNCTIONS = frozenset(KNOWN.split())
LIMITS = {
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 4 * SQL_CHARS,  # bytes
    sqlite3.SQLITE_LIMIT_LENGTH: VALUE_BYTES,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 50,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 10,
    sqlite3.SQLITE_LIMIT_COLUMN: 100,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 10_000,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
NOT_READING = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/|;)*(?:explain|reindex)\b", re.I | re.S)
LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


class Refused(ValueError):
    """A query that wants more than to read."""


def built(statements: str, rows: Sequence[tuple[str, Sequence[Sequence[object]]]]) -> bytes:
    """A database as bytes: what `statements` create, filled with rows by table."""
    with closing(sqlite3.connect(":memory:")) as made:
        made.executescript(statements)
        for table, values in rows:
            marks = ", ".join("?" * len(values[0]))
            made.executemany(f"INSERT INTO {table} VALUES ({marks})", values)
        made.commit()
        return made.serialize()


def confine_process() -> None:
    """Let SQLite have no more than `HEAP` bytes in this process, for good."""
    with closing(sqlite3.connect(":memory:")) as any_one:
        any_one.execute(f"PRAGMA hard_heap_limit = {HEAP}")


def read(database: bytes, tables: Sequence[str], sql: str) -> str:
    """The rows that `sql` gives, one a line, values separated by " | "; no more than `ROWS`.

    Raises ValueError, one line, for SQL that SQLite cannot run, that takes too many steps, or that
    is not allowed (`Refused`).
    """
    if len(sql) > SQL_CHARS:
        raise ValueError(f"a query of {len(sql)} characters; {SQL_CHARS} at most")
    if NOT_READING.match(sql):  # SQLite does not ask whether they are allowed
        raise Refused(f"not allowed: more than SELECT; use SELECT on {', '.join(tables)}")
    with closing(sqlite3.connect(":memory:")) as copy:
        copy.deserialize(database)
        watch = _confine(copy, tables)
        try:
            rows = copy.execute(sql).fetchmany(ROWS + 1)
        except (sqlite3.Error, sqlite3.Warning, ValueError, MemoryError, OverflowError) as error:
            raise _as_error(error, watch, tables) from None
    lines = [" | ".join(map(_shown, row)) for row in rows[:ROWS]]
    lines += ["(more rows)"] * (len(rows) > ROWS)
    return "\n".join(lines) or "(no rows)"


@dataclass
class _Watch:
    """Steps that a query may still take, and what it was refused."""

    left: int = STEPS
    refused: list[str] = field(default_factory=list)

    def enough(self, steps: int) -> bool:
        self.left -= steps
        return self.left < 0

    def counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, of texts, at the cost of as many steps as it takes to compare them all."""

        def called(*given: object) -> Any:
            chars = [len(text) for text in given if isinstance(text, str | bytes)]
            if self.enough(CALL_STEPS + math.prod(chars) // STEP_CHARS):
                raise ValueError("too many steps")
            return function(*given)

        return called


def _confine(copy: sqlite3.Connection, tables: Sequence[str]) -> _Watch:
    """Take from a connection all but reading."""
    watch = _Watch()
    for limit, most in LIMITS.items():
        copy.setlimit(limit, most)
    copy.execute("PRAGMA query_only = 1")
    copy.execute("PRAGMA temp_store = memory")  # what is sorted counts as memory, too
    dates = [("strftime", -1, _strftime), ("date", -1, _date)]
    for name, count, function in [*dates, ("like", 2, _like), ("like", 3, _like)]:
        copy.create_function(name, count, watch.counted(function), deterministic=True)

    def allowed(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        if action == sqlite3.SQLITE_SELECT:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_READ and first in (*tables, *SCHEMA_TABLES, ""):
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_FUNCTION and str(second).lower() in FUNCTIONS:
            return sqlite3.SQLITE_OK
        what = {
            sqlite3.SQLITE_FUNCTION: f"function {second}",
            sqlite3.SQLITE_READ: f"table {first}",
        }
        watch.refused.append(what.get(action, "more than SELECT"))
        return sqlite3.SQLITE_DENY

    copy.set_authorizer(allowed)
    copy.set_progress_handler(lambda: watch.enough(LOOK_EVERY), LOOK_EVERY)
    return watch


def _as_error(error: Exception, watch: _Watch, tables: Sequence[str]) -> ValueError:
    if watch.refused:
        return Refused(f"not allowed: {watch.refused[0]}; use SELECT on {', '.join(tables)}")
    if watch.left < 0:
        return ValueError(f"more than {STEPS} steps; ask for less")
    if isinstance(error, MemoryError):
        return ValueError("takes too much memory; ask for less")
    line = " ".join(str(error).encode("utf-8", "replace").decode().split())[:VALUE_CHARS]
    return ValueError(line or type(error).__name__)


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.10g}"
    text = "NULL" if value is None else value.hex() if isinstance(value, bytes) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= VALUE_CHARS else f"{text[:VALUE_CHARS]}…"


def _like(pattern: object, text: object, escape: object = "") -> bool | None:
    """SQLite's own: % for any text, _ for a character, letters of ASCII in either case."""
    if pattern is None or text is None or escape is None:
        return None
    wanted, said = _marks(str(pattern), str(escape)), str(text).translate(LOWER)
    at, place = 0, 0  # in the marks, in the text
    any_at, any_from = -1, 0  # the last %, and from where what stands behind it is looked for
    while place < len(said):
        mark = wanted[at] if at < len(wanted) else "end"
        if mark is None:
            any_at, any_from, at = at, place, at + 1
        elif mark in ("", said[place]):
            at, place = at + 1, place + 1
        elif any_at >= 0:
            any_from += 1
            at, place = any_at + 1, any_from
        else:
            return False
    return all(mark is None for mark in wanted[at:])


def _marks(pattern: str, escape: str) -> list[str | None]:
    """A pattern of LIKE: letters, "" for any one, None for any text."""
    if len(escape) > 1:
        raise ValueError("ESCAPE takes one character")
    found: list[str | None] = []
    letters = iter(pattern.translate(LOWER))
    for letter in letters:
        if escape and letter == escape.translate(LOWER):
            found.append(next(letters, "end"))  # an escape that escapes nothing fits nothing
        else:
            found.append({"%": None, "_": ""}.get(letter, letter))
    return found


def _strftime(*given: object) -> str | None:
    """SQLite's own, of %Y, %m and %d and a day; it knows no "now"."""
    if len(given) != 2:
        raise ValueError("write strftime(format, day)")
    with suppress(ValueError):
        day = date.fromisoformat(str(given[1])[:10]).isoformat()
        parts = dict(zip("Ymd", day.split("-"), strict=True))
        return re.sub("%(.)", lambda mark: parts.get(mark[1], mark[0]), str(given[0]))
    return None


def _date(*given: object) -> str | None:
    return _strftime("%Y-%m-%d", *given)
