"""Run code that a model wrote, and test it, where it can do no harm and cannot fake the result.

    outcome = run_tests(code, "assert add(1, 2) == 3", function="add")
    outcome.failure   # None, or one of FAILURES

The program runs in a process of its own behind walls (`WALLS`); the tests run in another one, which
asks it for values and compares them itself. So leaving early, a patched `assert`, an object that
equals everything or a printed token change nothing: there is no verdict within the program's reach.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from math import ceil
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

from tasks.text import nearest
from tasks.types import Task, TaskError

WALLS: Mapping[str, str] = {
    "network": "no network but its own, which is empty",
    "filesystem": "Python's library read-only, an empty /tmp, and no other file",
    "processes": "sees its own processes only, few of them, all killed with it",
    "syscalls": "system calls that serve no program are refused (seccomp)",
}
FAILURES: Mapping[str, str] = {
    "wrong_result": "It runs, and a test does not hold.",
    "raised": "It raised an exception.",
    "syntax_error": "It is no Python.",
    "no_function": "It does not define the function asked for.",
    "timeout": "It did not end in time.",
    "memory": "It asked for more memory than allowed.",
    "too_many_processes": "It started more processes or threads than allowed.",
    "too_deep": "Its recursion goes deeper than Python allows.",
    "output_flood": "It printed, wrote or returned more than allowed.",
    "forbidden": "It wanted a file, a process or a network that it is kept from.",
    "exited_early": "It left before it had answered.",
    "crashed": "It was killed by a signal, such as a segmentation fault.",
}
CODE = tuple(sorted(Path(__file__).parent.glob("*.py")))  # for `files` of tasks that run code
CHECKER = Path(__file__).with_name("checker.py")
GRACE = 5.0  # seconds after its own deadline at which the checker itself is killed
AT_ONCE = BoundedSemaphore(2 * len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1)


@dataclass(frozen=True)
class Limits:
    """What one program may use: seconds in all and of CPU, bytes of memory (of each process), of
    files in /tmp and of output, and how many processes and threads at once."""

    seconds: float = 10.0
    cpu_seconds: int = 3
    memory: int = 512 << 20
    file: int = 16 << 20
    output: int = 1 << 20
    processes: int = 4


@dataclass(frozen=True)
class Sandbox:
    """`allow_missing` names walls that may be missing; any other missing one refuses to run."""

    limits: Limits = Limits()
    allow_missing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.allow_missing:
            if name not in WALLS:
                raise TaskError(
                    f'sandbox: no wall "{name}"{nearest(name, WALLS)}: one of {", ".join(WALLS)}'
                )


@dataclass(frozen=True)
class Outcome:
    """What became of a program. `failure` is None or one of FAILURES, `detail` says more.

    `passed` of `tried` asserts held; of those after a program's death none did. `walls` are those
    that stood, `output` is what it printed.
    """

    failure: str | None
    detail: str
    passed: int = 0
    tried: int = 0
    output: str = ""
    walls: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """The share of asserts that held, in [0, 1]."""
        return self.passed / self.tried if self.tried else float(self.failure is None)


DEFAULT = Sandbox()


def run_code(source: str, *, sandbox: Sandbox = DEFAULT, stdin: str = "") -> Outcome:
    """Run a whole program. No failure means that it reported none: a program can say so of itself,
    so judge it by its output. Raises TaskError where a wall is missing that must not be."""
    return _run([source], None, None, sandbox, stdin)


def run_tests(
    source: str | Sequence[str],
    tests: str,
    *,
    function: str,
    setup: str = "",
    sandbox: Sandbox = DEFAULT,
) -> Outcome:
    """Run `tests`, a script with asserts that calls `function` (or `candidate`) of `source`.

    `source` alone is untrusted; of several ways to read it, the first that is Python is run. It
    passes if the tests come to their end and all asserts, each of them tried, hold. `setup` runs
    before the tests, for what they need besides.
    Arguments and results travel as plain data: numbers, strings, bytes, lists, tuples, sets, dicts,
    None, ranges; an iterator arrives as one over what it yields. Raises TaskError where a wall is
    missing that must not be.
    """
    sources = [source] if isinstance(source, str) else list(source)
    return _run(sources, function, {"setup": setup, "script": tests}, sandbox, "")


def missing_walls() -> Mapping[str, str]:
    """{wall: what is in its way on this machine}, tried once a process."""
    return _probe()


@cache
def _probe() -> Mapping[str, str]:
    everything = Sandbox(allow_missing=tuple(WALLS))
    return _verdict(["pass"], None, None, everything, "")["missing"]


def check_walls(sandbox: Sandbox) -> None:
    """Raises TaskError where a wall is missing that `sandbox` does not allow to be."""
    _refuse_missing(missing_walls(), sandbox.allow_missing)


def settle(task: Task, allow_missing: Sequence[str] = ()) -> dict[str, Any]:
    """Let walls be missing for a task that runs code, and see that no others are; what stands.

    {} for a task that runs none. Raises TaskError for a missing wall, and where `allow_missing`
    names walls for a task that needs no sandbox.
    """
    sandbox = getattr(task, "sandbox", None)
    if not isinstance(sandbox, Sandbox):
        if allow_missing:
            raise TaskError(f'sandbox: task "{task.name}" runs no code; leave sandbox out')
        return {}
    if allow_missing:
        sandbox = replace(sandbox, allow_missing=tuple(allow_missing))
        task.sandbox = sandbox  # type: ignore[attr-defined]
    check_walls(sandbox)
    return {"walls": [w for w in WALLS if w not in missing_walls()], "missing": missing_walls()}


def _refuse_missing(missing: Mapping[str, str], allowed: Collection[str]) -> None:
    gone = {wall: why for wall, why in missing.items() if wall not in allowed}
    if gone:
        told = ", ".join(f"{wall} ({why})" for wall, why in gone.items())
        names = ", ".join([*allowed, *gone])
        raise TaskError(
            f"sandbox: cannot isolate {told}; if the code may be trusted, write "
            f"sandbox: {{allow_missing: [{names}]}}, or --allow-missing where there is no spec"
        )


def _run(
    sources: list[str], function: str | None, tests: Any, sandbox: Sandbox, stdin: str
) -> Outcome:
    verdict = _verdict(sources, function, tests, sandbox, stdin)
    _refuse_missing(verdict["missing"], sandbox.allow_missing)
    if verdict["failure"] == "refused":
        raise TaskError(f"sandbox: {next(iter(verdict['missing'].values()))}")
    kept = ("failure", "detail", "passed", "tried", "output")
    return Outcome(**{key: verdict[key] for key in kept}, walls=tuple(verdict["walls"]))


def _verdict(
    sources: list[str], function: str | None, tests: Any, sandbox: Sandbox, stdin: str
) -> dict[str, Any]:
    job = {
        "sources": sources,
        "function": function,
        "stdin": stdin,
        "limits": asdict(sandbox.limits),
        "allow_missing": sandbox.allow_missing,
    }
    sent = b"".join(_frame(message) for message in (job, tests))
    late = sandbox.limits.seconds + GRACE
    command = [sys.executable, "-s", "-S", "-P", str(CHECKER)]
    try:
        with AT_ONCE:
            done = subprocess.run(
                command,
                input=sent,
                capture_output=True,
                timeout=late,
                cwd="/",
                env=_environment(),
            )
    except subprocess.TimeoutExpired:
        return _unfinished("timeout", f"no verdict after {ceil(late)} seconds")
    if done.returncode or len(done.stdout) < 4:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise TaskError(f"sandbox: the checker failed: {last[:300] or done.returncode}")
    return json.loads(done.stdout[4:])


def _environment() -> dict[str, str]:
    """The checker's; the program's is empty. Some Pythons find their own library by the last."""
    kept = {"LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH")}
    return {"PYTHONHASHSEED": "0", "LANG": "C.UTF-8", **{k: v for k, v in kept.items() if v}}


def _unfinished(failure: str, detail: str) -> dict[str, Any]:
    return {
        "failure": failure,
        "detail": detail,
        "passed": 0,
        "tried": 0,
        "output": "",
        "missing": {},
        "walls": [],
    }


def _frame(message: Any) -> bytes:
    data = json.dumps(message).encode()
    return len(data).to_bytes(4, "big") + data
