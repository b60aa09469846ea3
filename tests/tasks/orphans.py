"""Processes that outlive their parent: Linux hands them to us while we ask for them."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
DYING = 2.0  # seconds that what was killed may take to be gone


@contextmanager
def adopted() -> Iterator[set[int]]:
    """Filled at the end: our descendants that run on though they were not there before.

    Those of other processes, such as of tests that run beside this one, do not count.
    """
    libc, left, before = ctypes.CDLL(None, use_errno=True), set[int](), _children()
    assert not libc.prctl(SUBREAPER, 1)
    try:
        yield left
        until = time.monotonic() + DYING
        while (new := _children() - before) and time.monotonic() < until:
            for pid in new:
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            time.sleep(0.05)
        left |= new
    finally:
        libc.prctl(SUBREAPER, 0)


def _children() -> set[int]:
    told = Path("/proc/self/task").glob("*/children")
    found = {int(pid) for path in told for pid in path.read_text().split()}
    assert Path(f"/proc/self/task/{os.getpid()}/children").exists(), (
        "a kernel that tells no children"
    )
    return found
