"""Opening a split and making sure of it, before anything expensive runs on it.

The only door to examples: experiments counts through it how often the test split is opened.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from tasks.images import shows_images
from tasks.overlap import Overlap, find_overlaps
from tasks.text import fold, shorten
from tasks.types import Example, SplitName, Task, TaskError


def required_split(task: Task, name: SplitName, limit: int | None = None) -> list[Example]:
    """The first `limit` examples of a split (all when None), every one of the split checked.

    Raises TaskError naming task, split and example: no examples, not `Example`, a repeated id, a
    missing input field, anything that is not text, meta that is no JSON; also when `split` itself
    raises, and when there are fewer than `limit`.
    """
    where = f'task "{task.name}", split "{name}"'
    try:
        examples = list(task.split(name))
    except TaskError as error:
        raise TaskError(f"{where}: {error}") from error
    except (Exception, SystemExit) as error:
        shown = shorten(f"{type(error).__name__}: {error}")
        raise TaskError(f"{where}: split() raised {shown}") from error
    if not examples:
        raise TaskError(f"{where}: no examples")
    for position, example in enumerate(examples):
        _check_example(task, example, f"{where}, example {position}")
    _check_unique(examples, where)
    if limit is not None and limit > len(examples):
        have = f"{where}: {len(examples)} examples"
        raise TaskError(f"{have}, the spec wants {limit}; write {len(examples)} or null")
    return examples[:limit]


def check_disjoint(
    splits: Mapping[SplitName, Sequence[Example]], *, allow_overlap: bool = False
) -> list[Overlap]:
    """What the splits have in common, where it is allowed or does no harm (`tasks.overlap`).

    Raises TaskError when two splits share an id, and, unless `allow_overlap`, when they share an
    example but for case and punctuation, or test shares nearly the same one. That dev has nearly
    an example of train makes the choice of a checkpoint worse, but no score on test wrong.
    """
    _check_ids(splits)
    overlaps = find_overlaps({**splits})
    refused = [overlap for overlap in overlaps if is_harmful(overlap)]
    if refused and not allow_overlap:
        raise TaskError(describe_overlaps(refused, splits))
    return overlaps


def is_harmful(overlap: Overlap) -> bool:
    """Whether a run is refused for it."""
    return overlap.split == "test" or overlap.kind != "near"


def describe_overlaps(
    overlaps: Sequence[Overlap], splits: Mapping[SplitName, Sequence[Example]]
) -> str:
    """One line: how many examples of the worst split, the first of them, and what to do."""
    last: SplitName = "test" if any(overlap.split == "test" for overlap in overlaps) else "dev"
    of_last = [overlap for overlap in overlaps if overlap.split == last]
    before = " or ".join(dict.fromkeys(overlap.other_split for overlap in of_last))
    return (
        f"{len(of_last)} of {len(splits[last])} {last} examples stand in {before} too: "
        f"{of_last[0]}; take them out of one split, or write allow_overlap: true into the spec"
    )


def _check_ids(splits: Mapping[SplitName, Sequence[Example]]) -> None:
    seen: dict[str, str] = {}
    for split, examples in splits.items():
        for example in examples:
            there = seen.setdefault(example.id, split)
            if there != split:
                raise TaskError(
                    f'splits "{there}" and "{split}" share an example (same id): '
                    f'"{shorten(example.id)}"; take one of them out, or give it another id'
                )


def refuse_images(examples: Iterable[Example], who: str) -> None:
    """Raises TaskError on behalf of `who`, which works with texts only."""
    if shows_images(examples):
        raise TaskError(f"{who}: takes texts only, and the task shows pictures; see docs/images.md")


def fold_inputs(example: Example) -> tuple[tuple[str, str], ...]:
    """Equal for examples that ask the same thing."""
    return tuple((name, fold(text)) for name, text in sorted(example.inputs.items()))


def _check_example(task: Task, example: object, where: str) -> None:
    if not isinstance(example, Example):
        raise TaskError(f"{where}: a {type(example).__name__}, not a tasks.Example")
    if not isinstance(example.id, str) or not example.id:
        raise TaskError(f"{where}: the id is {example.id!r}; write a text that is not empty")
    if not isinstance(example.answer, str):
        raise TaskError(f'{where} ("{example.id}"): the answer is {example.answer!r}, not text')
    for part in ("inputs", "meta"):
        if not isinstance(getattr(example, part), Mapping):
            raise TaskError(f'{where} ("{example.id}"): {part} is no mapping; write {{...}}')
    for field in task.inputs:
        if field not in example.inputs:
            raise TaskError(f'{where} ("{example.id}"): no input "{field}"')
    for field, value in example.inputs.items():
        if not isinstance(field, str) or not isinstance(value, str):
            raise TaskError(f'{where} ("{example.id}"): input "{field}" is {value!r}, not text')
    _check_storable(example, where)


def _check_storable(example: Example, where: str) -> None:
    """Records are UTF-8 with meta as JSON, and a run must know the same example again tomorrow."""
    named = f'{where} ("{shorten(example.id)}")'
    try:
        "".join([example.id, example.answer, *example.inputs, *example.inputs.values()]).encode()
        json.dumps(dict(example.meta), sort_keys=True, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise TaskError(f"{named}: holds half a surrogate pair; write whole characters") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise TaskError(f"{named}: meta is no JSON ({error}); use texts, numbers, lists") from None


def _check_unique(examples: Sequence[Example], where: str) -> None:
    seen: set[str] = set()
    for example in examples:
        if example.id in seen:
            raise TaskError(f'{where}: the id "{example.id}" occurs twice')
        seen.add(example.id)
