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
from jail import EVERYTHING, close_to_others, die_with_parent
from outside import UNREADABLE, Gone, Program
from wire import decode, encode, receive, send

TYPE_CHECKING = False  # without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any

SHOWN = 200  # characters
CHECKER_MEMORY = 1 << 30
ENDS = (StopIteration, StopAsyncIteration)


class Tests:
    """Asserts that are counted, and a function in the candidate's place that asks the program."""

    def __init__(self, program: Program, name: str):
        self.program, self.name = program, name
        self.cases: list[bool] = []
        self.asserts = 0
        self.first: tuple[str, str] | None = None
        self.last = "nothing"
        self.gone: Gone | None = None
        self.done = False  # the script has come to its end

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
            value = decode(reply["value"])
            self.last = _shown(value)
        except Exception:  # whatever it is, the program has caused it
            self.gone = Gone("wrong_result", UNREADABLE)
            raise self.gone from None
        return value

    def ring(self, *_: Any) -> None:
        self.gone = Gone("timeout", "the tests did not come to an end with what it returned")
        raise self.gone

    def passed(self) -> None:
        self.cases.append(True)

    def failed(self, text: str, error: BaseException) -> None:
        self.cases.append(False)
        self.blame(text, error)

    def end(self) -> tuple[str | None, str]:
        """No failure only where the script has come to its end, and all it tried, and more than
        nothing, held; the end is what is tried where there is no assert."""
        if self.done and not self.asserts and not self.cases:
            self.passed()
        if self.done and sum(self.cases) == self.tried() > 0:
            return None, ""
        return "wrong_result", "with what it returned, not every assert was tried"

    def tried(self) -> int:
        return max(len(self.cases), self.asserts)

    def blame(self, text: str, error: BaseException) -> None:
        if self.first is not None:
            return
        failure = getattr(error, "failure", "wrong_result")
        if failure != "wrong_result":
            self.first = failure, f"{text}: {type(error).__name__}: {error}"[: 2 * SHOWN]
        else:
            self.first = failure, f"{text} does not hold: {self.name} returned {self.last}"


def _as_error(reply: dict[str, str]) -> Exception:
    """The program's exception, as one of Python's own where it is, marked with its class.

    No StopIteration: one that passes through `map` or `iter` in the tests would end them in
    silence, as if there were no more cases (PEP 479 is about the same).
    """
    name, message = reply["error"][:100], reply["message"][:300]
    kind = getattr(builtins, name, None)
    if not (isinstance(kind, type) and issubclass(kind, Exception)) or kind in ENDS:
        kind, message = RuntimeError, f"{name}: {message}"
    try:
        error = kind(message)
    except Exception:  # it wants other arguments
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
    signal.signal(signal.SIGALRM, state.ring)
    signal.setitimer(signal.ITIMER_REAL, max(0.01, state.program.until - time.monotonic()))
    try:
        exec(code, namespace)
        state.done = True
    except Exception as error:
        state.failed("a test", error)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def check(program: Program, job: dict[str, Any]) -> dict[str, Any]:
    """The verdict on one program."""
    state = Tests(program, job["function"] or "")
    try:
        loaded = program.reply()
        tests = receive(0)
        resource.setrlimit(resource.RLIMIT_AS, (CHECKER_MEMORY, CHECKER_MEMORY))
        if "failure" in loaded:
            raise Gone(loaded["failure"], f"{loaded['error']}: {loaded['message']}"[: 2 * SHOWN])
        if tests is not None:
            run_tests(state, tests)
        if state.gone is not None:
            raise state.gone
        failure, detail = state.first or ((None, "") if tests is None else state.end())
    except Gone as gone:
        failure, detail = state.first or (gone.failure, gone.detail)
        state.cases.append(False)  # the test that it did not live to answer
    finally:
        program.kill()
    counts = {"passed": sum(state.cases), "tried": state.tried()}
    return {"failure": failure, "detail": detail, **counts}


def main() -> None:
    die_with_parent()
    verdicts = os.dup(1)
    os.dup2(2, 1)  # what the tests print is no verdict
    job = receive(0)
    program = Program(job)
    close_to_others()  # where its files can be seen, the verdict is one of them
    verdict = check(program, job)
    missing = program.missing
    output = program.output.decode(errors="replace")[: job["limits"]["output"]]
    walls = [wall for wall in EVERYTHING if wall not in missing]
    send(verdicts, {**verdict, "missing": missing, "output": output, "walls": walls})


if __name__ == "__main__":
    main()
