"""DSPy asks one question at a time from many threads; a local model wants batches. This joins them.

`Engine` follows DSPy's custom-engine contract (`complete(Request) -> Response`, see
`dspy.clients.engines.base`). One worker thread merges what DSPy's threads ask into batches.
Which of them meet is chance, and a batch's shape moves logits in the last bits, so whoever knows
its questions beforehand hands them over with `Engine.ask`: those batches follow from their order.
A sampled question is drawn with a seed made from the question itself, which means that it is
generated in a call of its own. Greedy ones share calls.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace
from itertools import count, groupby
from pathlib import Path
from typing import Any

import dspy
from dspy.lm15 import Message, Request, Response
from dspy.lm15 import Usage as ResponseUsage

from lm.ledger import BudgetExhausted, Purpose, Usage
from lm.types import Completion, LanguageModel, Sampling
from prompt_opt.answers import Answer, AnswerBook, difference
from tasks.types import Message as ChatMessage

IDLE_SECONDS = 0.02  # a batch is closed when nobody asked for this long
MAX_BATCH = 64
# What a Request does not say: the LM call's rollout id, and which of its n answers is next.
_call: ContextVar[tuple[int | None, Iterator[int]] | None] = ContextVar("call", default=None)


class ModelStopped(BaseException):
    """The model raised `cause`. A `BaseException`: DSPy turns ordinary exceptions into score 0."""

    def __init__(self, cause: BaseException):
        super().__init__(f"{type(cause).__name__}: {cause}")
        self.cause = cause


@dataclass(frozen=True)
class _Question:
    chat: list[ChatMessage]
    sampling: Sampling
    key: str


class Engine:
    """Serves `model` to DSPy; use as a context manager, inside it `engine.lm`.

    Answers are kept in `folder`/answers.jsonl under model fingerprint, messages, sampling, and,
    for a sampled one, rollout id and place among the n of its call; none is asked for twice. A
    request's own temperature, max_tokens, top_p, top_k and stop replace those of `sampling`;
    `seed` moves every sampled draw. At most `rollouts` answers are asked for over all restarts,
    then `BudgetExhausted` is raised in every thread that asks. Any other failure of the model
    leaves the `with` block as it was raised.
    """

    def __init__(
        self,
        model: LanguageModel,
        sampling: Sampling,
        folder: Path,
        *,
        seed: int = 0,
        purpose: Purpose = "metric",
        rollouts: int | None = None,
        max_batch: int = MAX_BATCH,
    ):
        self._model, self._sampling, self._seed = model, sampling, seed
        self._purpose: Purpose = purpose
        self._cap, self._max_batch = rollouts, max_batch
        self._fingerprint = model.fingerprint()
        self._book = AnswerBook(folder / "answers.jsonl", model.ledger)
        self._lock = threading.Lock()
        self._failure: BaseException | None = None
        self._futures: dict[str, Future[Answer]] = {}
        # one question of one thread, a batch that is asked as it is, or None: the end
        self._queue: queue.Queue[_Question | list[_Question] | None] = queue.Queue()
        self._worker = threading.Thread(target=self._work, name="prompt_opt engine", daemon=True)

    @property
    def lm(self) -> dspy.LM:
        """The model as DSPy's LM. DSPy's own cache is off: it knows no weights and no stages."""
        return _LocalLM(
            f"local/{self._fingerprint}",
            temperature=self._sampling.temperature,
            max_tokens=self._sampling.max_tokens,
            cache=False,
            num_retries=0,
            engine=self,
            async_engine=_AsyncEngine(self),
        )

    @property
    def used(self) -> int:
        """Different questions put since this engine was opened, answered from disk or not."""
        return len(self._futures)

    def __enter__(self) -> Engine:
        self._worker.start()
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._queue.put(None)
        self._worker.join()
        self._fail(RuntimeError("the engine is closed"))
        self._book.close()
        if isinstance(error, ModelStopped):
            raise error.cause

    def complete(self, request: Request) -> Response:
        """DSPy's contract. Blocks until the answer is there."""
        return self._response(self.submit(request).result())

    def ask(self, chats: Sequence[list[ChatMessage]]) -> None:
        """Have these answered with the engine's own sampling, `max_batch` after `max_batch`.

        What is known already is left out, the rest never mixes with what other threads ask: the
        same chats after the same history make the same calls, also when a kill came in between.
        """
        questions = [self._question(chat, self._sampling, (None, 0)) for chat in chats]
        for start in range(0, len(questions), self._max_batch):
            for future in self._submit_batch(questions[start : start + self._max_batch]):
                future.result()

    def submit(self, request: Request) -> Future[Answer]:
        """The answer to come. Never cancel it: others may wait for the same one."""
        sampling = _sampling_of(request, self._sampling)
        rollout, sample = _call.get() or (None, count())
        return self._submit(self._question(_chat_of(request), sampling, (rollout, next(sample))))

    def _question(
        self, chat: list[ChatMessage], sampling: Sampling, draw: tuple[int | None, int]
    ) -> _Question:
        greedy = sampling.temperature == 0
        sampling = replace(sampling, seed=0 if greedy else self._seed, n=1)
        asked = [self._fingerprint, chat, asdict(sampling), None if greedy else draw]
        key = hashlib.sha256(json.dumps(asked).encode()).hexdigest()
        if not greedy:
            sampling = replace(sampling, seed=int(key[:15], 16))
        return _Question(chat, sampling, key)

    def _submit(self, question: _Question) -> Future[Answer]:
        with self._lock:
            if self._register(question):
                self._queue.put(question)
            return self._futures[question.key]

    def _submit_batch(self, questions: Sequence[_Question]) -> list[Future[Answer]]:
        with self._lock:
            if unknown := [question for question in questions if self._register(question)]:
                self._queue.put(unknown)
            return [self._futures[question.key] for question in questions]

    def _register(self, question: _Question) -> bool:
        """Whether the question is new and must be asked. Call it with the lock held."""
        if self._failure is not None:
            raise self._failure
        if question.key in self._futures:
            return False
        future = self._futures[question.key] = Future[Answer]()
        future.set_running_or_notify_cancel()  # from here on cancel() does nothing
        if question.key not in self._book.answers:
            return True
        future.set_result(self._book.answers[question.key])
        return False

    def _work(self) -> None:
        try:
            for batch in self._batches():
                batch.sort(key=lambda question: (repr(question.sampling), repr(question.chat)))
                for sampling, group in groupby(batch, key=lambda question: question.sampling):
                    self._answer(list(group), sampling)
        except BaseException as error:  # whatever it is, those who wait must hear of it
            self._fail(error)

    def _batches(self) -> Iterator[list[_Question]]:
        """Batches as `ask` made them, and single questions joined until the queue is idle."""
        joined: list[_Question] = []
        while (item := self._next(IDLE_SECONDS if joined else None)) is not None:
            if isinstance(item, _Question):
                joined.append(item)
            if joined and (isinstance(item, list) or len(joined) == self._max_batch):
                yield joined
                joined = []
            if item and isinstance(item, list):
                yield item

    def _next(self, seconds: float | None) -> _Question | list[_Question] | None:
        """What comes next in the queue; an empty batch when nothing does for so long."""
        try:
            return self._queue.get(timeout=seconds)
        except queue.Empty:
            return []

    def _answer(self, group: list[_Question], sampling: Sampling) -> None:
        room = self._room()
        if asked := group[:room]:
            before = replace(self._usage())
            rows = self._model.generate([q.chat for q in asked], sampling, self._purpose)
            answers = {q.key: _answer_of(row[0]) for q, row in zip(asked, rows, strict=True)}
            self._book.write(self._purpose, difference(self._usage(), before), answers)
            for key, answer in answers.items():
                self._futures[key].set_result(answer)
        if len(asked) < len(group):
            self._model.ledger.check()
            raise BudgetExhausted(f"budget of {self._cap} rollouts used up ({self._cap})")

    def _room(self) -> int | None:
        """How many answers the caps still allow, None for any number.

        The ledger's own check lets a whole batch pass the cap. What is in a batch is chance, so
        which candidate is the last one within the budget would be chance as well.
        """
        ledger = self._model.ledger
        caps = [(self._cap, len(self._book.answers)), (ledger.caps.rollouts, ledger.rollouts)]
        return min((max(0, cap - asked) for cap, asked in caps if cap is not None), default=None)

    def _usage(self) -> Usage:
        return self._model.ledger.usage.get(self._purpose, Usage())

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            if self._failure is None:
                spent = isinstance(error, BudgetExhausted)
                self._failure = error if spent else ModelStopped(error)
            waiting = [future for future in self._futures.values() if not future.done()]
        for future in waiting:
            future.set_exception(self._failure)

    def _response(self, answer: Answer) -> Response:
        return Response(
            id=None,
            model=f"local/{self._fingerprint}",
            message=Message.assistant(answer.text),
            finish_reason=answer.finish_reason,
            usage=ResponseUsage(
                input_tokens=answer.prompt_tokens,
                output_tokens=answer.completion_tokens,
                total_tokens=answer.prompt_tokens + answer.completion_tokens,
            ),
        )


class _AsyncEngine:
    def __init__(self, engine: Engine):
        self._engine = engine

    async def complete(self, request: Request) -> Response:
        return self._engine._response(await asyncio.wrap_future(self._engine.submit(request)))


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


def _answer_of(completion: Completion) -> Answer:
    tokens = len(completion.token_ids)
    return Answer(completion.text, completion.finish_reason, completion.prompt_tokens, tokens)


def _sampling_of(request: Request, default: Sampling) -> Sampling:
    names = ("temperature", "max_tokens", "top_p", "top_k", "stop")
    asked = {name: getattr(request.config, name) for name in names}
    return replace(
        default, **{name: value for name, value in asked.items() if value not in (None, ())}
    )


def _chat_of(request: Request) -> list[ChatMessage]:
    system = request.system
    if system is not None and not isinstance(system, str):
        system = "".join(getattr(part, "text", "") for part in system)
    chat = [] if system is None else [{"role": "system", "content": system}]
    return [*chat, *({"role": m.role, "content": m.text or ""} for m in request.messages)]
