"""DSPy's optimizers print and draw bars, and have no switch for it; this is the switch."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

from tqdm import TMonitor


class _Muted:
    """Drops what the thread that made it writes, and tqdm's monitor; others write on."""

    def __init__(self, stream: Any):
        self._stream, self._muted = stream, threading.current_thread()

    def write(self, text: str) -> int:
        writer = threading.current_thread()
        if writer is self._muted or isinstance(writer, TMonitor):
            return len(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the calling thread's stdout and stderr. Errors of DSPy's threads stay visible."""
    out: Any = _Muted(sys.stdout)
    err: Any = _Muted(sys.stderr)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield
