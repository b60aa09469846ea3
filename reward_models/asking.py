"""Asking a judge: in batches, each question once, from what was asked before where possible.

    cache/judged/<fingerprint>.sqlite     a row a question: digest, reply as JSON

The ledger gets what the questions of a call would cost without the file, so that a run costs the
same whoever asked the same before; the seconds are those really spent.
"""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lm.endpoint import EndpointModel
from lm.ledger import Ledger, Stopwatch
from lm.types import Chat, Completion, LanguageModel, ModelError, PromptTooLong, Sampling
from reward_models.questions import (
    PAIR,
    Reading,
    from_logprobs,
    read_choice,
    read_first,
    read_number,
    tell_apart,
)
from reward_models.types import RewardError

GIVE_UP = 8  # questions of a call, all unanswered: the judge is out of reach, not one reply lost
DIGITS = 4  # kept of a probability: how questions share a batch must not show
PATIENCE = 60.0  # seconds to wait for another process that writes


@dataclass(frozen=True)
class Told:
    """What came back: a text with, at best, its likely first tokens, or a log-probability in nats
    for each option; and what that cost."""

    text: str = ""
    first: dict[str, float] | None = None
    logprobs: list[float] | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True)
class Asking:
    """How `model` is asked. `probabilities`: read them off where the model gives them. `kept` is
    the file with the replies so far, None for none.

    `ledger` is what pays, not the model's own. Its caps do not stop a judge: the answers at hand
    are paid for already, and worth nothing without it.
    """

    model: LanguageModel
    ledger: Ledger
    probabilities: bool = True
    max_tokens: int = 16
    kept: Path | None = None

    def __call__(self, chats: Sequence[Chat], options: Sequence[str]) -> list[Reading]:
        """A reading for each chat. Raises ModelError where the judge cannot be asked at all: a bad
        key, a refusal, or `GIVE_UP` questions or more of which none is answered."""
        if not chats:
            return []
        keys = [self._key(chat, options) for chat in chats]
        new = {key: chat for key, chat in zip(keys, chats, strict=True)}
        known = self._known(list(new))
        asked = {key: chat for key, chat in new.items() if key not in known}
        with Stopwatch() as watch:
            told, last = self._ask(list(asked.values()), options)
        fresh = {key: t for key, t in zip(asked, told, strict=True) if t is not None}
        self._keep(fresh)
        self._count({**known, **fresh}, len(known), watch.seconds)
        if not fresh and len(asked) >= GIVE_UP:
            raise last or ModelError("judge: no question was answered")
        found = {key: self._read(t, options) for key, t in {**known, **fresh}.items()}
        return [found.get(key, Reading(None, "unanswered")) for key in keys]

    def _key(self, chat: Chat, options: Sequence[str]) -> str:
        asked = [list(chat), list(options), self.probabilities, self.max_tokens]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()

    def _ask(
        self, chats: Sequence[Chat], options: Sequence[str]
    ) -> tuple[list[Told | None], ModelError | None]:
        """What each chat got, None for nothing, and the last reason for that."""
        if not chats:
            return [], None
        if isinstance(self.model, EndpointModel):
            sampling = Sampling(max_tokens=self.max_tokens)
            answers = self.model.generate_each(chats, sampling, "judge")
            errors = [answer for answer in answers if isinstance(answer, ModelError)]
            told = [None if isinstance(a, ModelError) else _told(a[0]) for a in answers]
            return told, errors[-1] if errors else None
        return self._ask_local(chats, options)

    def _ask_local(
        self, chats: Sequence[Chat], options: Sequence[str]
    ) -> tuple[list[Told | None], ModelError | None]:
        """All at once; one by one where one of them is too long for the model's window."""
        try:
            return list(self._batch(chats, options)), None
        except PromptTooLong as error:
            if len(chats) == 1:
                return [None], error
        alone = [self._ask_local([chat], options) for chat in chats]
        errors = [error for _, error in alone if error is not None]
        return [told for [told], _ in alone], errors[-1] if errors else None

    def _batch(self, chats: Sequence[Chat], options: Sequence[str]) -> list[Told]:
        encode = getattr(self.model, "encode_reply", None)
        if encode is None or not self.probabilities or not tell_apart(options):
            answers = self.model.generate(chats, Sampling(max_tokens=self.max_tokens), "judge")
            return [_told(answer) for [answer] in answers]
        return _scored(self.model, chats, [encode(option)[:-1] for option in options])

    def _read(self, told: Told, options: Sequence[str]) -> Reading:
        if told.logprobs is not None:
            return _rounded(from_logprobs(told.logprobs, options))
        first = read_first(told.first, options) if self.probabilities else None
        if first is not None:
            return _rounded(first)
        pair = tuple(options) == PAIR
        return read_choice(told.text) if pair else read_number(told.text, options)

    def _count(self, answered: dict[str, Told], kept: int, seconds: float) -> None:
        """As one call, whatever of it was at hand: what a run costs must not depend on the file."""
        self.ledger.add(
            "judge",
            completions=len(answered),
            prompt_tokens=sum(told.prompt_tokens for told in answered.values()),
            completion_tokens=sum(told.completion_tokens for told in answered.values()),
            seconds=seconds,
            kept=kept,
        )

    def _known(self, keys: Sequence[str]) -> dict[str, Told]:
        if self.kept is None or not self.kept.exists():
            return {}
        return _guarded(self.kept, lambda base: _select(base, keys))

    def _keep(self, fresh: dict[str, Told]) -> None:
        if self.kept is None or not fresh:
            return
        self.kept.parent.mkdir(parents=True, exist_ok=True)
        rows = [(key, json.dumps(asdict(told))) for key, told in fresh.items()]

        def write(base: sqlite3.Connection) -> None:
            with base:
                base.executemany("insert or ignore into told values (?, ?)", rows)

        _guarded(self.kept, write)


def _told(completion: Completion) -> Told:
    return Told(
        text=completion.text,
        first=None if completion.first is None else dict(completion.first),
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=completion.completion_tokens,
    )


def _scored(model: Any, chats: Sequence[Chat], options: Sequence[list[int]]) -> list[Told]:
    """How likely each option is as the reply. Costs the prompt and the options' tokens."""
    count = len(options)
    rows = model.logprobs(
        [chat for chat in chats for _ in options], [ids for _ in chats for ids in options]
    )
    sums = [math.fsum(row) for row in rows]
    return [
        Told(
            logprobs=sums[i * count : (i + 1) * count],
            prompt_tokens=len(model.encode(chat)),
            completion_tokens=sum(map(len, options)),
        )
        for i, chat in enumerate(chats)
    ]


def _rounded(reading: Reading) -> Reading:
    assert reading.probabilities is not None
    return Reading({o: round(p, DIGITS) for o, p in reading.probabilities.items()})


def _select(base: sqlite3.Connection, keys: Sequence[str]) -> dict[str, Told]:
    found = {}
    for key in keys:
        row = base.execute("select reply from told where key = ?", (key,)).fetchone()
        if row is not None:
            found[key] = Told(**json.loads(row[0]))
    return found


def _guarded(file: Path, action: Any) -> Any:
    """`action` on the file. Raises RewardError where it cannot be used."""
    try:
        with closing(sqlite3.connect(file, timeout=PATIENCE)) as base:
            base.execute("create table if not exists told (key text primary key, reply text)")
            return action(base)
    except (sqlite3.Error, ValueError, TypeError) as error:
        raise RewardError(
            f"judge: the replies kept in {str(file)!r} cannot be used ({error}); delete that file"
        ) from None
