"""Answers in several turns: the model calls tools, reads what they say, and goes on.

The one place that drives turns, whatever the model. All conversations of a call go round by round,
those still calling in one batch. A model with tokens (`HFModel`) goes on from the very ids it has
seen and drawn: nothing is ever tokenized again, so the log-probabilities that were drawn are those
a trainer finds for the same row. Who takes texts only (`ScriptedLM`, `EndpointModel`) is sent the
whole conversation again, as another request.

`max_tokens` bounds what the model writes in all turns of an answer together, and draws depend on
(seed, row, turn, token). An answer that outgrows the window, or is cut, ends as `length`; one that
still calls in its last turn ends as `turns`. The calls of either are noted and not carried out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

from lm.ledger import Purpose
from lm.tool_calls import Syntax, as_text, read_calls, spoken, told
from lm.types import (
    Chat,
    Completion,
    FinishReason,
    Further,
    LanguageModel,
    ModelError,
    PromptTooLong,
    Sampling,
)

Turn = dict[str, Any]


class Tools(Protocol):
    """What the tools of one chat do; `tasks.tools.Toolbox` is one."""

    @property
    def max_turns(self) -> int: ...

    def call(self, name: str, arguments: Mapping[str, Any]) -> Turn:
        """The message of role `tool` that answers the call. Raises no Exception."""
        ...


@runtime_checkable
class TokenModel(Protocol):
    """What of `HFModel` it takes to go on from tokens, and to write an answer in them."""

    @property
    def syntax(self) -> Syntax: ...
    @property
    def window(self) -> int | None: ...
    def encode(self, chat: Chat) -> list[int]: ...
    def encode_reply(self, text: str) -> list[int]: ...
    def results(self, results: Sequence[Mapping[str, Any]], newest: int) -> list[int]: ...
    def complete(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        purpose: Purpose,
        further: Further | None = None,
    ) -> list[list[Completion]]: ...


@runtime_checkable
class AsksEach(Protocol):
    """What of `EndpointModel` it takes for one question to fail and others not."""

    def generate_each(
        self, chats: Sequence[Chat], sampling: Sampling, purpose: Purpose
    ) -> list[list[Completion] | ModelError]: ...


def converse(
    model: LanguageModel,
    chats: Sequence[Chat],
    tools: Sequence[Tools | None],
    sampling: Sampling,
    purpose: Purpose,
) -> list[list[Completion]]:
    """`sampling.n` answers for each chat, in order, as `LanguageModel.generate` gives them; where a
    chat has `tools`, each with its transcript. Raises what `generate` raises."""
    if not any(box is not None for box in tools):
        return model.generate(chats, sampling, purpose)
    talk: _Talk = _Tokens(model) if isinstance(model, TokenModel) else _Texts(model)
    first = talk.begin(chats, sampling, purpose)
    answers = [
        _Answer(place, sampling.row(place * sampling.n + sample), tools[place])
        for place, row in enumerate(first)
        for sample, _ in enumerate(row)
    ]
    newest: Sequence[Completion | None] = [completion for row in first for completion in row]
    live = answers
    for turn in range(1, max(box.max_turns for box in tools if box is not None) + 1):
        for answer, completion in zip(live, newest, strict=True):
            if completion is None:
                answer.overflow()
            else:
                answer.note(completion, talk.syntax)
        live = [answer for answer in live if not answer.done and talk.can_go_on(answer, sampling)]
        if not live:
            break
        newest = talk.go_on(live, _of_turn(sampling, turn, live), purpose)
    done = [answer.completion() for answer in answers]
    return [done[i : i + sampling.n] for i in range(0, len(done), sampling.n)]


def shown(
    model: TokenModel, transcript: Sequence[Mapping[str, Any]], tools: Tools
) -> tuple[list[int], list[int]]:
    """Token ids of an answer as the model would write it, and the mask of its own tokens.

    `transcript` are turns of the assistant, of which `tool_calls` are written behind `content`;
    what the tools say is asked of them now. Raises ModelError for a turn whose calls the model's
    syntax has no room for.
    """
    ids: list[int] = []
    mask: list[int] = []
    turns = [turn for turn in transcript if turn["role"] == "assistant"]
    for number, turn in enumerate(turns):
        calls = turn.get("tool_calls", ())
        own = model.encode_reply(spoken(turn["content"], calls, model.syntax))
        ids, mask = [*ids, *own], [*mask, *[1] * len(own)]
        if number < len(turns) - 1:
            results = [tools.call(call["name"], call["arguments"]) for call in calls]
            more = model.results(results, ids[-1])
            ids, mask = [*ids, *more], [*mask, *[0] * len(more)]
    return ids, mask


def _of_turn(sampling: Sampling, turn: int, live: Sequence[_Answer]) -> Sampling:
    """One answer for each of `live`; another turn has another luck."""
    mixed = hashlib.sha256(f"{sampling.seed}/turn {turn}".encode()).digest()
    seed, draws = int.from_bytes(mixed[:8], "big"), tuple(answer.draw for answer in live)
    return replace(sampling, seed=seed, n=1, first_row=0, draws=draws)


@dataclass
class _Answer:
    """An answer in the making: turns so far, and its tokens. `said` are the results to be told."""

    place: int
    draw: int
    tools: Tools | None
    turns: list[Completion] = field(default_factory=list)
    transcript: list[Turn] = field(default_factory=list)
    said: list[Turn] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    mask: list[int] = field(default_factory=list)
    finish: FinishReason = "stop"
    done: bool = False

    @property
    def written(self) -> int:
        return sum(turn.completion_tokens for turn in self.turns)

    def note(self, turn: Completion, syntax: Syntax) -> None:
        """The model's newest turn; the tools it calls are called."""
        self.turns.append(turn)
        self.token_ids += turn.token_ids
        self.logprobs += turn.logprobs
        self.mask += turn.own
        message: Turn = {"role": "assistant", "content": turn.text}
        self.transcript.append(message)
        self.finish, self.done = turn.finish_reason, True
        if self.tools is None:
            return
        found = read_calls(turn.text, syntax)
        if found.calls:
            message["tool_calls"] = list(found.calls)
        if found.malformed is not None:
            message["malformed"] = found.malformed
        if not found or turn.finish_reason == "length":
            return
        if len(self.turns) >= self.tools.max_turns:
            self.finish = "turns"
            return
        self.done = False
        self.said = [self.tools.call(call["name"], call["arguments"]) for call in found.calls]
        if found.malformed is not None:
            self.said = [_unreadable(found.malformed)]

    def hear(self, ids: Sequence[int] = ()) -> None:
        """What the tools have said stands in the conversation from now on, as these tokens."""
        self.transcript += self.said
        self.token_ids += ids
        self.logprobs += [0.0] * len(ids)
        self.mask += [0] * len(ids)

    def overflow(self) -> None:
        """What the tools have said had no room, for all it was told."""
        del self.transcript[len(self.transcript) - len(self.said) :]
        self.finish, self.done = "length", True

    def completion(self) -> Completion:
        first, last = self.turns[0], self.turns[-1]
        counted = None if last.counted_tokens is None else self.written
        return Completion(
            last.text,
            tuple(self.token_ids),
            tuple(self.logprobs),
            self.finish,
            first.prompt_tokens,
            counted,
            first.first,
            transcript=() if self.tools is None else tuple(self.transcript),
            mask=tuple(self.mask) if 0 in self.mask else (),
        )


