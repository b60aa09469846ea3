"""Which columns are asked and which one is the answer: by name first, then by what they hold."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from tasks.collect.names import ANSWERS, INPUTS, KEYS, plain_word
from tasks.collect.sources import Record
from tasks.hub_data import SPLIT_NAMES
from tasks.text import nearest
from tasks.types import TaskError
from tasks.values import as_text, find

LOOKED_AT = 2000  # rows a guess is made from
FEW_VALUES = 50
LONG_TEXT = 15  # characters on average, from which a column reads as text
TOGETHER = (  # columns that are one question
    {"question", "context"},
    {"question", "passage"},
    {"question", "choices"},
    {"premise", "hypothesis"},
    {"sentence1", "sentence2"},
    {"question1", "question2"},
    {"instruction", "input"},
    {"subject", "body"},
    {"title", "text"},
    {"title", "description"},
)
TWO_WORDS = re.compile(r"[^\W\d_]{2,}\W+[^\W\d_]")  # not so a date, a number, an address
MOST_PARTS = 20
PARTS = ("text", "value", "label")  # of an answer that is a mapping: the one that is meant


@dataclass(frozen=True)
class Fields:
    """Column names; `said` explains those that were guessed."""

    inputs: tuple[str, ...]
    answer: str
    others: tuple[str, ...]
    said: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Column:
    """What one column holds, over the rows that are looked at."""

    name: str
    values: tuple[str, ...]

    @cached_property
    def filled(self) -> tuple[str, ...]:
        return tuple(value for value in self.values if value)

    @cached_property
    def distinct(self) -> int:
        return len({value.casefold() for value in self.filled})

    @property
    def length(self) -> float:
        return sum(map(len, self.filled)) / max(1, len(self.filled))

    @property
    def word(self) -> str:
        """The name as it is compared: `Ticket Text` is ticket_text, `answers.text` is answers."""
        head = self.name.partition(".")[0]
        return plain_word(head)

    @property
    def is_key(self) -> bool:
        """A number or mark that only names the row, or nothing at all."""
        named = self.word in KEYS
        named = named or self.word.endswith("_id") or self.name.startswith(("Unnamed: ", "__index"))
        return not self.filled or (named and self.length < 40)

    @property
    def is_split(self) -> bool:
        return self.word == "split" and {v.lower() for v in self.filled} <= set(SPLIT_NAMES)

    @property
    def is_label(self) -> bool:
        few = 1 < self.distinct <= min(FEW_VALUES, len(self.filled) / 5)
        return few and self.length <= 40

    @property
    def is_text(self) -> bool:
        words = sum(bool(TWO_WORDS.search(value)) for value in self.filled)
        return self.length >= LONG_TEXT and words > len(self.filled) / 2


def choose_fields(
    records: Sequence[Record], inputs: Sequence[str], answer: str, taken: Sequence[str] = ()
) -> Fields:
    """The columns to use. Those given are checked, the others are guessed.

    `taken` columns serve something else (a group, a time, the split). Raises TaskError for an
    unknown column, and, listing the candidates, where several would do and none is the clear one.
    """
    names = column_names(records)
    for name in (*inputs, *([answer] if answer else []), *taken):
        if not any(name in (known, known.partition(".")[0]) for known in names):
            have = ", ".join(names)
            raise TaskError(f'no field "{name}"{nearest(name, names)}; the fields are {have}')
    if answer in inputs:
        raise TaskError(f'"{answer}" cannot be both an input and the answer; name two fields')
    sample = records[:: max(1, len(records) // LOOKED_AT)]
    columns = [_column(sample, name) for name in names]
    free = [c for c in columns if c.name not in taken and not c.is_key and not c.is_split]
    said = []
    if not answer:
        answer, why = _find_answer([c for c in free if c.name not in inputs])
        said.append(f'answer: "{answer}" (guessed, {why})')
    if not inputs:
        head = answer.partition(".")[0]
        rest = [c for c in free if c.name != answer and c.name.partition(".")[0] != head]
        gold = _column(sample, answer)
        inputs, why = _find_inputs([c for c in rest if not _is_same(c, gold)])
        listed = ", ".join(f'"{name}"' for name in inputs)
        said.insert(0, f"input: {listed} (guessed, {why})")
    others = [c for c in columns if c.name not in (*inputs, answer) and _is_feature(c)]
    return Fields(tuple(inputs), answer, tuple(c.name for c in others), tuple(said))


def column_names(records: Sequence[Record]) -> list[str]:
    """All columns in order of appearance; those that hold mappings by their parts: answers.text."""
    parts: dict[str, dict[str, None]] = {}
    plain: set[str] = set()
    for record in records[:LOOKED_AT]:
        for name, value in record.columns.items():
            known = parts.setdefault(name, {})
            if isinstance(value, Mapping):
                known |= dict.fromkeys(f"{name}.{part}" for part in value)
            elif value is not None:
                plain.add(name)
    split = {n for n, known in parts.items() if n not in plain and 0 < len(known) <= MOST_PARTS}
    return [part for name in parts for part in (parts[name] if name in split else [name])]


def _column(records: Sequence[Record], name: str) -> _Column:
    return _Column(name, tuple(as_text(find(record.columns, name)) for record in records))


def _find_answer(columns: Sequence[_Column]) -> tuple[str, str]:
    named = [c for c in columns if c.word in ANSWERS or c.word.endswith(("_label", "_answer"))]
    if any("." in c.name for c in named):
        meant = [c for c in named if c.name.rpartition(".")[2] in PARTS]
        named = meant or named
    named = _without_twins(named)
    if len(named) == 1:
        return named[0].name, f"by its name; {_held(named[0])}"
    if not named:
        labels = _without_twins([c for c in columns if c.is_label])
        if len(labels) == 1:
            return labels[0].name, f"by what it holds: {_held(labels[0])}"
        if not labels and len(columns) == 2:
            return columns[1].name, "the last of two"
        named = labels or list(columns)
    raise TaskError(_several("answer", named))


def _find_inputs(columns: Sequence[_Column]) -> tuple[tuple[str, ...], str]:
    named = [c for c in columns if c.word in INPUTS]
    if len(named) > 1:  # "ticket" may be the message or its number
        named = [c for c in named if c.is_text] or named
    if len(named) == 1 or {c.word for c in named} in TOGETHER:
        return tuple(c.name for c in named), "by name"
    if not named:
        texts = [c for c in columns if c.is_text] or [c for c in columns if not c.is_label]
        if len(texts) == 1:
            return (texts[0].name,), "the one that holds text"
        if len(columns) == 1:
            return (columns[0].name,), "the one that is left"
        named = texts or list(columns)
    raise TaskError(_several("input", named))


def _several(what: str, columns: Sequence[_Column]) -> str:
    if not columns:
        return f"no field is left for the {what}; the source needs an input and an answer"
    head, dot, _ = columns[0].name.partition(".")
    listed = ", ".join(f'"{c.name}"' for c in columns[:12])
    either = f" (or several: --input {shlex.join(c.name for c in columns[:2])})"
    whole = f" (or --answer {shlex.quote(head)}: all of it, as JSON)" if dot else ""
    return (
        f"several fields could be the {what}: {listed}; write --{what} "
        f"{shlex.quote(columns[0].name)}{either if what == 'input' else whole}"
    )


def _without_twins(columns: Sequence[_Column]) -> list[_Column]:
    """Of columns that say the same in other words (0 and "sadness"), the one that has words."""
    kept: list[_Column] = []
    for column in sorted(columns, key=lambda c: all(v.lstrip("-").isdigit() for v in c.filled)):
        if not any(_is_same(column, other) for other in kept):
            kept.append(column)
    return kept


def _is_same(a: _Column, b: _Column) -> bool:
    """Whether each value of one goes with one value of the other, over and over."""
    pairs = {*zip(a.values, b.values, strict=True)}
    return len(pairs) == len(set(a.values)) == len(set(b.values)) <= len(a.values) / 2


def _is_feature(column: _Column) -> bool:
    """Few short values, so that the report can be sliced by it."""
    return column.is_label and not column.is_key and not column.is_split and column.distinct <= 20


def _held(column: _Column) -> str:
    return f"{column.distinct} values" if column.is_label else f"{column.length:.0f} characters"
