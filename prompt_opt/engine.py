"""DSPy asks one question at a time from many threads; a local model wants batches. This joins them.

One worker thread merges what DSPy's threads ask into batches, whoever answers: the model under
optimization, or the one that writes proposals (`Speaker`, prompt_opt/speaker.py). Which questions
meet is chance, and a batch's shape moves logits in the last bits, so whoever knows its questions
beforehand hands them over with `Engine.ask`: those batches follow from their order. A sampled
question brings its own random numbers, made from the question itself, so that any may share a call.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import dspy

from lm.ledger import BudgetExhausted, Caps, Purpose, Usage
from lm.turns import converse
from lm.types import Completion, LanguageModel, PromptTooLong, Sampling
from prompt_opt.acting import ToolsOf, no_tools
from prompt_opt.answers import Answer, AnswerBook, difference
from prompt_opt.budget import Budget
from prompt_opt.speaker import Question, Speaker
from tasks.types import Message as ChatMessage

IDLE_SECONDS = 0.02  # a batch is closed when nobody asked for this long
MAX_BATCH = 64


class ModelStopped(BaseException):
    """The model raised `cause`. A `BaseException`: DSPy turns ordinary exceptions into score 0."""

    def __init__(self, cause: BaseException):
        super().__init__(f"{type(cause).__name__}: {cause}")
        self.cause = cause


Batch = list[Question]


class Engine:
    """Serves `model` to DSPy; use as a context manager, inside it `engine.lm`.

    Answers are kept in `folder`/answers.jsonl under model fingerprint, messages, sampling, and,
    for a sampled one, rollout id and place among the n of its call; none is asked for twice, also
    after a kill. When `caps` are reached over all restarts, `BudgetExhausted` is raised in every
    thread that asks for something new; `ask(..., last=True)` still has what `budget.hold` kept
    back. Any other failure of the model leaves the `with` block as it was raised.
    """

    def __init__(
        self,
        model: LanguageModel,
        sampling: Sampling,
        folder: Path,
        *,
        seed: int = 0,
        purpose: Purpose = "metric",
        caps: Caps | None = None,
        max_batch: int = MAX_BATCH,
        tools: ToolsOf = no_tools,
    ):
        self.ledger, self._seed, self._max_batch = model.ledger, seed, max_batch
        self._tools_of = tools
        self.student = self.speaker(model, sampling, purpose)
        self._book = AnswerBook(folder / "answers.jsonl", self.ledger)
        self.budget = Budget(caps or Caps(), self.ledger, self._book)
        self._lock = threading.Lock()
        self._spent: BudgetExhausted | None = None
        self._broken: BaseException | None = None
        self._last: set[str] = set()  # keys that may be paid from what is held back
        self._futures: dict[str, Future[Answer]] = {}
        # one question of one thread, a batch that is asked as it is, or None: the end
        self._queue: queue.Queue[Question | Batch | None] = queue.Queue()
        self._worker = threading.Thread(target=self._work, name="prompt_opt engine", daemon=True)

    def speaker(self, model: LanguageModel, sampling: Sampling, purpose: Purpose) -> Speaker:
        """Another model, or the same in another role. It must count into the same ledger."""
        return Speaker(self, model, sampling, purpose, self._seed)

    @property
    def lm(self) -> dspy.LM:
        """The model as DSPy's LM."""
        return self.student.lm

    @property
    def used(self) -> int:
        """Different questions put since this engine was opened, answered from disk or not."""
        return len(self._futures)

    @property
    def spent(self) -> str | None:
        """Which cap was reached, None while none was."""
        return None if self._spent is None else str(self._spent)

    def __enter__(self) -> Engine:
        self._worker.start()
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._queue.put(None)
        self._worker.join()
        self._break(RuntimeError("the engine is closed"))
        self._book.close()
        if isinstance(error, ModelStopped):
            raise error.cause

    def reopen(self) -> None:
        """Let new questions in again after the budget was spent: less is held back now."""
        with self._lock:
            self._spent = None

    def ask(self, chats: Sequence[list[ChatMessage]], *, last: bool = False) -> list[Answer]:
        """The student's answers with the engine's own sampling; see `answers`."""
        return self.answers([self.student.question(chat) for chat in chats], last=last)

    def answers(self, questions: Sequence[Question], *, last: bool = False) -> list[Answer]:
        """The answers, generated `max_batch` after `max_batch` as far as they are not known.

        These batches never mix with what other threads ask: the same questions after the same
        history make the same calls, also when a kill came in between.
        """
        found: list[Answer] = []
        for start in range(0, len(questions), self._max_batch):
            futures = self._submit_batch(questions[start : start + self._max_batch], last)
            found += [future.result() for future in futures]
        return found

    def submit(self, question: Question) -> Future[Answer]:
        """The answer to come. Never cancel it: others may wait for the same one."""
        with self._lock:
            if self._register(question):
                self._queue.put(question)
            return self._futures[question.key]

    def _submit_batch(self, questions: Sequence[Question], last: bool) -> list[Future[Answer]]:
        with self._lock:
            if last:
                self._last |= {question.key for question in questions}
            unknown = [question for question in questions if self._register(question)]
            if unknown:
                self._queue.put(unknown)
            return [self._futures[question.key] for question in questions]

    def known(self, question: Question) -> Answer | None:
        """The answer, where there is one."""
        with self._lock:
            future = self._futures.get(question.key)
        answered = future is not None and future.done() and future.exception() is None
        return future.result() if future is not None and answered else None

    def _register(self, question: Question) -> bool:
        """Whether the question is new to this process. Call it with the lock held."""
        if self._broken is not None:
            raise self._broken
        if question.key in self._futures:
            return False
        if self._spent is not None and question.key not in self._last:
            raise self._spent
        future = self._futures[question.key] = Future[Answer]()
        future.set_running_or_notify_cancel()  # from here on cancel() does nothing
        return True

    def _work(self) -> None:
        try:
            for batch in self._batches():
                batch.sort(key=lambda q: (*q.call(), repr(q.chat), q.draw))
                for _, group in groupby(batch, key=Question.call):
                    self._answer(list(group))
        except BaseException as error:  # whatever it is, those who wait must hear of it
            self._break(error)

    def _batches(self) -> Iterator[Batch]:
        """Batches as `ask` made them, and single questions joined until the queue is idle."""
        joined: Batch = []
        while (item := self._next(IDLE_SECONDS if joined else None)) is not None:
            if isinstance(item, Question):
                joined.append(item)
            if joined and (isinstance(item, list) or len(joined) == self._max_batch):
                yield joined
                joined = []
            if item and isinstance(item, list):
                yield item

    def _next(self, seconds: float | None) -> Question | Batch | None:
        """What comes next in the queue; an empty batch when nothing does for so long."""
        try:
            return self._queue.get(timeout=seconds)
        except queue.Empty:
            return []

    def _answer(self, group: Batch) -> None:
        """All of `group` that the budget has room for, from disk where it was asked before."""
        group = [q for q in group if q.key in self._futures]  # else its asker was sent away
        try:
            room = self.budget.room(last=all(q.key in self._last for q in group))
            self._draw([q for q in group[:room] if q.key not in self._book.answers])
            for question in group[:room]:
                self._give(question)
            if any(not self._futures[q.key].done() for q in group):
                raise BudgetExhausted(f"budget of {self._cap()} rollouts used up")
        except BudgetExhausted as error:
            self._end(error)

    def _give(self, question: Question) -> None:
        answer = self._book.answers.get(question.key)
        if answer is not None:
            self.budget.charge(question.key)
            self._futures[question.key].set_result(answer)

    def _cap(self) -> int | None:
        caps = (self.budget.caps.rollouts, self.ledger.caps.rollouts)
        return min((cap for cap in caps if cap is not None), default=None)

    def _draw(self, group: Batch) -> None:
        unpaid = self.budget.unpaid()
        if group[:unpaid]:
            self._generate(group[:unpaid])

    def _generate(self, group: Batch) -> None:
        """A prompt that is too long is found by halves. To the student's it is an empty answer,
        cut; who has asked a proposer hears of it. Any other failure ends the stage."""
        speaker, sampling = group[0].speaker, group[0].sampling
        if sampling.temperature > 0:
            sampling = replace(sampling, draws=tuple(q.draw for q in group))
        purpose = speaker.purpose
        before = replace(self._usage(purpose))
        try:
            chats = [question.chat for question in group]
            tools = [self._tools_of(chat) for chat in chats]
            rows = converse(speaker.model, chats, tools, sampling, purpose)
        except PromptTooLong as error:
            if len(group) > 1:
                half = len(group) // 2
                self._generate(group[:half])
                self._generate(group[half:])
            elif speaker is self.student:
                self._book.write(purpose, Usage(), {group[0].key: Answer("", "length", 0, 0)})
            else:
                self._futures[group[0].key].set_exception(error)
            return
        answers = {q.key: _answer_of(row[0]) for q, row in zip(group, rows, strict=True)}
        self._book.write(purpose, difference(self._usage(purpose), before), answers)

    def _usage(self, purpose: Purpose) -> Usage:
        return self.ledger.usage.get(purpose, Usage())

    def _end(self, error: BudgetExhausted) -> None:
        """The budget is spent: nothing new is asked from here on, except what is `last`."""
        with self._lock:
            self._spent = self._spent or error
            open_ = [key for key, future in self._futures.items() if not future.done()]
            waiting = [self._futures.pop(key) for key in open_]
        for future in waiting:
            future.set_exception(error)

    def _break(self, error: BaseException) -> None:
        with self._lock:
            if self._broken is None:
                self._broken = ModelStopped(error)
            waiting = [future for future in self._futures.values() if not future.done()]
        for future in waiting:
            future.set_exception(self._broken)


def _answer_of(completion: Completion) -> Answer:
    return Answer(
        completion.text,
        completion.finish_reason,
        completion.prompt_tokens,
        completion.completion_tokens,
        completion.transcript,
    )
