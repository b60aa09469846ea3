"""500 problems of school competitions (Lightman et al., 2023, "Let's Verify Step by Step", from
MATH, Hendrycks et al., 2021): `HuggingFaceH4/MATH-500`, which is a test split and nothing else.

Train and dev are the train split of MATH, `DigitalLearningGmbH/MATH-lighteval`: MATH-500 was drawn
from MATH's test split, so they share no problem. Answers are compared by math-verify.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.known.hub_task import HubTask, Source
from tasks.known.math_answers import is_installed, last_boxed, same_answer
from tasks.text import MAX_CHARS, shorten
from tasks.types import Example, Score, SplitName, TaskError

FAILURES = {
    "empty": "The answer is empty.",
    "no_answer": "No mathematical answer can be read in the reply.",
    "wrong_sign": "The right answer but for its sign.",
    "wrong_number": "A number, but not the right one.",
    "wrong_expression": "Any other expression that does not equal the answer.",
    "undecided": "Comparing took longer than the time allowed.",
}
VERDICTS = {"unread": "no_answer", "timeout": "undecided", "negated": "wrong_sign"}
SOURCES: Mapping[SplitName, Source] = {
    "train": Source(
        "DigitalLearningGmbH/MATH-lighteval",
        "default",
        "train",
        ("problem", "level", "solution", "type"),
    ),
    "test": Source(
        "HuggingFaceH4/MATH-500",
        None,
        "test",
        ("problem", "solution", "answer", "subject", "level"),
    ),
}


class Math500(HubTask):
    """7,500 problems of MATH for train, 500 of them cut off as dev, and 500 for test."""

    name = "math500"
    instruction = "Solve the problem step by step. Put the final answer in \\boxed{}."
    inputs = ("problem",)
    output = "answer"
    failure_classes = FAILURES
    format_failures = ("empty", "no_answer")
    sources = SOURCES
    files = tuple(Path(__file__).with_name(f"math_{part}.py") for part in ("answers", "compare"))

    def split(self, name: SplitName) -> Sequence[Example]:
        if not is_installed():
            raise TaskError("math500 needs math-verify: pip install 'tasklift[tasks]'")
        return super().split(name)

    def build(self, row: Mapping[str, Any], id: str) -> Example:
        gold = row.get("answer") or last_boxed(row["solution"])
        if not gold:
            raise ValueError("the solution has no \\boxed{answer}")
        meta = {"gold": gold, "level": int(str(row["level"]).split()[-1].replace("?", "0"))}
        meta["subject"] = row.get("subject") or row["type"]
        boxed = last_boxed(row["solution"]) == gold
        answer = row["solution"] if boxed else f"{row['solution']}\n\\boxed{{{gold}}}"
        return Example(id, {"problem": row["problem"]}, answer, meta)

    def score(self, example: Example, text: str) -> Score:
        gold, text = example.meta["gold"], text[-MAX_CHARS:]
        if not text.strip():
            return Score(0.0, False, "empty", f"The answer is empty; it is {gold}.")
        boxed = last_boxed(text)
        if gold in (boxed, text.strip()):  # a name, which math-verify may not read
            return Score(1.0, True, answer=shorten(str(gold)))
        verdict, read = same_answer(gold, text)
        if verdict == "right":
            return Score(1.0, True, answer=shorten(read))
        shown = shorten(boxed or read or text)
        failure = VERDICTS.get(verdict) or _kind(read)
        why = f"{FAILURES[failure]} The answer is {gold}. {example.answer}"
        return Score(0.0, False, failure, why, shown)


def _kind(read: str) -> str:
    try:
        float(read.replace(",", ""))
    except ValueError:
        return "wrong_expression"
    return "wrong_number"
