"""`tasklift collect`, from sources to what is to be written; knows no terminal and no methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tasks.collect.clean import (
    Dropped,
    Item,
    drop_contradictions,
    drop_leaks,
    drop_repeats,
    merge_spellings,
    to_items,
)
from tasks.collect.cut import Shares, deal, sample
from tasks.collect.fields import Fields, choose_fields
from tasks.collect.guess import Guess, guess_scorer
from tasks.collect.names import safe_names
from tasks.collect.sources import Record, Source, read_source
from tasks.scorers import SCORERS, Scorer, build_scorer
from tasks.text import nearest
from tasks.types import SPLITS, SplitName, TaskError
from tasks.values import clean_text

NONE = "none"
SPLIT_COLUMN = "split"


@dataclass(frozen=True)
class Options:
    """What a user may say; what is empty is guessed. Fields are column names of the sources."""

    name: str
    inputs: tuple[str, ...] = ()
    answer: str = ""
    group: str = ""
    time: str = ""
    stratify: str = ""  # a field, or "none"
    split_field: str = ""  # a field, or "none": forget the splits the source has
    shares: Shares = field(default_factory=lambda: {"train": 0.6, "dev": 0.2, "test": 0.2})
    scorer: str = ""
    instruction: str | None = None
    most: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Collected:
    """A task that is ready to be written. `counts` says how many rows were left after each step."""

    options: Options
    sources: Sequence[Source]
    fields: Fields
    inputs: tuple[str, ...]  # as they are called in the task
    answer: str
    guess: Guess
    scorer: Scorer
    splits: dict[SplitName, list[Item]]
    dropped: Dropped
    counts: dict[str, int]
    how: str
    said: list[str]

    @property
    def instruction(self) -> str:
        given = self.options.instruction
        return self.guess.instruction if given is None else given


def collect(spellings: Sequence[str], options: Options) -> Collected:
    """Read, choose, clean and cut. Raises TaskError, one line, for whatever does not work out."""
    _check_options(options)
    sources = [read_source(spelling) for spelling in spellings]
    records = _with_ids(sources)
    said: list[str] = []
    fields, split_field = _fields(records, options, said)
    names = safe_names((*fields.inputs, fields.answer))
    dropped, counts = Dropped(), {"read": len(records)}
    stratum = "" if options.stratify in ("", NONE) else options.stratify
    items = to_items(
        records,
        fields,
        names,
        key=options.group or options.time,
        stratum=stratum,
        split_field=split_field,
        dropped=dropped,
    )
    if not items:
        raise TaskError(f'no row has both {", ".join(fields.inputs)} and "{fields.answer}"')
    items = _forget_splits(items, options, said)
    guess, items = _guess(items, options, said)
    scorer = build_scorer(guess.scorer, guess.choices, guess.pattern)
    items = _drop_unscorable(items, scorer, dropped)
    counts["with input and answer"] = len(items)
    items = drop_contradictions(items, dropped)
    counts["without contradictions"] = len(items)
    items = drop_repeats(items, dropped)
    counts["without repeats"] = len(items)
    if options.most is not None and options.most < len(items):
        items = sample(items, options.most, options.seed)
        counts[f"drawn (--max {options.most})"] = len(items)
    items, how = _layered(items, guess, options)
    kind = "group" if options.group else "time" if options.time else "random"
    splits = drop_leaks(deal(items, options.shares, kind, options.seed), dropped)
    counts["in the splits"] = sum(map(len, splits.values()))
    if empty := [split for split in SPLITS if not splits[split]]:
        raise TaskError(f"no row is left for the split {empty[0]!r}; bring more rows")
    return Collected(
        options=options,
        sources=sources,
        fields=fields,
        inputs=tuple(names[name] for name in fields.inputs),
        answer=names[fields.answer],
        guess=guess,
        scorer=scorer,
        splits=splits,
        dropped=dropped,
        counts=counts,
        how=how,
        said=said,
    )


def _check_options(options: Options) -> None:
    if options.group and options.time:
        raise TaskError("--group and --time: splits are made by one of them; leave one out")
    if options.scorer and options.scorer not in SCORERS:
        hint = nearest(options.scorer, SCORERS)
        raise TaskError(f"--scorer {options.scorer}{hint}: one of {', '.join(SCORERS)}")
    if options.time and options.stratify not in ("", NONE):
        raise TaskError("--time and --stratify: splits by time cannot be stratified; leave one out")


def _with_ids(sources: Sequence[Source]) -> list[tuple[str, Record]]:
    """Each record with an id: where it stands, so that it can be looked up."""
    seen: set[str] = set()
    found = []
    for number, source in enumerate(sources, 1):
        for record in source.records:
            where = clean_text(record.where)  # a file's name need not be UTF-8
            id_ = where if where not in seen else f"{number}/{where}"
            seen.add(id_)
            found.append((id_, record))
    return found


def _fields(
    records: Sequence[tuple[str, Record]], options: Options, said: list[str]
) -> tuple[Fields, str]:
    """The fields, and the one that holds the split ('' for none)."""
    bare = [record for _, record in records]
    split_field = "" if options.split_field == NONE else options.split_field
    if not options.split_field and _is_split_column(bare):
        split_field = SPLIT_COLUMN
        said.append('splits: as the field "split" says (--split-field none to cut anew)')
    stratum = "" if options.stratify == NONE else options.stratify
    named = (options.group, options.time, split_field)
    taken = tuple(name for name in named if name)
    fields = choose_fields(bare, options.inputs, options.answer, taken)
    if stratum and stratum != fields.answer:
        choose_fields(bare, fields.inputs, fields.answer, (*taken, stratum))  # it must exist
    said.extend(fields.said)
    return fields, split_field


def _is_split_column(records: Sequence[Record]) -> bool:
    from tasks.hub_data import SPLIT_NAMES

    values = {str(record.columns.get(SPLIT_COLUMN)).strip().lower() for record in records}
    return values <= set(SPLIT_NAMES) and len(values) > 1


def _forget_splits(items: list[Item], options: Options, said: list[str]) -> list[Item]:
    """The source's own splits go when there is no train among them, or the user says so."""
    own = {item.split for item in items} - {None}
    if not own or (options.split_field != NONE and "train" in own):
        return items
    if options.split_field != NONE:
        said.append(f"splits: the source has {', '.join(sorted(map(str, own)))} and no train; cut")
    return [replace(item, split=None) for item in items]