def _unreadable(why: str) -> Turn:
    content = f"error: the call cannot be read: {why}"
    return {"role": "tool", "name": "", "content": content, "error": "malformed_call"}


class _Talk(Protocol):
    """How a kind of model is spoken to."""

    @property
    def syntax(self) -> Syntax: ...

    def begin(
        self, chats: Sequence[Chat], sampling: Sampling, purpose: Purpose
    ) -> list[list[Completion]]: ...

    def can_go_on(self, answer: _Answer, sampling: Sampling) -> bool:
        """Whether there is room for another turn; then `answer` has heard its results."""
        ...

    def go_on(
        self, live: Sequence[_Answer], sampling: Sampling, purpose: Purpose
    ) -> Sequence[Completion | None]:
        """The next turn of each; None where it turns out that there was no room."""
        ...


class _Tokens:
    """From the ids it has seen."""

    def __init__(self, model: TokenModel):
        self.model = model
        self.syntax: Syntax = model.syntax
        self.prompts: list[list[int]] = []

    def begin(
        self, chats: Sequence[Chat], sampling: Sampling, purpose: Purpose
    ) -> list[list[Completion]]:
        self.prompts = [self.model.encode(chat) for chat in chats]
        return self.model.complete(self.prompts, sampling, purpose)

    def can_go_on(self, answer: _Answer, sampling: Sampling) -> bool:
        ids = self.model.results(answer.said, answer.token_ids[-1])
        if self._room(answer, sampling, len(ids)) < 1:
            answer.finish, answer.done = "length", True
            return False
        answer.hear(ids)
        return True

    def go_on(
        self, live: Sequence[_Answer], sampling: Sampling, purpose: Purpose
    ) -> list[Completion]:
        prompts = [[*self.prompts[answer.place], *answer.token_ids] for answer in live]
        limits = tuple(self._room(answer, sampling, 0) for answer in live)
        unread = tuple(len(answer.mask) - _last(answer.mask) for answer in live)
        longest = replace(sampling, max_tokens=max(limits))
        rows = self.model.complete(prompts, longest, purpose, Further(limits, unread))
        return [row[0] for row in rows]

    def _room(self, answer: _Answer, sampling: Sampling, more: int) -> int:
        left, window = sampling.max_tokens - answer.written, self.model.window
        if window is None:
            return left
        return min(left, window - len(self.prompts[answer.place]) - len(answer.token_ids) - more)


