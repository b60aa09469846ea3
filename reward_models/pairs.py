"""Preference pairs: two answers to one question, of which one is known to be better.

From answers with a score (a run's rollouts, answers drawn for the purpose, those of two policies),
or from people, in JSONL. A reward model learns from some questions and is examined on others.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

from reward_models.types import RewardError
from tasks.types import Example, Message, Prompt

Chat = list[dict[str, str]]
HELD_OUT = 0.2  # of the questions
MOST_OF_ONE = 64  # pairs of one example that are considered; drawn at random where there are more


@dataclass(frozen=True)
class Answer:
    """An answer to an example, and what it is worth. `policy` is who gave it."""

    example_id: str
    text: str
    score: float
    policy: str = ""


@dataclass(frozen=True)
class Pair:
    """`chosen` is the better answer to `chat`. `question` tells pairs of one question from others:
    what is asked last, so that other words in front of it, or another id, make no other question.
    """

    question: str
    chat: Chat
    chosen: str
    rejected: str


def make_pairs(
    answers: Sequence[Answer],
    chat_of: Callable[[Answer], Chat],
    *,
    most: int,
    seed: int,
    margin: float = 0.0,
    across: bool = False,
) -> list[Pair]:
    """At most `most` pairs of answers to one example with scores more than `margin` apart.

    Texts are distinct (spaces around them apart; one that was scored differently each time counts
    with the mean). Every example gives one pair before any gives a second, and within an example
    answers used least so far go first, so that neither easy questions nor one lucky answer make
    up the whole. With `across` the two come from different policies.
    """
    rng = random.Random(f"pairs/{seed}")
    queues = []
    for _, group in sorted(_by_example(answers).items()):
        queue = _pairs_of(_distinct(group, across), margin, across, rng)
        if queue:
            queues.append(queue)
    rng.shuffle(queues)
    chosen = _in_turns(queues)
    return [
        Pair(question_of(chat), chat, better.text, worse.text)
        for better, worse in chosen[:most]
        for chat in [chat_of(better)]
    ]


T = TypeVar("T")


def sampled_pairs(pairs: Sequence[Pair], most: int, seed: int) -> list[Pair]:
    """At most `most` of the pairs, drawn at random, every question giving one before any gives a
    second; all of them, as they stand, where they are not more."""
    if len(pairs) <= most:
        return list(pairs)
    rng = random.Random(f"sampled pairs/{seed}")
    queues: dict[str, list[Pair]] = defaultdict(list)
    for pair in rng.sample(pairs, len(pairs)):
        queues[pair.question].append(pair)
    return _in_turns(list(queues.values()))[:most]


def _in_turns(queues: Sequence[Sequence[T]]) -> list[T]:
    """The first of each queue, then the second of each, and so on."""
    turns = range(max(map(len, queues), default=0))
    return [queue[turn] for turn in turns for queue in queues if turn < len(queue)]


def _by_example(answers: Sequence[Answer]) -> Mapping[str, list[Answer]]:
    groups: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        groups[answer.example_id].append(answer)
    return groups


def _distinct(group: Sequence[Answer], across: bool) -> list[Answer]:
    """One answer a text, and with `across` a policy."""
    same: dict[tuple[str, str], list[Answer]] = defaultdict(list)
    for answer in group:
        same[answer.text.strip(), answer.policy if across else ""].append(answer)
    return [
        Answer(some[0].example_id, some[0].text, fmean(a.score for a in some), some[0].policy)
        for _, some in sorted(same.items())
    ]


def _pairs_of(
    group: Sequence[Answer], margin: float, across: bool, rng: random.Random
) -> list[tuple[Answer, Answer]]:
    """All pairs of an example, in the order in which they are to be taken."""
    left = [
        (a, b) if a.score > b.score else (b, a)
        for a, b in combinations(group, 2)
        if abs(a.score - b.score) > margin
        and a.text.strip() != b.text.strip()
        and not (across and a.policy == b.policy)
    ]
    left = rng.sample(left, min(len(left), MOST_OF_ONE))
    used: dict[Answer, int] = defaultdict(int)
    ordered = []
    while left:
        best = min(range(len(left)), key=lambda i: sum(used[a] for a in left[i]))
        pair = left.pop(best)
        ordered.append(pair)
        for answer in pair:
            used[answer] += 1
    return ordered


def split_pairs(
    pairs: Sequence[Pair], seed: int, share: float = HELD_OUT
) -> tuple[list[Pair], list[Pair]]:
    """Pairs to learn from, and held-out ones of other questions: `share` of the questions, at
    least one. Raises RewardError when there are fewer than two questions."""
    questions = sorted({pair.question for pair in pairs})
    if len(questions) < 2:
        raise RewardError(
            f"reward-train: pairs of {len(questions)} questions; there must be some to learn from "
            "and others to be examined on: give answers of which some are better than others"
        )
    random.Random(f"held out/{seed}").shuffle(questions)
    out = set(questions[: max(1, round(share * len(questions)))])
    return [p for p in pairs if p.question not in out], [p for p in pairs if p.question in out]


def read_pairs(
    path: Path, prompt: Prompt, examples: Mapping[str, Example], forbidden: Sequence[Example]
) -> list[Pair]:
    """The pairs of a JSONL file, one a line: `chosen` and `rejected`, and the question as one of
    `example_id`, `inputs` (a mapping), or `prompt` (a text, or a list of messages).

    `examples` are those of train by id. Examples and inputs are asked with `prompt`. A line that
    stands there twice counts once. Raises RewardError with file and line, also for questions of
    `forbidden` examples, which dev and test are.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # a text may hold U+2028
    except (OSError, ValueError) as error:
        raise RewardError(f"{path}: cannot be read ({error}); name a JSONL file") from None
    asked_elsewhere = {question_of(prompt.messages(example.inputs)) for example in forbidden}
    named_elsewhere = {example.id for example in forbidden} - examples.keys()
    found: dict[Any, Pair] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        row = _row(line, where)
        if str(row.get("example_id")) in named_elsewhere:
            raise RewardError(f"{where}: {row['example_id']!r} is of dev or test; leave it out")
        chat = _chat(row, where, prompt, examples)
        pair = Pair(question_of(chat), chat, row["chosen"], row["rejected"])
        if pair.question in asked_elsewhere:
            raise RewardError(f"{where}: asks a question of dev or test; leave it out")
        found.setdefault((pair.question, pair.chosen, pair.rejected), pair)
    for question, chosen, rejected in found:
        if (question, rejected, chosen) in found:
            raise RewardError(
                f"{path}: prefers {chosen!r} to {rejected!r} and the other way round; decide"
            )
    if not found:
        raise RewardError(f"{path}: holds no pairs; write one JSON object a line")
    return list(found.values())


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise RewardError(f"{where}: is no JSON ({error}); write one object a line") from None
    if not isinstance(row, dict):
        raise RewardError(f"{where}: is no JSON object; write {{prompt, chosen, rejected}}")
    for name in ("chosen", "rejected"):
        if not isinstance(row.get(name), str):
            raise RewardError(
                f"{where}: {name} must be a text, the answer; it is {row.get(name)!r}"
            )
    if row["chosen"].strip() == row["rejected"].strip():
        raise RewardError(f"{where}: chosen and rejected are the same answer; leave it out")
    return row


