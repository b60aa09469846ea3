"""A model in one role, as DSPy sees it: the model under optimization, or the one that proposes.

The only file that knows DSPy's custom-engine contract (`complete(Request) -> Response`, see
`dspy.clients.engines.base`). What a request does not say, the LM call's rollout id and which of
its n answers is next, is carried beside it, so that a sampled question has a key of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace
from itertools import count
from typing import Any, Protocol

import dspy
from dspy.lm15 import Message, Request, Response
from dspy.lm15 import Usage as ResponseUsage

from lm.ledger import Purpose
from lm.types import LanguageModel, Sampling
from prompt_opt.acting import offer, received, response_parts
from prompt_opt.answers import Answer
from prompt_opt.together import asked_together
from tasks.types import Message as ChatMessage

_call: ContextVar[tuple[int | None, Iterator[int]] | None] = ContextVar("call", default=None)
_heard: ContextVar[list[Answer] | None] = ContextVar("heard", default=None)


@contextmanager
def listening() -> Iterator[list[Answer]]:
    """The answers that this thread's program gets inside the block, in order."""
    heard: list[Answer] = []
    token = _heard.set(heard)
    try:
        yield heard
    finally:
        _heard.reset(token)


@dataclass(frozen=True)
class Question:
    """`key` names it among all questions of a stage, `draw` a sampled one's random numbers."""

    speaker: Speaker
    chat: list[ChatMessage]
    sampling: Sampling
    key: str
    draw: int = 0

    def call(self) -> tuple[str, str, str]:
        """Equal for questions that one generate call may answer; also their order."""
        return self.speaker.purpose, self.speaker.fingerprint, repr(self.sampling)


class Answering(Protocol):
    """What a speaker needs of an engine."""

    def submit(self, question: Question) -> Future[Answer]: ...


class Speaker:
    """`model`, asked with `sampling` unless a request says otherwise, counted as `purpose`.

    A request's own temperature, max_tokens, top_p, top_k and stop replace those of `sampling`;
    `seed` moves every sampled draw.
    """

    def __init__(
        self,
        engine: Answering,
        model: LanguageModel,
        sampling: Sampling,
        purpose: Purpose,
        seed: int = 0,
    ):
        self.model, self.sampling = model, sampling
        self.purpose: Purpose = purpose
        self.fingerprint = model.fingerprint()
        self._engine, self._seed = engine, seed
        self.plain = self.question([]).sampling  # of what is asked as the evaluator asks

    def __deepcopy__(self, _: dict[int, Any]) -> Speaker:
        """Programs are copied all the time, and their LMs with them: the model stays one."""
        return self

    @property
    def lm(self) -> dspy.LM:
        """The model as DSPy's LM. DSPy's own cache is off: it knows no weights and no stages."""
        return _LocalLM(
            f"local/{self.fingerprint}",
            temperature=self.sampling.temperature,
            max_tokens=self.sampling.max_tokens,
            cache=False,
            num_retries=0,
            engine=self,
            async_engine=_AsyncSpeaker(self),
        )

    def complete(self, request: Request) -> Response:
        """DSPy's contract. Blocks until the answer is there."""
        question = self._next_question(request)
        answer = asked_together(question)
        if answer is None:
            answer = self._engine.submit(question).result()
        return self.response(answer)

    def submit(self, request: Request) -> Future[Answer]:
        return self._engine.submit(self._next_question(request))

    def _next_question(self, request: Request) -> Question:
        rollout, sample = _call.get() or (None, count())
        return self.question_of(request, rollout, next(sample))

    def question_of(
        self, request: Request, rollout: int | None = None, sample: int = 0
    ) -> Question:
        """What `request` asks, in an LM call with this rollout id, for the answer numbered so."""
        sampling = _sampling_of(request, self.sampling)
        return self.question(chat_of(request), sampling, (rollout, sample))

    def question(
        self,
        chat: list[ChatMessage],
        sampling: Sampling | None = None,
        draw: tuple[int | None, int] = (None, 0),
    ) -> Question:
        sampling = sampling or self.sampling
        greedy = sampling.temperature == 0
        sampling = replace(sampling, seed=0 if greedy else self._seed, n=1)
        asked = [self.fingerprint, chat, asdict(sampling), None if greedy else draw]
        key = hashlib.sha256(json.dumps(asked).encode()).hexdigest()
        return Question(self, chat, sampling, key, 0 if greedy else int(key[:15], 16))

    def response(self, answer: Answer) -> Response:
        if (heard := _heard.get()) is not None:
            heard.append(answer)
        return Response(
            id=None,
            model=f"local/{self.fingerprint}",
            message=Message.assistant(answer.text),
            **response_parts(answer),
            usage=ResponseUsage(
                input_tokens=answer.prompt_tokens,
                output_tokens=answer.completion_tokens,
                total_tokens=answer.prompt_tokens + answer.completion_tokens,
            ),
        )


class _AsyncSpeaker:
    def __init__(self, speaker: Speaker):
        self._speaker = speaker

    async def complete(self, request: Request) -> Response:
        answer = await asyncio.wrap_future(self._speaker.submit(request))
        return self._speaker.response(answer)


class _LocalLM(dspy.LM):
    """Carries on to the engine what DSPy keeps to itself: `rollout_id`, and the place among n."""

    def __call__(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        token = _call.set((kwargs.get("rollout_id", self.kwargs.get("rollout_id")), count()))
        try:
            return super().__call__(prompt, messages=messages, **kwargs)
        finally:
            _call.reset(token)

    async def acall(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        token = _call.set((kwargs.get("rollout_id", self.kwargs.get("rollout_id")), count()))
        try:
            return await super().acall(prompt, messages=messages, **kwargs)
        finally:
            _call.reset(token)


def _is_news(record: logging.LogRecord) -> bool:
    """Not that an answer of ours was cut: that is data, and DSPy warns of each, from any thread."""
    return _call.get() is None or record.levelno > logging.WARNING


logging.getLogger("dspy.clients.lm").addFilter(_is_news)


def _sampling_of(request: Request, default: Sampling) -> Sampling:
    names = ("temperature", "max_tokens", "top_p", "top_k", "stop")
    asked = {name: getattr(request.config, name) for name in names}
    return replace(
        default, **{name: value for name, value in asked.items() if value not in (None, ())}
    )


def chat_of(request: Request) -> list[ChatMessage]:
    system = request.system
    if system is not None and not isinstance(system, str):
        system = "".join(getattr(part, "text", "") for part in system)
    chat = offer(request.tools)
    chat += [] if system is None else [{"role": "system", "content": system}]
    return [*chat, *map(received, request.messages)]
