"""A task from a data file: rows of JSONL or CSV, alone or described by a `task.yaml`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tasks.declaration import Declaration, declare, read_yaml
from tasks.hub_data import Rows, read_hub
from tasks.json_scorer import read_json
from tasks.rows import SAMPLE, Row, read_rows
from tasks.scorers import Scorer, build_scorer, read_number
from tasks.text import fold, nearest, shorten
from tasks.types import SPLITS, Example, Score, SplitName, Task, TaskError

DEV_SHARE, TEST_SHARE = 0.2, 0.3  # train gets the rest


@dataclass(eq=False)
class FileTask(Task):
    """A task whose examples are rows. `files` are the files it was read from."""

    name: str
    instruction: str
    scorer: Scorer
    examples: Mapping[SplitName, tuple[Example, ...]]
    files: tuple[Path, ...]
    inputs: tuple[str, ...]
    output: str
    read: str = ""  # what is no file: a Hub dataset, with a hash of its rows

    def __post_init__(self) -> None:
        self.failure_classes = self.scorer.failures
        self.format_failures = self.scorer.format_failures

    def split(self, name: SplitName) -> Sequence[Example]:
        return self.examples[name]

    def score(self, example: Example, text: str) -> Score:
        return self.scorer(example.meta.get("accepted", [example.answer]), text)


def from_file(path: str | Path, **options: Any) -> Task:
    """The task in a .jsonl, .csv or .yaml file; `options` are keys of `Declaration`.

    A bare data file needs the column `answer`; `id`, `split` and `meta` are reserved, every other
    column is an input. An answer may be a list in JSONL: all are accepted, the first is shown in
    demos. Raises TaskError with file and line for whatever is wrong.
    """
    path = Path(path)
    is_yaml = path.suffix in (".yaml", ".yml")
    raw = {**(read_yaml(path) if is_yaml else {"data": path.name}), **options}
    declaration = declare(raw, path)
    if not declaration.name:
        stem = path.resolve().parent.name if path.stem == "task" else path.stem
        declaration = replace(declaration, name=stem)
    return build_task(declaration, (path,) if is_yaml else ())


def build_task(spec: Declaration, files: tuple[Path, ...] = ()) -> Task:
    """Read the data and put the task together. `files` are the files the declaration is from."""
    rows, files, read = _read_data(spec, files)
    inputs = spec.inputs or _find_inputs(spec, rows[0][1])
    _check_columns(spec, inputs, rows[0][1])
    examples = [_build_example(spec, inputs, row, n) for n, (_, row) in enumerate(rows, 1)]
    _check_ids(rows, examples)
    scorer = _build_scorer(spec, rows, examples, files[0] if files else spec.data)
    dealt = _dealt(spec, rows, examples)
    _check_filled(spec, dealt)
    return FileTask(
        name=spec.name,
        instruction=spec.instruction,
        inputs=inputs,
        output=spec.output or (spec.answer.partition(".")[0] if read else spec.answer),
        scorer=scorer,
        examples=dealt,
        files=files,
        read=read,
    )


def _read_data(spec: Declaration, files: tuple[Path, ...]) -> tuple[Rows, tuple[Path, ...], str]:
    """The rows, with their split where the data says so; the files; what else was read."""
    if isinstance(spec.data, str):
        rows, read = read_hub(spec, str(files[0] if files else spec.data))
        return rows, files, read
    paths: Mapping[SplitName, Path] | Mapping[None, Path]
    paths = spec.data if isinstance(spec.data, Mapping) else {None: spec.data}
    rows: Rows = [(split, row) for split, path in paths.items() for row in read_rows(path)]
    return rows, (*files, *paths.values()), ""


def _dealt(
    spec: Declaration, rows: Rows, examples: Sequence[Example]
) -> dict[SplitName, tuple[Example, ...]]:
    """The examples of each split: as the rows say, else as their column says, else by hash."""
    of_column = not isinstance(spec.data, str) and spec.split in rows[0][1].columns
    dealt: dict[SplitName, list[Example]] = {split: [] for split in SPLITS}
    free = []
    for (split, row), example in zip(rows, examples, strict=True):
        if split is None and of_column:
            split = _read_split(spec, row)
        (free if split is None else dealt[split]).append(example)
    # by hash as well, so that the first n rows of a sorted file are as good as any
    free.sort(key=lambda example: _rank(example, spec.seed))
    if free:
        missing: list[SplitName] = [split for split in SPLITS if not dealt[split]]
        for split, example in zip(_deal(free, spec.seed, missing), free, strict=True):
            dealt[split].append(example)
    return {split: tuple(inside) for split, inside in dealt.items()}


def _find_inputs(spec: Declaration, row: Row) -> tuple[str, ...]:
    reserved = {spec.answer, spec.id, spec.split, "meta", *spec.meta}
    inputs = tuple(name for name in row.columns if name not in reserved)
    if not inputs:
        raise TaskError(f'{row.where}: no input column beside "{spec.answer}"; write {SAMPLE}')
    return inputs


def _check_columns(spec: Declaration, inputs: Sequence[str], row: Row) -> None:
    for name in (spec.answer, *inputs, *spec.meta):
        if name not in row.columns:
            hint = nearest(name, row.columns)
            have = ", ".join(row.columns)
            raise TaskError(f'{row.where}: no column "{name}"{hint}; the columns are {have}')


def _build_example(spec: Declaration, inputs: Sequence[str], row: Row, number: int) -> Example:
    accepted = _read_answers(row, spec.answer)
    meta = {name: row.columns[name] for name in spec.meta}
    if isinstance(row.columns.get("meta"), dict):
        meta |= row.columns["meta"]
    if "accepted" in meta:
        raise TaskError(f'{row.where}: meta "accepted" is taken; make "{spec.answer}" a list')
    if len(accepted) > 1:
        meta["accepted"] = accepted
    has_id = spec.id in row.columns
    return Example(
        id=_read_text(row, spec.id) if has_id else f"{spec.name}-{number}",
        inputs={name: _read_text(row, name) for name in inputs},
        answer=accepted[0],
        meta=meta,
    )


def _read_answers(row: Row, column: str) -> list[str]:
    value = row.columns[column]
    if not isinstance(value, list):
        return [_read_text(row, column)]
    if not value:
        raise TaskError(f'{row.where}: "{column}" is an empty list; name the accepted answers')
    return [_clean(row, column, item) for item in value]


def _read_text(row: Row, column: str) -> str:
    return _clean(row, column, row.columns[column])


def _clean(row: Row, column: str, value: Any) -> str:
    """Numbers become text; nothing else does, since true or null would be the model's to guess."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        kind = "null" if value is None else type(value).__name__
        raise TaskError(f'{row.where}: "{column}" is {kind}, not text; put it in "quotes"')
    text = str(value)
    if not text.strip():
        raise TaskError(f'{row.where}: "{column}" is empty; fill it in or take the row out')
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise TaskError(f'{row.where}: "{column}" holds half a surrogate pair; save it as UTF-8')
    return text