def _chat(
    row: Mapping[str, Any], where: str, prompt: Prompt, examples: Mapping[str, Example]
) -> Chat:
    if "example_id" in row:
        key = row["example_id"]
        if not isinstance(key, str) or key not in examples:
            raise RewardError(f"{where}: train has no example {key!r}; check example_id")
        return prompt.messages(examples[key].inputs)
    if "inputs" in row:
        given = row["inputs"]
        texts = [given.get(name) for name in prompt.inputs] if isinstance(given, dict) else [None]
        if not all(isinstance(text, str) for text in texts):
            wanted = ", ".join(prompt.inputs)
            raise RewardError(f"{where}: inputs must map {wanted} to texts; it is {given!r}")
        return prompt.messages(given)
    if isinstance(row.get("prompt"), str):
        return [{"role": "user", "content": row["prompt"]}]
    if not _is_chat(row.get("prompt")):
        raise RewardError(f"{where}: no question; write example_id, inputs or prompt")
    return row["prompt"]


def _is_chat(value: Any) -> bool:
    return bool(value) and isinstance(value, list) and all(
        isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str)
        for m in value
    )  # fmt: skip


def question_of(chat: Sequence[Message]) -> str:
    """What the question is, whatever stands in front of it."""
    return " ".join(chat[-1]["content"].split())


def question_digest(question: str) -> str:
    """What a card keeps of a question that was learned from."""
    return hashlib.sha256(question.encode("utf-8", "surrogatepass")).hexdigest()[:12]
