"""A reward from a model that reads the answer: graded alone, or held against others of its group.

Pointwise, the expectation of the scale is taken where the judge's probabilities are known (as in
G-Eval, Liu et al., 2023, arXiv:2303.16634): a small judge's most likely grade is nearly always the
same, and it is the odds that tell answers apart. Pairwise, each pair is asked in both orders,
because judges favour a place (Zheng et al., 2023, arXiv:2306.05685).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from lm.ledger import Ledger
from lm.source import cache_folder, resolve
from lm.types import LanguageModel
from reward_models.asking import Asking
from reward_models.config import JudgeConfig
from reward_models.mentions import is_text_file
from reward_models.questions import (
    PAIR,
    Reading,
    options_of,
    pairwise,
    pointwise,
    question_text,
)
from reward_models.types import Judged, RewardError, Turns, Values, example_ids, find, reply
from tasks.types import Example

TOP = 20  # likely first tokens, the most that servers tell

Pair = tuple[int, int]


@dataclass(frozen=True)
class Judge:
    """What `asking` says of each answer by `config` and `rubric`, in [0, 1].

    None where the judge did not answer, or not in a way that can be read, or where an answer has
    no other to be held against; `apart` tells which. With `gold`, answers come from `examples`.
    """

    config: JudgeConfig
    rubric: str
    asking: Asking
    examples: Mapping[str, Example]

    __name__ = "judge"  # what TRL calls the reward in its logs

    def __call__(
        self, prompts: Sequence[Turns], completions: Sequence[Turns], **columns: Any
    ) -> Values:
        return self.apart(prompts, completions, **columns).values

    def apart(
        self, prompts: Sequence[Turns], completions: Sequence[Turns], **columns: Any
    ) -> Judged:
        """Parts: `malformed` and `unanswered`, the share of an answer's questions that were."""
        questions = [question_text(prompt) for prompt in prompts]
        answers = [reply(turns) for turns in completions]
        needed = self.config.gold or self.config.mode == "pairwise"
        ids = example_ids(columns, len(answers), self.__name__, needed=needed)
        golds = [self._gold(key) for key in ids]
        if self.config.mode == "pointwise":
            return self._graded(questions, answers, golds)
        return self._compared(questions, answers, golds, ids)

    def _gold(self, example_id: str) -> str | None:
        if not self.config.gold:
            return None
        return find(self.examples, example_id, f"judge {self.config.model}").answer

    def _graded(
        self, questions: Sequence[str], answers: Sequence[str], golds: Sequence[str | None]
    ) -> Judged:
        options = options_of(self.config.scale)
        rows = zip(questions, answers, golds, strict=True)
        chats = [pointwise(self.rubric, self.config.scale, *row) for row in rows]
        readings = self.asking(chats, options)
        return _judged([grade(reading) for reading in readings], [[r] for r in readings])

    def _compared(
        self,
        questions: Sequence[str],
        answers: Sequence[str],
        golds: Sequence[str | None],
        ids: Sequence[str],
    ) -> Judged:
        pairs = [p for group in groups(ids) for p in pairs_of(group, self.config.opponents)]
        differ = [p for p in pairs if answers[p[0]].strip() != answers[p[1]].strip()]
        chats = [
            pairwise(self.rubric, questions[a], answers[x], answers[y], golds[a])
            for a, b in differ
            for x, y in ((a, b), (b, a))
        ]
        readings = self.asking(chats, PAIR)
        both = {p: readings[2 * i : 2 * i + 2] for i, p in enumerate(differ)}
        wins = {p: better(*both[p]) if p in both else 0.5 for p in pairs}
        about = [[r for p in differ if i in p for r in both[p]] for i in range(len(answers))]
        return _judged(won(len(answers), wins), about)


def _judged(values: Values, readings: Sequence[Sequence[Reading]]) -> Judged:
    parts: dict[str, Values] = {
        why: [sum(r.failure == why for r in row) / len(row) if row else 0.0 for row in readings]
        for why in ("malformed", "unanswered")
    }
    return Judged(values, parts)


