"""Whether two mathematical answers are equal, by math-verify, whatever a reply makes it compute.

sympy may run for hours or take all memory on one expression, and math-verify's own timeout needs
signals, which only a main thread has. So it works in a process of its own, which is killed when it
takes too long; threads take turns. Run as a script, this file is that process.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import selectors
import subprocess
import sys
import threading
from dataclasses import dataclass
from importlib.util import find_spec
from typing import IO, Any, Literal, cast

SECONDS = 8.0  # for one answer; math-verify's own limits, per step, come first
STEP_SECONDS = 2
START_SECONDS = 60.0
MEMORY = 4 << 30  # bytes of address space
READ_CHARS = 20_000  # of a reply, from its end

Verdict = Literal["right", "wrong", "unread", "timeout"]


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    owner: int  # a process that was forked off must not share the pipes


_lock = threading.Lock()
_worker: _Worker | None = None


def is_installed() -> bool:
    return find_spec("math_verify") is not None


def same_answer(gold: str, text: str) -> tuple[Verdict, str]:
    """Whether the last answer in `text` equals `gold` (LaTeX), and what was read in `text`.

    "unread" when math-verify finds no answer in it. Safe from any thread; takes at most `SECONDS`
    and the start of a process (about 2 s) when there is none.
    """
    line = json.dumps({"gold": gold, "text": text[-READ_CHARS:]}).encode() + b"\n"
    with _lock:
        worker = _running()
        try:
            cast(IO[bytes], worker.process.stdin).write(line)
            reply = _read_line(worker.process, SECONDS)
        except OSError:  # it died over the last answer
            reply = b""
        if not reply:
            timed_out = worker.process.poll() is None
            _stop()
            return ("timeout" if timed_out else "unread"), ""
    verdict, shown = json.loads(reply)
    return verdict, shown


def last_boxed(text: str) -> str | None:
    """What the last \\boxed{...} holds, braces inside it balanced; None without one."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth = 0
    for place in range(start + 6, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if not depth:
            return text[start + 7 : place]
    return None


def _running() -> _Worker:
    global _worker
    if _worker and _worker.owner != os.getpid():
        _worker = None  # the parent's
    if _worker and _worker.process.poll() is not None:
        _stop()
    if _worker is None:
        # -P: the folder of this file is no place to import from
        process = subprocess.Popen(
            [sys.executable, "-P", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        _worker = _Worker(process, os.getpid())
        _read_line(process, START_SECONDS)
    return _worker


def _read_line(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    """One line, b"" when there is none in time or the process ended."""
    from time import monotonic

    pipe, got, end = cast(IO[bytes], process.stdout), b"", monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while not got.endswith(b"\n"):
            if not selector.select(max(0.0, end - monotonic())):
                return b""
            piece = os.read(pipe.fileno(), 65536)
            if not piece:
                process.wait(seconds)
                return b""
            got += piece
    return got


@atexit.register
def _stop() -> None:
    global _worker
    if _worker and _worker.owner == os.getpid():
        _worker.process.kill()
        _worker.process.wait()
        for pipe in (_worker.process.stdin, _worker.process.stdout):
            if pipe:
                pipe.close()
    _worker = None


def _compare(gold: str, text: str) -> tuple[Verdict, str]:
    """In the worker: math-verify's judgement, as its README has it."""
    import math_verify

    golds = math_verify.parse(f"\\boxed{{{gold}}}", parsing_timeout=STEP_SECONDS)
    got = math_verify.parse(text, parsing_timeout=STEP_SECONDS)
    if not got:
        return "unread", ""
    right = math_verify.verify(golds, got, timeout_seconds=STEP_SECONDS)
    shown = got[-1] if isinstance(got[-1], str) else str(got[0])
    return ("right" if right else "wrong"), shown[:200]


def _serve() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    logging.disable()
    import math_verify  # noqa: F401  a slow import, before the clock runs

    out, sys.stdout = sys.stdout, sys.stderr
    _say(out, "ready")
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            _say(out, _compare(asked["gold"], asked["text"]))
        except (Exception, RecursionError, MemoryError):
            _say(out, ("unread", ""))


def _say(out: Any, what: object) -> None:
    print(json.dumps(what), file=out, flush=True)


if __name__ == "__main__":
    _serve()