def _last(mask: Sequence[int]) -> int:
    """How many tokens there are up to the last of the model's own."""
    return max((place + 1 for place, own in enumerate(mask) if own), default=0)


class _Texts:
    """By sending the whole conversation again; tokens are those of the model's own turns."""

    syntax: Syntax = "hermes"

    def __init__(self, model: LanguageModel):
        self.model = model
        self.chats: list[list[dict[str, str]]] = []

    def begin(
        self, chats: Sequence[Chat], sampling: Sampling, purpose: Purpose
    ) -> list[list[Completion]]:
        self.chats = [as_text(chat) for chat in chats]
        return self.model.generate(self.chats, sampling, purpose)

    def can_go_on(self, answer: _Answer, sampling: Sampling) -> bool:
        if answer.written >= sampling.max_tokens:
            answer.finish, answer.done = "length", True
            return False
        answer.hear()
        return True

    def go_on(
        self, live: Sequence[_Answer], sampling: Sampling, purpose: Purpose
    ) -> Sequence[Completion | None]:
        found: dict[int, Completion | None] = {}
        lefts = [sampling.max_tokens - answer.written for answer in live]
        for left in dict.fromkeys(lefts):  # who may write equally much goes together
            places = [i for i, other in enumerate(lefts) if other == left]
            chats = [self._chat(live[i]) for i in places]
            draws = tuple(sampling.draws[i] for i in places)
            asked = replace(sampling, max_tokens=left, draws=draws)
            found |= zip(places, self._ask(chats, asked, purpose), strict=True)
        return [found[i] for i in range(len(live))]

    def _ask(
        self, chats: Sequence[Chat], sampling: Sampling, purpose: Purpose
    ) -> list[Completion | None]:
        """None for a chat that is too long for the model, which only the other end knows."""
        if not isinstance(self.model, AsksEach):
            return [row[0] for row in self.model.generate(chats, sampling, purpose)]
        found: list[Completion | None] = []
        for row in self.model.generate_each(chats, sampling, purpose):
            if isinstance(row, ModelError) and not isinstance(row, PromptTooLong):
                raise row
            found.append(None if isinstance(row, ModelError) else row[0])
        return found

    def _chat(self, answer: _Answer) -> list[dict[str, str]]:
        chat = [*self.chats[answer.place]]
        results: list[Turn] = []
        for message in [*answer.transcript, {"role": "assistant", "content": ""}]:
            if message["role"] == "tool":
                results.append(message)
                continue
            if results:
                chat.append({"role": "user", "content": told(results)})
                results = []
            chat.append({"role": "assistant", "content": message["content"]})
        return chat[:-1]
