"""The hostile set, as whoever runs the tests and, for root, as an ordinary user besides."""

from __future__ import annotations

import ctypes
import json
import os
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.sandbox import FAILURES, missing_walls
from tests.tasks.orphans import adopted

PROGRAMS = Path(__file__).with_name("hostile_programs.py")
HOSTILE: dict[str, tuple[str, str]] = runpy.run_path(str(PROGRAMS))["HOSTILE"]
NOBODY = 65534
pytestmark = pytest.mark.skipif(bool(missing_walls()), reason=f"no walls: {missing_walls()}")


def become_nobody() -> None:
    """In a child of root: an ordinary user to whom Python and this folder are still readable."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert not libc.unshare(0x20000)
    assert not libc.mount(None, b"/", None, ctypes.c_ulong(0x44000), None)
    home = Path(sys.base_prefix)
    closed = next((p for p in reversed(home.parents) if not p.stat().st_mode & 1), None)
    if closed is not None:
        handle = os.open(home, os.O_PATH)
        assert not libc.mount(b"tmpfs", bytes(closed), b"tmpfs", ctypes.c_ulong(0), b"mode=755")
        home.mkdir(parents=True)
        source = f"/proc/self/fd/{handle}".encode()
        assert not libc.mount(source, bytes(home), None, ctypes.c_ulong(0x5000), None)
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def run_programs(before: Callable[[], None] | None, secret: str) -> dict[str, Any]:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, str(PROGRAMS)],
        capture_output=True,
        text=True,
        preexec_fn=before,
        timeout=300,
        cwd=root,
        env={
            **os.environ,
            "PYTHONPATH": str(root),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TASKLIFT_SECRET": secret,
        },
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def jails() -> set[str]:
    return {name for name in os.listdir("/tmp") if name.startswith("tasklift-jail-")}


@pytest.fixture(scope="module", params=["caller", "nobody"])
def found(request: pytest.FixtureRequest) -> Any:
    if request.param == "nobody" and os.geteuid():
        pytest.skip("run by an ordinary user already")
    before = jails()
    with tempfile.NamedTemporaryFile("w+", dir="/tmp") as file:
        print("the caller's", file=file, end="", flush=True)
        os.chmod(file.name, 0o644)
        with adopted() as left:
            answer = run_programs(become_nobody if request.param == "nobody" else None, file.name)
        secret = Path(file.name).read_text()
    assert answer["uid"] == (NOBODY if request.param == "nobody" else os.geteuid())
    until = time.monotonic() + 20  # jails of tests beside this one are gone before
    while (files := jails() - before) and time.monotonic() < until:
        time.sleep(0.2)
    return answer["found"], left, files, secret


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_program_scores_0_with_its_class(found: Any, name: str) -> None:
    failure, passed, detail = found[0][name]
    assert failure == HOSTILE[name][0], detail
    assert failure in FAILURES
    assert passed == 0


def test_nothing_is_harmed_and_nothing_is_left(found: Any) -> None:
    _, left, files, secret = found
    assert not left
    assert not files
    assert secret == "the caller's"
