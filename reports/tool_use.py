"""How an arm's answers used the task's tools: turns, calls, and what became of them."""

from __future__ import annotations

import json
from collections import Counter

import pandas as pd

from reports.load import Run
from reports.once import once_a_run
from tasks.tools import calls_of, unanswered

TOOL_USE = (
    *("arm", "seed", "n", "turns", "tool_calls"),
    *("calling", "malformed", "invalid", "failed", "unanswered"),
)
INVALID = ("unknown_tool", "bad_arguments")


@once_a_run
def tool_use(run: Run) -> pd.DataFrame:
    """One row for each arm and seed whose answers could call tools, columns `TOOL_USE`.

    `turns` of the model and `tool_calls` are means an answer, the others shares of answers: with
    a call at all, with one that could not be read, that named no tool or wrong arguments, at which
    the tool raised; and those that end with a call in the place of an answer.
    """
    rows = []
    for arm in run.arms:
        told = run.answers[arm.eval]["transcript"].dropna().tolist()
        if told:
            counts = sum(map(_counted, told), Counter())
            figures = {name: counts[name] / len(told) for name in TOOL_USE[3:]}
            rows.append({"arm": arm.arm, "seed": arm.seed, "n": len(told), **figures})
    return pd.DataFrame(rows, columns=pd.Index(TOOL_USE))


def _counted(text: str) -> Counter[str]:
    transcript = json.loads(text)
    calls = calls_of(transcript)
    errors = {call.error for call in calls}
    left = unanswered(transcript)
    return Counter(
        turns=sum(message["role"] == "assistant" for message in transcript),
        tool_calls=len(calls),
        calling=bool(calls) or left,
        malformed="malformed_call" in errors or "malformed" in transcript[-1],
        invalid=not errors.isdisjoint(INVALID),
        failed="tool_error" in errors,
        unanswered=left,
    )
