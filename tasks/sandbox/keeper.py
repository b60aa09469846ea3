"""The processes between the checker and the program: one that puts the walls up and waits outside
of them, one that is the first within them and ends all others with it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress

from jail import (
    EVERYTHING,
    close_to_others,
    die_with_parent,
    forget_surroundings,
    isolate,
    orphans_come_here,
    read,
    renounce,
)
from program import serve
from wire import send

TYPE_CHECKING = False  # without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any


def close_but(*kept: int) -> None:
    """Close every other file of this process: a way out that nobody thought of is no way out."""
    start = 0
    for handle in (*sorted(kept), 1024):  # the checker was started with three
        if start < handle:  # closerange(0, 0) closes everything
            os.closerange(start, handle)
        start = handle + 1


def keep(job: dict[str, Any], requests: int, replies: int, out: int, status: int) -> None:
    """The process that puts the walls up and waits outside of them; never returns."""
    folder = None
    try:
        die_with_parent()
        os.setsid()
        job["limits"]["number"] = os.getpid()
        missing = isolate(job["limits"]["file"])
        close_to_others()
        if "filesystem" in missing:
            import tempfile

            folder = tempfile.mkdtemp(prefix="tasklift-jail-")
            os.chmod(folder, 0o777)
            os.chdir(folder)
        inner = os.fork()
        if not inner:
            _guard(job, missing, requests, replies, out, status)
        close_but(status)
        send(status, {"inner": inner})
        os.waitpid(inner, 0)
    except Exception as error:
        _give_up(status, error)
    finally:
        if folder is not None:
            import shutil

            shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)


def _give_up(status: int, error: Exception) -> None:
    """No program runs where a wall fell in an unexpected way."""
    what = f"{type(error).__name__}: {error}"
    send(status, {"missing": dict.fromkeys(EVERYTHING, what)})
    send(status, {"refused": True})


def _guard(
    job: dict[str, Any],
    missing: dict[str, str],
    requests: int,
    replies: int,
    out: int,
    status: int,
) -> None:
    """The first process within the walls: starts the program, ends with it; never returns."""
    limits = job["limits"]
    try:
        # nothing but SIGKILL, which the kernel keeps from those within, can interrupt this process
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        os.setsid()
        die_with_parent()
        orphans_come_here()
        missing |= renounce(limits, missing)
        die_with_parent()
        if "network" in missing and "syscalls" not in missing:
            del missing["network"]  # without sockets there is none
        send(status, {"missing": missing})
        if set(missing) - set(job["allow_missing"]):
            send(status, {"refused": True})
            return
        child = os.fork()
        if not child:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            _become_program(job, requests, replies, out)
        close_but(status)
        end = _wait(child, limits["seconds"], limits["cpu_seconds"])
        if "processes" in missing:
            _end_children()
        send(status, end)
    except Exception as error:
        _give_up(status, error)
    finally:
        os._exit(0)


def _become_program(job: dict[str, Any], requests: int, replies: int, out: int) -> None:
    code = 1
    try:
        os.setsid()
        entered = os.open("stdin", os.O_RDWR | os.O_CREAT)
        os.unlink("stdin")
        os.write(entered, job["stdin"].encode(errors="replace"))
        os.lseek(entered, 0, os.SEEK_SET)
        os.dup2(entered, 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        close_but(0, 1, 2, requests, replies)
        sys.stdin = open(0, encoding="utf-8", errors="replace")  # noqa: SIM115
        sys.stdout = open(1, "w", 1, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        sys.stderr = sys.stdout
        forget_surroundings()
        serve(job["sources"], job["function"], requests, replies)
        code = 0
    finally:
        os._exit(code)


def _wait(child: int, seconds: float, cpu_seconds: int) -> dict[str, Any]:
    """How the program ended; late, with whether it has used up its processes."""
    until = time.monotonic() + seconds
    while True:
        ended, how, used = os.wait4(-1, os.WNOHANG)  # orphans of the program come here, too
        if ended == child:
            break
        left = until - time.monotonic()
        if left <= 0:
            return {"late": _is_full()}
        if not ended and signal.sigtimedwait([signal.SIGCHLD], left):
            time.sleep(0.0005)  # the program can send that signal, too, as often as it likes
    code = os.waitstatus_to_exitcode(how)
    if code < 0 and used.ru_utime + used.ru_stime > cpu_seconds - 0.1:
        return {"late": False}
    return {"exit": code} if code >= 0 else {"signal": -code}


def _end_children() -> None:
    """Where no process namespace ends them with us."""
    with suppress(OSError):
        while ids := read(f"/proc/self/task/{os.getpid()}/children").split():
            for one in map(int, ids):
                os.kill(one, signal.SIGKILL)
                os.waitpid(one, 0)


def _is_full() -> bool:
    try:
        if not os.fork():
            os._exit(0)
    except OSError:
        return True
    return False
