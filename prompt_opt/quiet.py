"""DSPy's optimizers print and draw bars, and have no switch for it; this is the switch."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

from tqdm import TMonitor, tqdm


class _Bars(weakref.WeakSet[Any]):
    """tqdm's list of open bars, from which one may be missing: every `dspy.Parallel` empties it,
    so that a program which runs one would raise because another does."""

    def remove(self, item: Any) -> None:
        self.discard(item)


def share_bars() -> None:
    """Let programs that draw bars run side by side."""
    bars: Any = tqdm
    if not isinstance(bars._instances, _Bars):
        bars._instances = _Bars(bars._instances)


class _Muted:
    """Drops what the thread that made it writes, and tqdm in any thread; others write on."""

    def __init__(self, stream: Any):
        self._stream, self._muted = stream, threading.current_thread()

    def write(self, text: str) -> int:
        writer = threading.current_thread()
        is_bar = isinstance(writer, TMonitor) or text.startswith("\r") or text == "\n"
        if writer is self._muted or is_bar:
            return len(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def aloud() -> Iterator[None]:
    """What is written here is seen, also inside of `quiet`: progress of our own."""
    out: Any = sys.stdout._stream if isinstance(sys.stdout, _Muted) else sys.stdout
    err: Any = sys.stderr._stream if isinstance(sys.stderr, _Muted) else sys.stderr
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the calling thread's stdout and stderr. Errors of DSPy's threads stay visible."""
    out: Any = _Muted(sys.stdout)
    err: Any = _Muted(sys.stderr)
    logger = logging.getLogger("dspy")
    level = logger.level
    logger.setLevel(logging.WARNING)  # some of its threads tell how evaluations went
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            yield
    finally:
        logger.setLevel(level)
