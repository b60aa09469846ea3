"""Outside the walls: start the program, put the tests' questions to it, compare the answers here.

Run as a script, with no packages but Python's own: `python -s -S -P checker.py`. On standard input
come two messages of JSON (`wire.send`): the job, and the tests, which are read only when the
program's process has been forked off, so that it cannot find them in its memory. One message goes
to standard output. The tests are trusted, the program is not.
"""

from __future__ import annotations

import builtins
import os
import resource
import signal
import sys
import time

sys.path.append(os.path.dirname(os.path.abspath(__file__)))
from jail import EVERYTHING, die_with_parent
from outside import UNREADABLE, Gone, Program
from wire import decode, encode, receive, send

TYPE_CHECKING = False  # without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any

SHOWN = 200  # characters
CHECKER_MEMORY = 1 << 30


class Tests:
    """Asserts that are counted, and a function in the candidate's place that asks the program."""

    def __init__(self, program: Program, name: str):
        self.program, self.name = program, name
        self.cases: list[bool] = []
        self.asserts = 0
        self.first: tuple[str, str] | None = None
        self.last = "nothing"
        self.gone: Gone | None = None

    def candidate(self, *arguments: Any, **named: Any) -> Any:
        self.last = "nothing"
        try:
            reply = self.program.ask([encode(arguments), encode(named)])
        except Gone as gone:
            self.gone = gone  # whatever the tests make of it
            raise
        if "failure" in reply:
            raise _as_error(reply)
        try:
            value = decode(reply.get("value"))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise Gone("wrong_result", UNREADABLE) from None
        self.last = _shown(value)
        return value

    def passed(self) -> None:
        self.cases.append(True)

    def failed(self, text: str, error: BaseException) -> None:
        self.cases.append(False)
        self.blame(text, error)

    def blame(self, text: str, error: BaseException) -> None:
        if self.first is not None:
            return
        failure = getattr(error, "failure", "wrong_result")
        if failure != "wrong_result":
            self.first = failure, f"{text}: {type(error).__name__}: {error}"[: 2 * SHOWN]
        else:
            self.first = failure, f"{text} does not hold: {self.name} returned {self.last}"


def _as_error(reply: dict[str, Any]) -> Exception:
    """The program's exception, as one of Python's own where it is, marked with its class."""
    name, message = str(reply.get("error"))[:100], str(reply.get("message"))[:300]
    kind = getattr(builtins, name, None)
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        kind, message = RuntimeError, f"{name}: {message}"
    try:
        error = kind(message)
    except TypeError:
        error = RuntimeError(f"{name}: {message}")
    error.failure = reply["failure"]  # type: ignore[attr-defined]
    return error


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError, MemoryError):
        text = f"<{type(value).__name__}>"
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


def run_tests(state: Tests, tests: dict[str, str]) -> None:
    """Run `setup`, then `script` with the program's function bound to its name and `candidate`."""
    import random  # by now the program is on its way

    from counted import counted

    random.seed(0)
    namespace: dict[str, Any] = {
        "__name__": "tests",
        "__gone__": Gone,
        "__failed__": state.failed,
        "__passed__": state.passed,
    }
    exec(compile(tests["setup"], "<setup>", "exec"), namespace)
    namespace |= {state.name: state.candidate, "candidate": state.candidate}
    code, state.asserts = counted(tests["script"])
    signal.signal(signal.SIGALRM, _ring)
    signal.setitimer(signal.ITIMER_REAL, max(0.01, state.program.until - time.monotonic()))
    try:
        exec(code, namespace)
    except Exception as error:
        state.failed("a test", error)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _ring(*_: Any) -> None:
    raise Gone("timeout", "the tests did not come to an end with what it returned")


def check(program: Program, job: dict[str, Any]) -> dict[str, Any]:
    """The verdict on one program."""
    state, dead = Tests(program, job["function"] or ""), 0
    try:
        loaded = program.reply()
        tests = receive(0)
        resource.setrlimit(resource.RLIMIT_AS, (CHECKER_MEMORY, CHECKER_MEMORY))
        if "failure" in loaded:
            failure = _as_error(loaded).failure  # type: ignore[attr-defined]
            raise Gone(failure, f"{loaded.get('error')}: {loaded.get('message')}"[: 2 * SHOWN])
        if tests is not None:
            run_tests(state, tests)
        if state.gone is not None:
            raise state.gone
        failure, detail = state.first or (None, "")
    except Gone as gone:
        failure, detail = state.first or (gone.failure, gone.detail)
        dead = 1  # the test that it did not live to answer
    finally:
        program.kill()
    tried = max(len(state.cases) + dead, state.asserts)
    return {"failure": failure, "detail": detail, "passed": sum(state.cases), "tried": tried}


def main() -> None:
    die_with_parent()
    verdicts = os.dup(1)
    os.dup2(2, 1)  # what the tests print is no verdict
    job = receive(0)
    program = Program(job)
    verdict = check(program, job)
    missing = program.missing
    output = program.output.decode(errors="replace")[: job["limits"]["output"]]
    walls = [wall for wall in EVERYTHING if wall not in missing]
    send(verdicts, {**verdict, "missing": missing, "output": output, "walls": walls})


if __name__ == "__main__":
    main()
