"""Questions over a database of four tables, and a tool that reads it: `query(sql)`.

The schema stands in the instruction; the answer must come out of rows that the model asked for.
Questions about one table are within reach of a 135M model that has been shown how; joins of four
tables are for larger ones. Which of it goes wrong is told by the class: no query, one that cannot
run, one that gives other rows, or the right rows and another answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tasks import sql_questions, sql_reader, sql_shop
from tasks.scorers import read_number
from tasks.sql_questions import questions
from tasks.sql_shop import CITIES, PRODUCTS, SCHEMA, THINGS, ask
from tasks.text import MAX_CHARS, fold, shorten
from tasks.tools import Call, calling, calls_of, misused, unanswered
from tasks.types import Example, Score, SplitName, Task, Transcript

CENT = 0.01  # numbers are right to this
NOT_ALLOWED = "error: not allowed"
DAY = r"\d{4}-\d\d-\d\d"

FAILURES = {
    "no_call": "The database was not asked, and the answer is another one.",
    "malformed_call": "The last call cannot be read: no JSON, or no end.",
    "bad_call": "The last call names no tool there is, or gives it other arguments than it takes.",
    "forbidden_sql": "The last query wants more than to read (DROP, ATTACH, PRAGMA, recursion).",
    "wrong_sql": "The last query cannot be run: no such column, bad syntax, too much work.",
    "wrong_rows": "The last query runs and gives something else.",
    "ignored_result": "The right rows were read, and the answer is another one.",
    "too_many_calls": "Still a call in the last turn that was allowed.",
    "wrong_answer": "Another answer (without tools).",
    "no_answer": "The answer holds no number where one is asked for, or no name or day.",
}


def query(sql: str) -> str:
    """Runs a SELECT on the database and gives the rows.

    Args:
        sql: one SELECT statement of SQLite
    """
    return ask(sql)


class Sql(Task):
    """480 train, 90 dev and 240 test questions; `meta` has kind, tables, aggregate and more."""

    name = "sql"
    instruction = (
        "Answer the question about this shop from its database. Answer with the value alone; "
        f"several are separated by commas.\n{SCHEMA}Days are written 2024-05-31."
    )
    inputs = ("question",)
    output = "answer"
    failure_classes = FAILURES
    format_failures = ("malformed_call", "bad_call", "no_answer")
    tools = (query,)
    max_turns = 4
    files = tuple(Path(m.__file__) for m in (sql_questions, sql_reader, sql_shop) if m.__file__)

    def split(self, name: SplitName) -> Sequence[Example]:
        return questions(name)

    def score(self, example: Example, text: str) -> Score:
        if _says(example, text):
            return Score(1.0, True, answer=shorten(text))
        failure = "wrong_answer" if _has_value(example, text) else "no_answer"
        return _wrong(example, failure, text)

    def score_transcript(self, example: Example, transcript: Transcript) -> Score:
        text = str(transcript[-1]["content"])
        if not unanswered(transcript) and _says(example, text):
            return Score(1.0, True, answer=shorten(text))
        calls = calls_of(transcript)
        failure = _classify(example, calls, transcript)
        return _wrong(example, failure, text, calls[-1].result if calls else "")

    def demonstration(self, example: Example) -> Transcript:
        call = calling("query", sql=example.meta["sql"])
        return [call, {"role": "assistant", "content": example.answer}]


def _classify(example: Example, calls: Sequence[Call], transcript: Transcript) -> str:
    if failure := misused(transcript):
        return failure
    if any(call.error is None and _says(example, call.result) for call in calls):
        said = _has_value(example, str(transcript[-1]["content"]))
        return "ignored_result" if said else "no_answer"
    last = calls[-1]
    if last.error is None:
        return "wrong_rows"
    if last.error == "tool_error":
        return "forbidden_sql" if last.result.startswith(NOT_ALLOWED) else "wrong_sql"
    return "malformed_call" if last.error == "malformed_call" else "bad_call"


def _wrong(example: Example, failure: str, text: str, result: str = "") -> Score:
    """What the query takes is told, what it gives is not."""
    count, aggregate = example.meta["tables"], example.meta["aggregate"]
    takes = f"{count} table{'s' * (count > 1)} and " + {
        "none": "no aggregate",
        "first": "an order with LIMIT 1, or MAX",
    }.get(aggregate, f"the aggregate {aggregate}")
    why = {
        "no_call": "Ask the database with a call of query",
        "malformed_call": "The call cannot be read; write it as the instructions show",
        "bad_call": 'Call "query" with "sql"',
        "forbidden_sql": "The database can only be read, with a single SELECT",
        "wrong_sql": f"The query cannot be run ({shorten(result, 100)})",
        "wrong_rows": "The query gives something other than what was asked for",
        "ignored_result": "The rows held the answer; say what stands in them",
        "too_many_calls": "Say the answer once the rows have told it",
        "wrong_answer": "Another answer",
        "no_answer": "There is no value in the answer",
    }[failure]
    return Score(0.0, False, failure, f"{why}. This question takes {takes}.", shorten(text))


def _says(example: Example, text: str) -> bool:
    """Whether `text` gives the answer: as a number, or by the names and days in it and no others,
    those of the question aside."""
    right = read_number(example.answer) if _is_number(example) else None
    if right is not None:
        said = read_number(text[-MAX_CHARS:])
        return said is not None and not said[1] and abs(said[0] - right[0]) < CENT
    wanted = _named(example.answer)
    return _named(text) - (_named(example.inputs["question"]) - wanted) == wanted


def _has_value(example: Example, text: str) -> bool:
    if _is_number(example):
        return read_number(text[-MAX_CHARS:]) is not None
    return bool(_named(text))


def _is_number(example: Example) -> bool:
    return re.fullmatch(r"\d+(\.\d+)?", example.answer) is not None


def _named(text: str) -> set[str]:
    """The names and days that stand in a text."""
    return set(_names().findall(fold(text)))


@cache
def _names() -> re.Pattern[str]:
    known = [*CITIES, *THINGS, *(name for name, _ in PRODUCTS)]
    known += sql_questions.read_column("SELECT name FROM customers")
    listed = "|".join(re.escape(fold(name)) for name in sorted(known))
    return re.compile(rf"(?<!\w)(?:{listed}|{DAY})(?!\w)")
