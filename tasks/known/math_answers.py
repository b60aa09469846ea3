"""Whether two mathematical answers are equal, by math-verify, whatever a reply makes it compute."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

from tasks.worker import Worker, WorkerFailed

SECONDS = 8.0  # for one answer; math-verify's own limits, per step, come first
READ_CHARS = 20_000  # of a reply, from its end

Verdict = Literal["right", "negated", "wrong", "unread", "timeout"]

_worker = Worker("tasks.known.math_compare:compare")


def is_installed() -> bool:
    return find_spec("math_verify") is not None


def same_answer(gold: str, text: str) -> tuple[Verdict, str]:
    """Whether the last answer in `text` equals `gold` (LaTeX), and what was read in `text`.

    "negated" when it does but for its sign, "unread" when math-verify finds no answer in it. Safe
    from any thread; takes at most `SECONDS` and the start of a process (about 2 s) when there is
    none.
    """
    try:
        reply = _worker.ask([gold, text[-READ_CHARS:]], SECONDS)
    except WorkerFailed as error:
        return ("timeout" if error.timed_out else "unread"), ""
    return ("unread", "") if "raised" in reply else (reply["verdict"], reply["read"])


def last_boxed(text: str) -> str | None:
    """What the last \\boxed{...} holds, braces inside it balanced; None without one."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth = 0
    for place in range(start + 6, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if not depth:
            return text[start + 7 : place]
    return None
