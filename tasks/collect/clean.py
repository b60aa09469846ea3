"""From records to items: texts cleaned, and rows dropped that would make a figure wrong."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.collect.fields import Fields
from tasks.collect.sources import Record
from tasks.hub_data import SPLIT_NAMES
from tasks.overlap import Overlap, find_overlaps, find_repeats, normal_form
from tasks.splits import is_harmful
from tasks.text import normalize, shorten
from tasks.types import SPLITS, Example, SplitName, TaskError
from tasks.values import as_answers, as_text, find

SHOWN = 10  # dropped rows that are kept for the card, of each kind
KEEP_FIRST = ("test", "dev", "train")  # of two alike, the one in test stays


@dataclass(frozen=True)
class Item:
    """One row on its way to being an example. `key` is what it is grouped or sorted by, `stratum`
    what is to be as frequent in each split; both '' where nobody asked."""

    id: str
    inputs: Mapping[str, str]
    answers: Sequence[str]
    meta: Mapping[str, Any]
    split: SplitName | None = None
    key: str = ""
    stratum: str = ""

    @property
    def example(self) -> Example:
        return Example(self.id, self.inputs, self.answers[0], self.meta)

    @property
    def shown(self) -> str:
        return shorten(" / ".join(" ".join(text.split()) for text in self.inputs.values()), 100)


@dataclass
class Dropped:
    """How many rows went for which reason, and the first of each, one line."""

    counts: dict[str, int] = field(default_factory=dict)
    shown: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, line: str) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + 1
        lines = self.shown.setdefault(reason, [])
        if len(lines) < SHOWN:
            lines.append(line)


def to_items(
    records: Sequence[tuple[str, Record]],
    fields: Fields,
    names: Mapping[str, str],
    *,
    key: str = "",
    stratum: str = "",
    split_field: str = "",
    dropped: Dropped,
) -> list[Item]:
    """Records (each with its id) as items; those without an input or an answer are dropped.

    `names` maps columns to the names they get. Raises TaskError for a value of `split_field` that
    names no split.
    """
    hidden = _marks_hidden(record for _, record in records)
    items = []
    for id_, record in records:
        inputs = {names[name]: as_text(find(record.columns, name)) for name in fields.inputs}
        raw = find(record.columns, fields.answer)
        answers = [] if hidden(fields.answer, raw) else as_answers(raw)
        if not answers or not all(inputs.values()):
            empty = fields.answer if not answers else next(k for k, v in inputs.items() if not v)
            dropped.add("empty", f'{record.where}: no "{empty}"')
            continue
        split = _own_split(record, split_field) if split_field else record.split
        meta = {name: as_text(find(record.columns, name)) for name in fields.others}
        grouped = as_text(find(record.columns, key)) if key else ""
        layer = as_text(find(record.columns, stratum)) if stratum else ""
        items.append(Item(id_, inputs, answers, meta, split, grouped, layer))
    return items


def _marks_hidden(records: Iterable[Record]) -> Any:
    """Whether an answer is -1 where others are names: what the Hub has for a label not published.

    Returns a test of (column, value).
    """
    columns = [record.columns for record in records]
    named: dict[str, bool] = {}

    def is_hidden(name: str, value: Any) -> bool:
        if value != -1 or isinstance(value, bool | str):
            return False
        if name not in named:
            values = [find(row, name) for row in columns]
            named[name] = any(isinstance(v, str) for v in values) or all(v == -1 for v in values)
        return named[name]

    return is_hidden


def _own_split(record: Record, column: str) -> SplitName:
    value = as_text(find(record.columns, column))
    split = SPLIT_NAMES.get(value.lower())
    if split is None:
        known = ", ".join(SPLIT_NAMES)
        raise TaskError(
            f'{record.where}: "{column}" is "{shorten(value, 40)}"; a split is one of {known}'
        )
    return split


def drop_contradictions(items: Sequence[Item], dropped: Dropped) -> list[Item]:
    """Without those that ask the same and have another answer: nobody knows which one is right."""
    asked: dict[object, set[tuple[str, ...]]] = {}
    forms = [tuple((k, normal_form(v)) for k, v in sorted(i.inputs.items())) for i in items]
    for form, item in zip(forms, items, strict=True):
        asked.setdefault(form, set()).add(tuple(sorted(map(normalize, item.answers))))
    kept = []
    for form, item in zip(forms, items, strict=True):
        if len(asked[form]) == 1:
            kept.append(item)
        else:
            dropped.add("contradiction", f'{item.id}: "{item.shown}" → {item.answers[0]}')
    return kept


def drop_repeats(items: Sequence[Item], dropped: Dropped) -> list[Item]:
    """Without those that an earlier one is already, wholly or nearly (`tasks.overlap`). Where the
    source has splits, an item of test stays before one of dev, and that before one of train."""
    rank = {split: place for place, split in enumerate((*KEEP_FIRST, None))}
    ordered = sorted(items, key=lambda item: rank[item.split])
    by_id = {item.id: item for item in items}
    gone = set()
    for overlap in find_repeats([item.example for item in ordered]):
        gone.add(overlap.id)
        dropped.add(overlap.kind, _pair(overlap, by_id))
    return [item for item in items if item.id not in gone]


def _pair(overlap: Overlap, by_id: Mapping[str, Item]) -> str:
    here, there = by_id[overlap.id], by_id[overlap.other_id]
    line = f'{here.id}: "{here.shown}" is {there.id}'
    if overlap.kind == "near":
        line += f': "{there.shown}" (similarity {overlap.similarity:.2f})'
        if normalize(here.answers[0]) != normalize(there.answers[0]):
            line += f"; answers {here.answers[0]} and {there.answers[0]}"
    return line


def drop_leaks(
    dealt: Mapping[SplitName, Sequence[Item]], dropped: Dropped
) -> dict[SplitName, list[Item]]:
    """Without the items of train and dev that still stand in a later split.

    Which words are frame depends on how many examples there are, so that a pair may come to be near
    once others are gone.
    """
    splits: dict[SplitName, list[Item]] = {split: list(dealt[split]) for split in SPLITS}
    while True:
        examples = {split: [item.example for item in splits[split]] for split in SPLITS}
        found = [overlap for overlap in find_overlaps({**examples}) if is_harmful(overlap)]
        if not found:
            return splits
        by_id = {item.id: item for items in splits.values() for item in items}
        gone = {overlap.other_id: overlap for overlap in found}
        for overlap in gone.values():
            dropped.add("leak", f"{overlap.other_split} {_pair(overlap, by_id)}")
        splits = {s: [item for item in splits[s] if item.id not in gone] for s in SPLITS}


def merge_spellings(items: Sequence[Item]) -> tuple[list[Item], list[str]]:
    """Labels that differ in case and space only get the spelling most of them have; and a line for
    each that was changed. No label is another one's beginning then by accident."""
    from dataclasses import replace

    spelled: dict[str, dict[str, int]] = {}
    for item in items:
        for answer in item.answers:
            counts = spelled.setdefault(normalize(answer), {})
            counts[answer] = counts.get(answer, 0) + 1
    best = {key: max(counts, key=lambda a: (counts[a], a)) for key, counts in spelled.items()}
    told = [
        f'"{answer}" → "{best[key]}" ({count} rows)'
        for key, counts in spelled.items()
        for answer, count in counts.items()
        if answer != best[key]
    ]
    if not told:
        return list(items), []
    merged = [
        replace(item, answers=list(dict.fromkeys(best[normalize(a)] for a in item.answers)))
        for item in items
    ]
    return merged, told


def json_row(item: Item, answer: str) -> str:
    """The item as a line of the data file."""
    gold = item.answers[0] if len(item.answers) == 1 else list(item.answers)
    row: dict[str, Any] = {"id": item.id, **item.inputs, answer: gold}
    if item.meta:
        row["meta"] = dict(item.meta)
    return json.dumps(row, ensure_ascii=False)
