"""The program as the checker sees it: something that is asked, prints, and ends."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from contextlib import suppress

from keeper import close_but, keep
from wire import receive, send

TYPE_CHECKING = False  # without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any

MOST_REPLY = 1 << 20  # bytes
GRACE = 2.0  # seconds after which the program's keeper is taken for dead
UNREADABLE = "what it returned cannot be read"
RAISABLE = (
    "raised",
    "syntax_error",
    "no_function",
    "exited_early",
    "memory",
    "too_deep",
    "too_many_processes",
    "output_flood",
    "forbidden",
)


class Gone(BaseException):
    """The program is dead, or said what it never should: no further test can be run."""

    def __init__(self, failure: str, detail: str):
        super().__init__(detail)
        self.failure, self.detail = failure, detail


def _as_reply(reply: Any) -> dict[str, Any]:
    """`reply`, if it has one of the two forms of `program.serve`; raises ValueError for any other.

    Whoever writes it is the program itself, so it is never more than a value or an exception of the
    program's own: there is no reply that says how a test went.
    """
    keys = set(reply) if isinstance(reply, dict) else set()
    if keys == {"value"}:
        return reply
    raised = keys == {"failure", "error", "message"} and all(
        isinstance(reply[k], str) for k in keys
    )
    if raised and reply["failure"] in RAISABLE:
        return reply
    raise ValueError


class Program:
    """The jailed process, seen from outside."""

    def __init__(self, job: dict[str, Any]):
        self.limits = job["limits"]
        self.output, self.missing = b"", {}
        self.printing = True
        self.ended: dict[str, Any] | None = None
        self.inner = 0
        inside, self.requests = os.pipe()
        self.replies, answers = os.pipe()
        self.out, out = os.pipe()
        self.status, status = os.pipe()
        self.keeper = os.fork()
        if not self.keeper:
            close_but(inside, answers, out, status)
            keep(job, inside, answers, out, status)
        for end in (inside, answers, out, status):
            os.close(end)
        self.until = time.monotonic() + self.limits["seconds"] + GRACE

    def ask(self, message: Any) -> Any:
        """What the program replies; raises Gone."""
        try:
            send(self.requests, message)
        except BrokenPipeError:
            self._end()
        return self.reply()

    def reply(self) -> Any:
        data = b""
        while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big"):
            if len(data) >= 4 and int.from_bytes(data[:4], "big") > MOST_REPLY:
                raise Gone("output_flood", "what it returned is larger than 1 MB")
            more = self._next_bytes(self.replies)
            if not more:
                self._end()
            data += more
        try:
            return _as_reply(json.loads(data[4:]))
        except Exception:  # whatever it is, the program has caused it
            raise Gone("wrong_result", UNREADABLE) from None

    def _next_bytes(self, wanted: int) -> bytes:
        """The next bytes of one channel, while the others are emptied."""
        while True:
            left = self.until - time.monotonic()
            channels = [self.replies]
            channels += [self.out] * self.printing + [self.status] * (self.ended is None)
            ready, _, _ = select.select(channels, [], [], max(0.0, left))
            if self.out in ready:
                self._hear()
            if self.status in ready:
                self._note()
            if wanted in ready:
                return os.read(wanted, 1 << 16)
            if left <= 0:
                raise self._late()
            if self.ended and not set(ready) - {self.status}:
                return b""

    def _hear(self) -> None:
        printed = os.read(self.out, 1 << 16)
        self.printing = bool(printed)
        self.output += printed
        if len(self.output) > self.limits["output"]:
            raise Gone("output_flood", "it printed more than allowed")

    def _note(self) -> None:
        note = receive(self.status)
        if note is None:
            self.ended = self.ended or {"signal": signal.SIGKILL}
        elif "inner" in note:
            self.inner = note["inner"]
        elif "missing" in note:
            self.missing.update(note["missing"])
        else:
            self.ended = note

    def _end(self) -> None:
        """Say why there is no reply."""
        while self.ended is None and self.until > time.monotonic():
            if select.select([self.status], [], [], 0.1)[0]:
                self._note()
        end = self.ended or {"late": False}
        if "late" in end:
            if end["late"]:
                raise Gone("too_many_processes", "it started more processes than allowed")
            raise self._late()
        if "refused" in end:
            raise Gone("refused", "")
        if "exit" in end:
            raise Gone("exited_early", f"it exited with code {end['exit']} before it answered")
        if end["signal"] == signal.SIGXCPU:  # a quiet machine gets there before the clock does
            raise self._late()
        raise Gone("crashed", f"it was killed by signal {end['signal']}")

    def _late(self) -> Gone:
        seconds, cpu = self.limits["seconds"], self.limits["cpu_seconds"]
        return Gone("timeout", f"no end after {cpu} seconds of CPU time or {seconds:g} in all")

    def kill(self) -> None:
        """End it with all it has started, and wait until nothing of it is left."""
        os.close(self.requests)
        with suppress(OSError):
            while self.ended is None and select.select([self.status], [], [], 0)[0]:
                self._note()
            if self.inner and self.ended is None:
                os.kill(self.inner, signal.SIGKILL)
        if not self.inner:
            os.kill(self.keeper, signal.SIGKILL)
        os.waitpid(self.keeper, 0)
        with suppress(Gone):
            while self.printing and select.select([self.out], [], [], 0)[0]:
                self._hear()
