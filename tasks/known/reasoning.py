"""Any generator of reasoning-gym (Stojanovski et al., 2025) as a task: `reasoning:chain_sum`.

Options of the generator follow its name, `reasoning:chain_sum,max_terms=3,max_digits=2`; `size` is
the number of questions in all splits together (500, or 60 where making one takes long), `seed` is
another set of them. Of the questions drawn, in their order, those that say something new are dealt
in tens: six to train, one to dev, three to test; whatever is nearly a question of test is then left
out of train and dev. Some generators have fewer questions than are asked for.

Scores are the generator's own, partial ones included. Its scorer runs in another process
(`reasoning_scores`): some of them evaluate what the model wrote.
"""

from __future__ import annotations

import base64
import json
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

from tasks.dealt import deal, features
from tasks.text import MAX_CHARS, contains, nearest, normalize, shorten
from tasks.types import Example, Score, SplitName, Task, TaskError
from tasks.worker import Worker, WorkerFailed

PREFIX = "reasoning:"
SIZE, SLOW_SIZE = 500, 60
LEAST = 20  # with fewer, nobody can tell what each question asks from what all of them share
SLOW = (
    "futoshiki",
    "knight_swap",
    "zebra_puzzles",
    "sokoban",
    "intermediate_integration",
    "puzzle24",
)
DRAWS = 3  # for each question wanted, before what there is must do
SECONDS = 5.0  # for one score
TRIFLE = 0.1  # what generators give for an answer that is merely there
GOLDS = ("example_answer", "example_correct_answer", "possible_answer")  # where `answer` is None

HIDDEN = ("source_dataset", "source_index", *GOLDS)

FAILURES = {
    "empty": "The answer is empty.",
    "extra_text": "The right answer with other words around it.",
    "partial": "The generator gives more than a trifle for it, and less than all.",
    "wrong": "The generator gives nothing, or a trifle for answering at all.",
    "unreadable": "The generator's scorer raised an error over the answer.",
    "timeout": "Scoring the answer took too long.",
}

_worker = Worker("tasks.known.reasoning_scores:score")


@dataclass(frozen=True)
class Asked:
    """What a name spells. `options` are sorted and hashable."""

    generator: str
    options: tuple[tuple[str, Any], ...] = ()
    size: int = SIZE
    seed: int = 0


class Reasoning(Task):
    """The questions of one generator."""

    instruction = "Solve the problem. Write the answer and nothing else."
    inputs = ("question",)
    output = "answer"
    failure_classes = FAILURES
    format_failures = ("empty", "extra_text", "unreadable")
    files = (Path(__file__).with_name("reasoning_scores.py"),)

    def __init__(self, name: str):
        self.asked = read_name(name)
        self.name = name

    def split(self, name: SplitName) -> Sequence[Example]:
        return _make(self.asked)[0][name]

    def score(self, example: Example, text: str) -> Score:
        text = text[:MAX_CHARS].strip()
        told = f" One right answer is {example.answer}." if example.answer else ""
        if not text:
            return Score(0.0, False, "empty", f"The answer is empty.{told}")
        value, problem = self._value(example.id, text)
        shown = shorten(text)
        if value >= 1.0:
            return Score(1.0, True, answer=shown)
        gold = normalize(example.answer)
        wordy = gold and contains(normalize(text), gold)
        failure = problem or ("extra_text" if wordy else "partial" if value > TRIFLE else "wrong")
        return Score(value, False, failure, f"{FAILURES[failure]}{told}", shown)

    def _value(self, id: str, text: str) -> tuple[float, str]:
        """The generator's score in [0, 1], and the failure class when it gave none."""
        entry = base64.b64encode(pickle.dumps(_make(self.asked)[1][id])).decode()
        question = [self.asked.generator, dict(self.asked.options), entry, text]
        try:
            given = _worker.ask(question, SECONDS)
        except WorkerFailed as error:
            return 0.0, "timeout" if error.timed_out else "unreadable"
        if not isinstance(given, float) or not 0.0 <= given <= 1.0:
            return 0.0, "unreadable"
        return given, ""


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
    from dataclasses import fields

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
def _make(asked: Asked) -> tuple[Mapping[str, tuple[Example, ...]], Mapping[str, dict[str, Any]]]:
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
