"""A language model whose answers are written down: a real `LanguageModel` anyone can test with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

from lm.ledger import Ledger, Purpose
from lm.pictures import words_of
from lm.types import Chat, Completion, Sampling

Script = Sequence[str] | Mapping[str, str] | Callable[[Chat, int], str]


class ScriptedLM:
    """Answers from a script.

    A list is read in order and starts again at its end; a dict maps the last user message to the
    answer ("" when it is missing); a callable gets (chat, sample index). Tokens are UTF-8 bytes,
    and an answer longer than `max_tokens` bytes is cut, as a model's would be.
    """

    def __init__(self, script: Script, ledger: Ledger | None = None, name: str = "scripted"):
        self.name = name
        self.ledger = ledger or Ledger()
        self._script = script
        self._next = 0

    def generate(
        self, chats: Sequence[Chat], sampling: Sampling, purpose: Purpose
    ) -> list[list[Completion]]:
        if not chats:
            return []
        self.ledger.check(purpose)
        rows = [[self._complete(c, i, sampling) for i in range(sampling.n)] for c in chats]
        flat = [completion for row in rows for completion in row]
        self.ledger.add(
            purpose,
            completions=len(flat),
            prompt_tokens=sum(row[0].prompt_tokens for row in rows),
            completion_tokens=sum(len(c.token_ids) for c in flat),
            seconds=0.0,
        )
        return rows

    def logprobs(
        self, chats: Sequence[Chat], completions: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        """A script is certain of itself: every token has log-probability 0."""
        return [[0.0] * len(ids) for ids in completions]

    def fingerprint(self) -> str:
        shown = self._script if not callable(self._script) else self._script.__qualname__
        return hashlib.sha256(f"{self.name}{shown!r}".encode()).hexdigest()[:16]

    def forget(self) -> None:
        """Nothing is kept."""

    def _complete(self, chat: Chat, index: int, sampling: Sampling) -> Completion:
        data = self._answer(chat, index).encode()
        cut = data[: sampling.max_tokens]
        return Completion(
            text=cut.decode(errors="ignore"),
            token_ids=tuple(cut),
            logprobs=(0.0,) * len(cut),
            finish_reason="length" if len(cut) < len(data) else "stop",
            prompt_tokens=sum(len(words_of(m["content"]).encode()) for m in chat),
        )

    def _answer(self, chat: Chat, index: int) -> str:
        if callable(self._script):
            return self._script(chat, index)
        if isinstance(self._script, Mapping):
            return self._script.get(words_of(chat[-1]["content"]), "")
        answer = self._script[self._next % len(self._script)]
        self._next += 1
        return answer
