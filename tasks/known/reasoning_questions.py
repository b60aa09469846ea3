"""What `reasoning:generator,option=value` asks for, and the questions that gives."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from io import StringIO
from typing import Any

from tasks.dealt import deal, features
from tasks.text import nearest, shorten
from tasks.types import Example, TaskError

PREFIX = "reasoning:"
SIZE, SLOW_SIZE = 500, 60
LEAST = 20  # with fewer, nobody can tell what each question asks from what all of them share
GOLDS = ("example_answer", "example_correct_answer", "possible_answer")  # where `answer` is None

HIDDEN = ("source_dataset", "source_index", *GOLDS)
SLOW = (
    "futoshiki",
    "knight_swap",
    "zebra_puzzles",
    "sokoban",
    "intermediate_integration",
    "puzzle24",
)
DRAWS = 3  # for each question wanted, before what there is must do


@dataclass(frozen=True)
class Asked:
    """What a name spells. `options` are sorted and hashable."""

    generator: str
    options: tuple[tuple[str, Any], ...] = ()
    size: int = SIZE
    seed: int = 0


def generators() -> list[str]:
    """The names of all generators that need no options. Raises TaskError without reasoning-gym."""
    if not find_spec("reasoning_gym"):
        raise TaskError("reasoning: needs reasoning-gym: pip install 'tasklift[tasks]'")
    import reasoning_gym  # noqa: F401  registers them
    from reasoning_gym.factory import DATASETS

    return sorted({*DATASETS} - {"composite"})  # a mixture of others, which `options` cannot say


def read_name(name: str) -> Asked:
    """What `reasoning:generator,option=value` asks for. Raises TaskError, one line."""
    generator, *given = name.removeprefix(PREFIX).split(",")
    known = generators()
    if generator not in known:
        near = get_close_matches(generator, known, n=5) or known
        shown = f'no generator "{shorten(generator, 60)}" in reasoning-gym'
        raise TaskError(f"{shown}; write reasoning: and one of {', '.join(near)}")
    options = dict(_read_option(name, option) for option in given)
    default = SLOW_SIZE if generator in SLOW else SIZE
    size, seed = options.pop("size", default), options.pop("seed", 0)
    if type(size) is not int or type(seed) is not int or size < LEAST or seed < 0:
        raise TaskError(f"{name}: size must be a whole number from {LEAST} on, seed one from 0 on")
    asked = Asked(generator, tuple(sorted(options.items())), size, seed)
    _check_options(name, asked)
    return asked


def _read_option(name: str, option: str) -> tuple[str, Any]:
    key, equals, value = option.partition("=")
    if not equals:
        raise TaskError(f'{name}: "{option}" is no option; write max_terms=3')
    try:
        return key.strip(), json.loads(value)
    except ValueError:
        return key.strip(), value.strip()


def _check_options(name: str, asked: Asked) -> None:
    from reasoning_gym.factory import DATASETS

    known = [field.name for field in fields(DATASETS[asked.generator][1])]
    for option, _ in asked.options:
        if option not in known:
            have = ", ".join(known)
            raise TaskError(f'{name}: no option "{option}"{nearest(option, known)}; it has {have}')
    try:
        _dataset(asked)
    except Exception as error:  # each generator checks in its own way
        told = shorten(" ".join(str(error).split()) or type(error).__name__, 120)
        raise TaskError(f"{name}: the generator refuses these options ({told})") from error


def _dataset(asked: Asked) -> Any:
    from reasoning_gym import create_dataset

    options = dict(asked.options)
    return create_dataset(
        asked.generator, **options, seed=1_000_000 * asked.seed + 1, size=DRAWS * asked.size
    )


@cache
def make_questions(
    asked: Asked,
) -> tuple[Mapping[str, tuple[Example, ...]], Mapping[str, dict[str, Any]]]:
    """The splits, and each example's entry as its generator made it, by id."""
    entries: dict[str, dict[str, Any]] = {}

    def drawn() -> Iterator[Example]:
        dataset = _dataset(asked)
        for index in range(DRAWS * asked.size):
            entry = dataset[index]
            if entry["answer"] != "":  # nobody can tell that from no answer
                example = _build(f"q{index}", entry)
                entries[example.id] = entry
                yield example

    with redirect_stdout(StringIO()):  # some generators talk
        return deal(drawn(), asked.size), entries


def _build(id: str, entry: Mapping[str, Any]) -> Example:
    metadata = entry["metadata"]
    answer = entry["answer"]
    if answer is None:
        answer = next((metadata[name] for name in GOLDS if metadata.get(name)), "")
    if not isinstance(answer, str):
        answer = json.dumps(answer)
    return Example(id, {"question": entry["question"]}, answer, features(metadata, HIDDEN))
