"""A process of its own for scoring code that may hang, take all memory or end the process.

Scorers of other libraries evaluate what a model wrote (sympy for one), and their own timeouts need
signals, which only a main thread has. A `Worker` asks a function in a child process, and kills it
when it takes too long; any thread may ask, and threads take turns. This is about time and memory:
the child may read and write what the parent may, so text must never be *run* in it (code goes
into `tasks.sandbox`).
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import threading
import weakref
from importlib import import_module
from time import monotonic
from typing import IO, Any, cast

START_SECONDS = 120.0  # imports on a busy machine
MEMORY = 4 << 30  # bytes of address space
_CODE = "import sys; from tasks.worker import serve; serve(sys.argv[1])"


class WorkerFailed(Exception):
    """The child gave no answer: it took too long (`timed_out`), or it ended."""

    def __init__(self, timed_out: bool):
        super().__init__("took too long" if timed_out else "ended")
        self.timed_out = timed_out


class Worker:
    """Asks `target`, "module:function": JSON in, JSON out. Starts at the first question."""

    def __init__(self, target: str):
        self._target = target
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0  # a process that was forked off must not share the pipes
        _all.add(self)

    def ask(self, question: Any, seconds: float) -> Any:
        """What the function returns. Raises WorkerFailed when there is no answer in `seconds`."""
        line = json.dumps([question, seconds]).encode() + b"\n"
        with self._lock:
            process = self._running()
            try:
                cast(IO[bytes], process.stdin).write(line)
                reply = _read_line(process, seconds)
            except OSError:  # it ended over the last question
                reply = b""
            if not reply:
                timed_out = process.poll() is None
                self.stop()
                raise WorkerFailed(timed_out)
        return json.loads(reply)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process and self._owner == os.getpid():
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                cast(IO[bytes], pipe).close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process and (self._owner != os.getpid() or self._process.poll() is not None):
            self.stop()
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _CODE, self._target],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
            self._owner = os.getpid()
            _read_line(self._process, START_SECONDS)
        return self._process


_all: weakref.WeakSet[Worker] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    for worker in list(_all):
        worker.stop()


def _read_line(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    """One line; b"" when there is none in time or the process ended."""
    pipe, got, end = cast(IO[bytes], process.stdout), b"", monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while not got.endswith(b"\n"):
            if not selector.select(max(0.0, end - monotonic())):
                return b""
            piece = os.read(pipe.fileno(), 65536)
            if not piece:
                process.wait()
                return b""
            got += piece
    return got


def serve(target: str) -> None:
    """The child: a line in, a line out, until its input ends.

    An answer that the function raises instead of giving comes back as {"raised": "ValueError"}.
    """
    import resource

    logging.disable()
    out, sys.stdout = sys.stdout, sys.stderr  # what the function prints is no answer
    module, _, name = target.partition(":")
    answer = getattr(import_module(module), name)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        question, seconds = json.loads(line)
        # CPU time, and fatal: a child whose parent was killed must not go on for ever
        signal.setitimer(signal.ITIMER_PROF, 2 * seconds + 1)
        try:
            reply = json.dumps(answer(question))
        except Exception as error:
            reply = json.dumps({"raised": type(error).__name__})
        print(reply, file=out, flush=True)
        signal.setitimer(signal.ITIMER_PROF, 0)
