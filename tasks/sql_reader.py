"""SQL that somebody else wrote, run so that it can read and do nothing else.

Each query gets a copy of the database in memory, so none leaves anything behind for the next. What
may be done is a list: select, read these tables, call these functions. Work is counted in steps of
SQLite's virtual machine and never in seconds, so the same query ends the same way everywhere.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from datetime import date

STEPS, LOOK_EVERY = 200_000, 1_000
SQL_CHARS = 2_000
VALUE_BYTES = 2_000  # of a text or blob on the way; no function can make a longer one
ROWS, VALUE_CHARS = 20, 200  # that are shown
SCHEMA_TABLES = ("sqlite_master", "sqlite_schema")  # they say what tables there are
# Nothing that knows the time or rolls dice: the same query must give the same rows.
KNOWN = (
    "abs avg cast coalesce concat count date dense_rank first_value glob group_concat hex ifnull "
    "iif instr lag last_value lead length like lower ltrim max min nth_value ntile nullif "
    "percent_rank rank replace round row_number rtrim sign strftime substr substring sum total "
    "trim typeof upper"
)
FUNCTIONS = frozenset(KNOWN.split())
LIMITS = {
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 4 * SQL_CHARS,  # bytes
    sqlite3.SQLITE_LIMIT_LENGTH: VALUE_BYTES,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 50,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 10,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 100,
    sqlite3.SQLITE_LIMIT_COLUMN: 100,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}


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


def read(database: bytes, tables: Sequence[str], sql: str) -> str:
    """The rows that `sql` gives, one a line, values separated by " | "; no more than `ROWS`.

    Raises ValueError, one line, for SQL that SQLite cannot run, that takes too many steps, or that
    is not allowed (`Refused`).
    """
    if len(sql) > SQL_CHARS:
        raise ValueError(f"a query of {len(sql)} characters; {SQL_CHARS} at most")
    with closing(sqlite3.connect(":memory:")) as copy:
        copy.deserialize(database)
        refused = _confine(copy, tables)
        try:
            rows = copy.execute(sql).fetchmany(ROWS + 1)
        except (sqlite3.Error, sqlite3.Warning, ValueError, MemoryError, OverflowError) as error:
            raise _as_error(error, refused, tables) from None
    lines = [" | ".join(map(_shown, row)) for row in rows[:ROWS]]
    lines += ["(more rows)"] * (len(rows) > ROWS)
    return "\n".join(lines) or "(no rows)"


def _confine(copy: sqlite3.Connection, tables: Sequence[str]) -> list[str]:
    """Take from a connection all but reading; what it refuses will stand in the list."""
    refused: list[str] = []
    for limit, most in LIMITS.items():
        copy.setlimit(limit, most)
    copy.execute("PRAGMA query_only = 1")
    copy.create_function("strftime", -1, _strftime, deterministic=True)
    copy.create_function("date", -1, _date, deterministic=True)

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
        refused.append(what.get(action, "more than SELECT"))
        return sqlite3.SQLITE_DENY

    copy.set_authorizer(allowed)
    left = [STEPS // LOOK_EVERY]

    def enough() -> bool:
        left[0] -= 1
        return left[0] < 0

    copy.set_progress_handler(enough, LOOK_EVERY)
    return refused


def _as_error(error: Exception, refused: Sequence[str], tables: Sequence[str]) -> ValueError:
    if refused:
        return Refused(f"not allowed: {refused[0]}; use SELECT on {', '.join(tables)}")
    if "interrupted" in str(error):
        return ValueError(f"more than {STEPS} steps; ask for less")
    line = " ".join(str(error).encode("utf-8", "replace").decode().split())[:VALUE_CHARS]
    return ValueError(line or type(error).__name__)


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.10g}"
    text = "NULL" if value is None else value.hex() if isinstance(value, bytes) else str(value)
    return " ".join(text[:VALUE_CHARS].split())


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
