"""Processes that outlive their parent: Linux hands them to us while we ask for them."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER


@contextmanager
def adopted() -> Iterator[set[int]]:
    """Filled at the end: our descendants that run on though they were not there before.

    Those of other processes, such as of tests that run beside this one, do not count.
    """
    libc, left, before = ctypes.CDLL(None, use_errno=True), set[int](), _children()
    assert not libc.prctl(SUBREAPER, 1)
    try:
        yield left
        left |= _children() - before
    finally:
        libc.prctl(SUBREAPER, 0)


def _children() -> set[int]:
    told = [path.read_text().split() for path in Path("/proc/self/task").glob("*/children")]
    return {int(pid) for pids in told for pid in pids if _runs(pid)}


def _runs(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