def _guess(items: list[Item], options: Options, said: list[str]) -> tuple[Guess, list[Item]]:
    merged, told = merge_spellings(items)
    guess = guess_scorer(merged, options.scorer)
    said.append(f"scorer: {guess.scorer} ({guess.why})")
    if guess.note:
        said.append(f"note: {guess.note}")
    if any(len(item.answers) > 1 for item in items):
        said.append("answers: where a row has several, any one of them counts as right")
    if guess.scorer != "choice":
        return guess, items
    if told:
        more = f" and {len(told) - 3} more" if len(told) > 3 else ""
        said.append(f"one spelling for each label: {', '.join(told[:3])}{more}")
    return guess, merged


def _drop_unscorable(items: list[Item], scorer: Scorer, dropped: Dropped) -> list[Item]:
    kept = []
    for item in items:
        if scorer(item.answers, item.answers[0]).correct:
            kept.append(item)
        else:
            dropped.add("unscorable", f'{item.id}: "{item.answers[0][:60]}"')
    if not kept:
        raise TaskError("the scorer finds no answer right; name another one with --scorer")
    return kept


def _layered(items: list[Item], guess: Guess, options: Options) -> tuple[list[Item], str]:
    """Items with what the splits are stratified by, and how the splits are made, in words."""
    how = f"by {options.group}, no group in two splits" if options.group else "at random"
    if options.time:
        return items, f"by {options.time}, test is latest"
    if options.stratify == NONE:
        return [replace(item, stratum="") for item in items], how
    if options.stratify:
        return items, f"{how}, stratified by {options.stratify}"
    if guess.scorer != "choice":
        return items, how
    return [replace(item, stratum=item.answers[0]) for item in items], f"{how}, stratified by label"
