"""Programs that run side by side and meet at every question: full batches, the same in every run.

What a program of several steps asks next depends on the answers, so its questions cannot be handed
over beforehand. But when every program of a group waits for an answer, what they wait for is one
batch, in the order of the programs: chance, and a kill in between, play no part in it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from lm.ledger import BudgetExhausted
from prompt_opt.answers import Answer

if TYPE_CHECKING:
    from prompt_opt.speaker import Question

Result = TypeVar("Result")
SEATS = 64  # programs at a time: as many as fill the engine's batch


class Answering(Protocol):
    def answers(self, questions: Sequence[Question], *, last: bool = False) -> list[Answer]: ...

    def known(self, question: Question) -> Answer | None: ...


_seat: ContextVar[tuple[_Meeting, int] | None] = ContextVar("seat", default=None)


def together(
    engine: Answering, runs: Sequence[Callable[[], Result]], *, last: bool = False
) -> list[Result]:
    """What each of `runs` returns; they ask `engine` `SEATS` at a time. Raises what the first of
    them raises; `last` is as in `Engine.answers`."""
    found = settled(engine, runs, last=last)
    raise_first(found)
    return [future.result() for future in found]


def settled(
    engine: Answering, runs: Sequence[Callable[[], Result]], *, last: bool = False
) -> list[Future[Result]]:
    """As `together`, with what each has come to. Behind a group in which one raised none is run."""
    found: list[Future[Result]] = []
    for start in range(0, len(runs), SEATS):
        group = runs[start : start + SEATS]
        found += _Meeting(engine, len(group), last).hold(group)
        if any(future.exception() is not None for future in found):
            break
    return found


def raise_first(found: Sequence[Future[Any]]) -> None:
    """Raise what the first of them has raised, if any has."""
    for future in found:
        future.result()


def asked_together(question: Question) -> Answer | None:
    """The answer, where the thread runs in a group; None where it must ask for itself."""
    seat = _seat.get()
    return None if seat is None else seat[0].ask(seat[1], question)


class _Meeting:
    def __init__(self, engine: Answering, size: int, last: bool):
        self._engine, self._running, self._last = engine, size, last
        self._waiting: dict[int, tuple[Question, Future[Answer]]] = {}
        self._lock = threading.Lock()

    def hold(self, runs: Sequence[Callable[[], Any]]) -> list[Future[Any]]:
        futures: list[Future[Any]] = [Future() for _ in runs]
        for seat, (run, future) in enumerate(zip(runs, futures, strict=True)):
            args = (self._sit, seat, run, future)
            # a daemon: after Ctrl-C nobody waits for a program that never ends
            threading.Thread(target=copy_context().run, args=args, daemon=True).start()
        wait(futures)
        return futures

    def _sit(self, seat: int, run: Callable[[], Any], future: Future[Any]) -> None:
        _seat.set((self, seat))
        try:
            outcome, error = run(), None
        except BaseException as raised:  # BudgetExhausted among them
            outcome, error = None, raised
        self._serve(seat, None)
        future.set_result(outcome) if error is None else future.set_exception(error)

    def ask(self, seat: int, question: Question) -> Answer | None:
        """None for a program that asks from two threads at once: only the first one meets."""
        future: Future[Answer] = Future()
        with self._lock:
            if seat in self._waiting:
                return None
        self._serve(seat, (question, future))
        return future.result()

    def _serve(self, seat: int, asked: tuple[Question, Future[Answer]] | None) -> None:
        """Note that a program waits, or (None) has ended; the last one has the batch answered."""
        with self._lock:
            if asked is None:
                self._running -= 1
            else:
                self._waiting[seat] = asked
            if len(self._waiting) < self._running or not self._waiting:
                return
            batch = [self._waiting[seat] for seat in sorted(self._waiting)]
            self._waiting = {}
        questions = [question for question, _ in batch]
        answers, error = self._answered(questions)
        for (_, future), answer in zip(batch, answers, strict=True):
            future.set_exception(error) if answer is None else future.set_result(answer)

    def _answered(
        self, questions: Sequence[Question]
    ) -> tuple[Sequence[Answer | None], BaseException | None]:
        """At a cut, those whose answer is paid for go on."""
        try:
            return self._engine.answers(questions, last=self._last), None
        except BudgetExhausted as error:
            return [self._engine.known(question) for question in questions], error
        except BaseException as error:
            return [None] * len(questions), error