def grade(reading: Reading) -> float | None:
    """The expected place on the scale, from 0 at its low end to 1 at its high."""
    if reading.probabilities is None:
        return None
    shares = list(reading.probabilities.values())
    expected = sum(place * share for place, share in enumerate(shares)) / sum(shares)
    return expected / (len(shares) - 1)


def better(first: Reading, second: Reading) -> float | None:
    """How likely X is better than Y, given what was said with X in place A, and with X in place B.

    The mean of the two: said outright, X both times is 1, Y both times 0, and the same place both
    times a tie, 1/2. None where one of the two has no reading.
    """
    if first.probabilities is None or second.probabilities is None:
        return None
    return (first.probabilities["A"] + second.probabilities["B"]) / 2


def groups(ids: Sequence[str]) -> list[list[int]]:
    """The rows of each group: consecutive ones of the same example."""
    return [[i for i, _ in rows] for _, rows in groupby(enumerate(ids), key=lambda row: row[1])]


def pairs_of(group: Sequence[int], opponents: int | str) -> list[Pair]:
    """Who is held against whom: all, or each against the next `opponents` in a circle."""
    size = len(group)
    reach = size - 1 if opponents == "all" else min(int(opponents), size - 1)
    found = {
        (min(a, b), max(a, b))
        for place, a in enumerate(group)
        for step in range(1, reach + 1)
        for b in [group[(place + step) % size]]
    }
    return sorted(found)


def won(count: int, wins: Mapping[Pair, float | None]) -> Values:
    """The mean of each answer's wins over the others it met; None where no meeting was decided."""
    shares: list[list[float]] = [[] for _ in range(count)]
    for (a, b), win in wins.items():
        if win is not None:
            shares[a].append(win)
            shares[b].append(1 - win)
    return [sum(row) / len(row) if row else None for row in shares]


def check_judge(config: JudgeConfig) -> None:
    """Raises RewardError for a rubric that cannot be read, ModelError for a judge that cannot be
    asked. Asks nothing and loads no weights."""
    read_rubric(config.rubric)
    if config.endpoint is not None:
        config.remote().check("judge")
    else:
        resolve(config.model)


def load_judge(
    config: JudgeConfig, examples: Mapping[str, Example], ledger: Ledger | None
) -> Judge:
    """The judge, a local one with its weights loaded. Raises RewardError and ModelError."""
    rubric = read_rubric(config.rubric)
    pays = Ledger() if ledger is None else ledger
    if config.endpoint is None:
        return judge_with(config.open(), config, rubric, examples, pays)
    options = {"concurrency": config.concurrency, "timeout": config.timeout}
    top = TOP if config.probabilities == "auto" else 0
    model = config.remote(top_logprobs=top, **options)
    model.check("judge")
    return judge_with(model, config, rubric, examples, pays)


def judge_with(
    model: LanguageModel,
    config: JudgeConfig,
    rubric: str,
    examples: Mapping[str, Example],
    ledger: Ledger,
) -> Judge:
    """The judge that `model` makes; its replies are kept by its fingerprint, if it has one, and by
    the type of its numbers, where they are known."""
    mark, kind = model.fingerprint(), getattr(getattr(model, "model", None), "dtype", None)
    name = mark if kind is None else f"{mark}-{str(kind).removeprefix('torch.')}"
    kept = cache_folder() / "judged" / f"{name}.sqlite" if mark else None
    reads = config.probabilities == "auto"
    return Judge(config, rubric, Asking(model, ledger, reads, config.max_tokens, kept), examples)


def read_rubric(rubric: str) -> str:
    """The rubric itself, or what the file it names holds. Raises RewardError."""
    if not is_text_file(rubric):
        return rubric
    try:
        text = Path(rubric).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise RewardError(f"judge: rubric {rubric!r}: {error}; name a text file") from None
    if not text:
        raise RewardError(f"judge: rubric {rubric!r} is empty; write what makes an answer good")
    return text