def _check_ids(rows: Rows, examples: Sequence[Example]) -> None:
    seen: dict[str, str] = {}
    for (_, row), example in zip(rows, examples, strict=True):
        if example.id in seen:
            raise TaskError(f'{row.where}: id "{example.id}" is already at {seen[example.id]}')
        seen[example.id] = row.where


def _read_split(spec: Declaration, row: Row) -> SplitName:
    value = row.columns[spec.split]
    for split in SPLITS:
        if value == split:
            return split
    raise TaskError(f'{row.where}: "{spec.split}" is {value!r}; write train, dev or test')


def _deal(examples: Sequence[Example], seed: int, missing: Sequence[SplitName]) -> list[SplitName]:
    """A split for each example: 20 % dev and 30 % test, where they are missing, by hash of the
    folded inputs; the rest is train. Examples with the same inputs go to the same split.
    """
    keys = [_rank(example, seed) for example in examples]
    ranked = sorted(set(keys))
    names: dict[str, SplitName] = dict.fromkeys(ranked, "train")
    start = 0
    shares: Mapping[SplitName, float] = {"dev": DEV_SHARE, "test": TEST_SHARE}
    for split, share in shares.items():
        if split in missing:
            size = max(1, round(share * len(ranked)))
            names |= dict.fromkeys(ranked[start : start + size], split)
            start += size
    return [names[key] for key in keys]


def _rank(example: Example, seed: int) -> str:
    text = "\0".join(map(fold, example.inputs.values()))
    return hashlib.sha256(f"{seed}\0{text}".encode()).hexdigest()


def _check_filled(spec: Declaration, dealt: Mapping[SplitName, Sequence[Example]]) -> None:
    where = spec.data if isinstance(spec.data, Path) else spec.name
    for split, examples in dealt.items():
        if not examples:
            raise TaskError(
                f'{where}: no row for the split "{split}"; give three or more different rows, '
                f'or "{spec.split}": "{split}" in some'
            )


def _build_scorer(
    spec: Declaration, rows: Rows, examples: Sequence[Example], where: object
) -> Scorer:
    golds = [example.meta.get("accepted", [example.answer]) for example in examples]
    choices = spec.choices or tuple(sorted({answer for gold in golds for answer in gold}))
    try:
        scorer = build_scorer(spec.scorer, choices, spec.pattern)
    except TaskError as error:
        raise TaskError(f"{where}: {error}") from error
    if spec.format_failures is not None:
        scorer = replace(scorer, format_failures=_read_format(spec.format_failures, scorer, where))
    for (_, row), gold in zip(rows, golds, strict=True):
        if spec.scorer == "choice" and (odd := [g for g in gold if g not in choices]):
            hint = f"the choices are {', '.join(choices)}"
            raise TaskError(f'{row.where}: the answer "{odd[0]}" is no choice; {hint}')
        if spec.scorer == "json" and any(read_json(g) is None for g in gold):
            raise TaskError(f'{row.where}: the answer "{shorten(gold[0], 40)}" is no JSON')
        if spec.scorer == "number" and not all(map(read_number, gold)):
            raise TaskError(f'{row.where}: the answer "{gold[0]}" holds no number; write 42 or 3.5')
    return scorer


def _read_format(names: tuple[str, ...], scorer: Scorer, where: object) -> tuple[str, ...]:
    for name in names:
        if name not in scorer.failures:
            hint = nearest(name, scorer.failures)
            known = ", ".join(scorer.failures)
            raise TaskError(f'{where}: format_failures names "{name}"{hint}: write some of {known}')
    return names
