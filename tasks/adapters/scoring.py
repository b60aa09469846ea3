"""What the adapters share: another suite's verdict as a `Score`, its coroutines, its absence."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping
from importlib.util import find_spec
from math import isfinite
from typing import Any, TypeVar

from tasks.text import MAX_CHARS, contains, normalize, shorten
from tasks.types import Example, Score, TaskError

T = TypeVar("T")
SECONDS = 60.0  # for one score

FAILURES: Mapping[str, str] = {
    "empty": "The answer is empty.",
    "unreadable": "The suite's own filters find no answer in the reply.",
    "extra_text": "The right answer with other words around it.",
    "partial": "The suite gives more than nothing for it, and less than all.",
    "wrong": "The suite gives nothing for it.",
    "scorer_error": "The suite's scorer raised an error over the answer.",
}
FORMAT_FAILURES = ("empty", "unreadable", "extra_text")


def require(module: str, package: str, what: str) -> None:
    """Raises TaskError, one line, when `module` is not installed."""
    if not find_spec(module):
        raise TaskError(f"{what}: needs {package}: pip install 'tasklift[adapters]'")


def as_score(example: Example, text: str, value: float, said: str = "", failure: str = "") -> Score:
    """A value another suite gave. Raises ValueError when it is not in [0, 1].

    `failure` is the class where the adapter knows it, `said` the suite's own explanation.
    """
    if not isfinite(value) or not 0.0 <= value <= 1.0:
        raise ValueError(f"the score {value} is not in [0, 1]")
    if value == 1.0:
        return Score(1.0, True, answer=shorten(text))
    gold = normalize(example.answer)
    wordy = gold != "" and contains(normalize(text), gold)
    failure = failure or ("extra_text" if wordy else "partial" if value else "wrong")
    told = f" The answer is {shorten(example.answer)}." if example.answer else ""
    why = f"{FAILURES[failure]}{told} {shorten(said)}".strip()
    return Score(float(value), False, failure, why, shorten(text))


def judged(example: Example, text: str, judge: Callable[[str], Score]) -> Score:
    """What `judge` says of a text that is not empty, cut and of whole characters.

    Where it raises, that is data: class `scorer_error`, and the reason.
    """
    text = text[:MAX_CHARS].encode("utf-8", "replace").decode()  # pydantic takes no surrogates
    if not text.strip():
        why = f"The answer is empty. The answer is {example.answer}."
        return Score(0.0, False, "empty", why)
    try:
        return judge(text)
    except Exception as error:  # a scorer is anybody's code
        what = shorten(" ".join(f"{type(error).__name__}: {error}".split()))
        why = f"{FAILURES['scorer_error']} {what}"
        return Score(0.0, False, "scorer_error", why, shorten(text))


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result, whether or not a loop runs in this thread.

    It gets a loop of its own, in a thread of its own where this one has a loop already. Raises
    what it raises, and TimeoutError after `SECONDS`.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_limited(work))
    done: dict[str, Any] = {}

    def run() -> None:
        try:
            done["result"] = asyncio.run(_limited(work))
        except BaseException as error:
            done["error"] = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join()
    if "error" in done:
        raise done["error"]
    return done["result"]


async def _limited(work: Coroutine[Any, Any, T]) -> T:
    return await asyncio.wait_for(work, SECONDS)
