"""What a language model is to this suite: chats in, completions out, everything counted.

No torch here: the command line and the reports import this file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from lm.ledger import Ledger, Purpose

# Messages of `role` and `content`, a text; or parts, {"type": "text", "text": …} and {"type":
# "image", "image": what has the bytes of a PNG as `png`} (lm/pictures.py).
Chat = Sequence[dict[str, Any]]
# "turns": it ends with a call of a tool, after the last turn it may have
FinishReason = Literal["stop", "length", "turns"]


class ModelError(ValueError):
    """A model that cannot be used. One line: what, where, what to write instead."""


class PromptTooLong(ModelError):
    """A prompt that leaves no room for an answer in the context window."""


@dataclass(frozen=True)
class Sampling:
    """How to draw completions. `temperature` 0 is greedy; `top_k` 0 and `top_p` 1 mean no cut.

    `min_p` cuts tokens less likely than that share of the likeliest (Nguyen et al., 2024,
    arXiv:2407.01082); `repetition_penalty` above 1 makes tokens of the prompt and the answer so
    far less likely (Keskar et al., 2019, arXiv:1909.05858), at temperature 0 too.

    `n` completions are drawn per chat. The draw of row i, token t depends on `seed`, i and t
    only, not on how rows are put into batches (rounding aside: another batch shape moves logits by
    about 1e-5, which now and then tips a draw; the same call always draws the same). Rows count
    from `first_row`, so that a call may be the later part of a larger one; `draws`, a number for
    each row, takes the place of the count, so that any rows may share a call.
    """

    max_tokens: int = 64
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    n: int = 1
    stop: tuple[str, ...] = ()
    seed: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    first_row: int = 0
    draws: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Raises ModelError for a value that means nothing."""
        for name, valid, wanted in (
            ("max_tokens", self.max_tokens >= 1, "1 or more"),
            ("temperature", 0.0 <= self.temperature < math.inf, "0 (greedy) or more"),
            ("top_k", self.top_k >= 0, "0 (no cut) or more"),
            ("top_p", 0.0 < self.top_p <= 1.0, "above 0 and at most 1 (no cut)"),
            ("min_p", 0.0 <= self.min_p <= 1.0, "0 (no cut) to 1"),
            (
                "repetition_penalty",
                0.0 < self.repetition_penalty < math.inf,
                "a number above 0 (1: no penalty)",
            ),
            ("n", self.n >= 1, "1 or more"),
            ("stop", not isinstance(self.stop, str) and "" not in self.stop, "texts, none empty"),
        ):
            if not valid:
                value = getattr(self, name)
                raise ModelError(f"sampling: {name} is {value!r}; write {wanted}")

    def row(self, place: int) -> int:
        """What picks the random numbers of the row at `place` in a call."""
        return self.draws[place] if self.draws else self.first_row + place


@dataclass(frozen=True)
class Completion:
    """One answer.

    `token_ids` ends with the end-of-turn token when `finish_reason` is "stop" (and no stop string
    cut it); `logprobs` are of those tokens in nats under the unwarped policy (temperature 1, no
    cut); `prompt_tokens` counts the rendered chat. Who answers from afar shows no tokens: both are
    empty then, and `counted_tokens` is how many there were, as far as the server tells; `first`
    may then hold log-probabilities in nats of the likeliest first tokens, by their text.

    An answer of several turns (`lm.turns`) has a `transcript`, and as `text` its last turn.
    `token_ids` are then all the model has seen behind the prompt, and `mask` is 1 for those that it
    wrote itself, 0 (and log-probability 0) for what tools and the template said; no mask: all are
    its own.
    """

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: FinishReason
    prompt_tokens: int
    counted_tokens: int | None = None
    first: Mapping[str, float] | None = None
    transcript: tuple[Mapping[str, Any], ...] = ()
    mask: tuple[int, ...] = ()

    @property
    def own(self) -> tuple[int, ...]:
        """The mask, written out."""
        return self.mask or (1,) * len(self.token_ids)

    @property
    def own_tokens(self) -> tuple[int, ...]:
        """The tokens that the model wrote."""
        return tuple(t for t, own in zip(self.token_ids, self.own, strict=True) if own)

    @property
    def completion_tokens(self) -> int:
        """How many tokens the model wrote."""
        return sum(self.own) if self.counted_tokens is None else self.counted_tokens


@dataclass
class Row:
    """One answer in the making. `index` numbers the rows of a call and picks its random draws.

    `prompt` is the number of its prompt; `logprobs` are those of `tokens`, as in `Completion`.
    """

    index: int
    prompt: int
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finished: bool = False


@dataclass(frozen=True)
class Further:
    """Prompts that are answers so far, to be gone on with: how many tokens each may still get, and
    how many of it the model has not read yet, which alone are counted."""

    limits: tuple[int, ...]
    unread: tuple[int, ...]


class LanguageModel(Protocol):
    """Anything that answers chats. Implementations: `HFModel`, `ScriptedLM`, `EndpointModel`."""

    name: str
    ledger: Ledger

    def generate(
        self, chats: Sequence[Chat], sampling: Sampling, purpose: Purpose
    ) -> list[list[Completion]]:
        """`sampling.n` completions for each chat, in order; counted in `ledger` under `purpose`.

        Raises `lm.ledger.BudgetExhausted` when a cap of the ledger is reached.
        """
        ...

    def logprobs(
        self, chats: Sequence[Chat], completions: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        """Log-probability in nats of each completion token after its chat, unwarped."""
        ...

    def fingerprint(self) -> str:
        """Changes whenever the weights that answer change."""
        ...

    def forget(self) -> None:
        """Drop what is kept between calls to save work; rounding depends on it.

        The same calls after it give the same answers bit for bit, whatever was asked before.
        """
        ...
