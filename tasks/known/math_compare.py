"""The child process of `math_answers`: math-verify's judgement, as its README has it."""

from __future__ import annotations

from typing import Any

import math_verify

STEP_SECONDS = 2  # math-verify's own limit, for each of parsing and comparing


def compare(question: list[str]) -> dict[str, Any]:
    """`question`: the gold answer in LaTeX, a reply. See `math_answers.same_answer`."""
    gold, text = question
    golds = math_verify.parse(f"\\boxed{{{gold}}}", parsing_timeout=STEP_SECONDS)
    got = math_verify.parse(text, parsing_timeout=STEP_SECONDS)
    if not got:
        return {"verdict": "unread", "read": ""}
    shown = got[-1] if isinstance(got[-1], str) else str(got[0])
    verdict = "wrong"
    if math_verify.verify(golds, got, timeout_seconds=STEP_SECONDS):
        verdict = "right"
    elif hasattr(got[0], "__neg__") and math_verify.verify(
        golds, -got[0], timeout_seconds=STEP_SECONDS
    ):
        verdict = "negated"
    return {"verdict": verdict, "read": shown[:200]}
