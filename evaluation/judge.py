"""The one boundary where errors become data: a completion goes in, a Score comes out, always.

The evaluator, RL's reward and DSPy's metric all judge through here, so one answer is worth the
same everywhere, and a scorer that raises shows up as class `error` in the report instead of
stopping a run or hiding behind a silent 0.
"""

from __future__ import annotations

import hashlib
import inspect
import numbers
import os
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from evaluation.environment import scorer
from evaluation.types import ScoreFunction
from lm.types import Completion
from tasks import scorers, text, tools
from tasks.types import Example, Prompt, Score

LOOP_TOKENS = 24  # a shorter loop is taken for an answer
LOOP_PERIOD = 32  # tokens in the longest group looked for
LOOP_REPEATS = 4

UNIVERSAL_FAILURES: Mapping[str, str] = {
    "error": "The scorer or the program raised, or what it returned is not valid.",
    "empty": "The answer holds no text.",
    "truncated": "The answer was cut at max_tokens before it was right.",
    "repetition": (
        f"At least half of the answer, and {LOOP_TOKENS} tokens of it, is one group of at most "
        f"{LOOP_PERIOD} tokens said {LOOP_REPEATS} or more times in a row."
    ),
    "unparsable": (
        "The reply never names an answer where the prompt asks for one, or at least half of its "
        "characters are undecodable bytes."
    ),
    "unclassified": "The task scored the answer as incorrect and gave no class.",
}
FORMAT_FAILURES = ("empty", "truncated", "repetition", "unparsable")  # not of the form asked for


def judge_hash() -> str:
    """16 hex digits over the code that judges answers: with other code, other scores."""
    files = [
        Path(__file__),
        *map(Path, map(inspect.getfile, (Prompt, scorers, text, tools, scorer))),
    ]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def judge(score: ScoreFunction, prompt: Prompt, example: Example, completion: Completion) -> Score:
    """Extract the answer with `prompt`, score it, and name what went wrong.

    A correct answer has no failure class; an incorrect one has exactly one: the first of
    `UNIVERSAL_FAILURES` that holds, in that order, or else the task's own. The class never
    changes the value: partial credit for a truncated answer stays. A reply without an answer is
    worth 0 and is not shown to the scorer. `Score.answer` is the extracted text unless the task
    set its own.

    Never raises an `Exception`. `BudgetExhausted`, `KeyboardInterrupt` and their like pass.
    """
    answer = prompt.extract(completion.text)
    return judge_answer(scorer(score, completion), example, answer, completion)


def judge_all(
    score: ScoreFunction, prompt: Prompt, rows: Sequence[tuple[Example, Completion]]
) -> list[Score]:
    """`judge` for each row, in order; several at once where the scorer says `side_by_side = True`,
    as those do that wait for another process."""
    if not getattr(score, "side_by_side", False):
        return [judge(score, prompt, *row) for row in rows]
    with ThreadPoolExecutor(2 * (os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda row: judge(score, prompt, *row), rows))


def judge_answer(
    score: ScoreFunction,
    example: Example,
    answer: str | None,
    completion: Completion,
    error: BaseException | None = None,
) -> Score:
    """As `judge`, of an answer that a program has extracted: None where the model's reply was not
    of the form the program reads. An `error` is what it raised instead of giving an answer."""
    if error is not None:
        return _failed("program", error)
    given = Score(0.0, False) if answer is None else _scored(score, example, answer)
    given = replace(given, answer=given.answer or answer or "")
    if given.correct:
        return replace(given, failure=None)
    if given.failure == "error":
        return given
    return replace(given, failure=_universal(answer, completion) or given.failure or "unclassified")


def _scored(score: ScoreFunction, example: Example, answer: str) -> Score:
    try:
        return _checked(score(example, answer))
    except (Exception, SystemExit) as error:  # the boundary: whatever a scorer does is data
        return _failed("scorer", error)


def _failed(who: str, error: BaseException) -> Score:
    what = " ".join("".join(traceback.format_exception_only(error)).split())[:300]
    return Score(0.0, False, failure="error", feedback=f"The {who} failed: {what}")


def _checked(given: Any) -> Score:
    """`given` with plain Python numbers (scorers like numpy's), or TypeError, ValueError."""
    if not isinstance(given, Score):
        raise TypeError(f"returned {type(given).__name__}, not a Score")
    if not isinstance(given.value, numbers.Real) or not 0 <= given.value <= 1:
        raise ValueError(f"Score.value is {given.value!r}, not a number in [0, 1]")
    if given.correct not in (True, False):
        raise ValueError(f"Score.correct is {given.correct!r}, not a bool")
    for name in ("failure", "feedback", "answer"):
        text = getattr(given, name)
        if not isinstance(text, str) and not (name == "failure" and text is None):
            raise TypeError(f"Score.{name} is {text!r}, not a string")
    if given.tests is not None and not 0 <= given.tests <= 1:
        raise ValueError(f"Score.tests is {given.tests!r}, not a share in [0, 1]")
    return replace(given, value=float(given.value), correct=bool(given.correct))


def _universal(answer: str | None, completion: Completion) -> str | None:
    if not completion.text.strip() or answer == "":
        return "empty"
    if completion.finish_reason == "length":
        return "truncated"
    if loops(completion.own_tokens):
        return "repetition"
    if answer is None or _undecodable(completion.text):
        return "unparsable"
    return None


def loops(token_ids: Sequence[int]) -> bool:
    """Whether a group of tokens repeated in a row makes up most of the answer.

    True when, for some period p up to `LOOP_PERIOD`, a stretch of at least `LOOP_TOKENS` tokens,
    half of all tokens and `LOOP_REPEATS` times p equals itself shifted by p.
    """
    size = len(token_ids)
    for period in range(1, min(LOOP_PERIOD, size // LOOP_REPEATS) + 1):
        enough = max(LOOP_TOKENS, LOOP_REPEATS * period, (size + 1) // 2)
        run = period
        for before, token in zip(token_ids, token_ids[period:], strict=False):
            run = run + 1 if token == before else period
            if run >= enough:
                return True
    return False


def _undecodable(text: str) -> bool:
    shown = "".join(text.split())
    return 2 * shown.count("\N{REPLACEMENT CHARACTER}") >= len(shown)
