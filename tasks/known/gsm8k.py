"""Grade school maths in words (Cobbe et al., 2021, "Training Verifiers to Solve Math Word
Problems"): `openai/gsm8k`, config `main`.

An example's answer is the worked solution, without its <<3*4=12>> marks, so that a demo and SFT
show the way; only the final number is scored. It is looked for as math-verify looks for it: in
\\boxed{}, after "the answer is", else the last one; GSM8K's own "####" comes before all these.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tasks.known.hub_task import HubTask, Source
from tasks.known.math_answers import last_boxed
from tasks.scorers import read_number, same_number
from tasks.text import MAX_CHARS, shorten
from tasks.types import Example, Score, SplitName

MARKS = re.compile(r"<<[^>\n]*>>")
NUMBER = r"[-+]?\$?\d[\d,]*(?:\.\d+)?"
AFTER = re.compile(rf"(?:####|\banswer(?: is|:))[^\d\n]{{0,40}}?({NUMBER}\s?%?)", re.IGNORECASE)

FAILURES = {
    "empty": "The answer is empty.",
    "no_number": "The answer holds no number.",
    "stopped_early": "The number is a result on the way, which the solution goes on from.",
    "copied": "The number stands in the question.",
    "wrong_number": "Any other number.",
}
COLUMNS = ("question", "answer")
SOURCES: Mapping[SplitName, Source] = {
    "train": Source("openai/gsm8k", "main", "train", COLUMNS),
    "test": Source("openai/gsm8k", "main", "test", COLUMNS),
}


class GSM8K(HubTask):
    """7,473 problems for train, 500 of them cut off as dev, and 1,319 for test."""

    name = "gsm8k"
    instruction = (
        "Solve the problem step by step. Write the final number on a last line after ####."
    )
    inputs = ("question",)
    output = "answer"
    failure_classes = FAILURES
    format_failures = ("empty", "no_number")
    sources = SOURCES

    def build(self, row: Mapping[str, Any], id: str) -> Example:
        solution, _, gold = row["answer"].rpartition("####")
        steps = [found[0] for mark in MARKS.findall(solution) if (found := read_number(mark))]
        meta = {"gold": gold.strip(), "steps": len(steps), "words": len(row["question"].split())}
        answer = f"{MARKS.sub('', solution).strip()}\n#### {gold.strip()}"
        return Example(id, {"question": row["question"]}, answer, meta | {"results": steps})

    def score(self, example: Example, text: str) -> Score:
        gold = example.meta["gold"]
        if not text.strip():
            return Score(0.0, False, "empty", f"The answer is empty; the number is {gold}.")
        got, right = final_number(text), read_number(gold)
        if got is None or right is None:
            why = f"The answer holds no number; end it with #### {gold}."
            return Score(0.0, False, "no_number", why, shorten(text))
        shown = f"{got[0]:.12g}" + "%" * got[1]
        if same_number(right, got):
            return Score(1.0, True, answer=shown)
        failure = _classify(example, got[0])
        why = f"The final number is {gold}, not {shown}. {FAILURES[failure]} {example.answer}"
        return Score(0.0, False, failure, why, shown)


def final_number(text: str) -> tuple[float, bool] | None:
    """The number a reply ends on, and whether it is a percentage; None when it holds none."""
    text = text[:MAX_CHARS]
    if marked := [m[1] for m in AFTER.finditer(text) if m[0].startswith("####")]:
        return read_number(marked[-1].replace("$", ""))
    if (boxed := last_boxed(text)) is not None:
        return read_number(boxed)
    if said := AFTER.findall(text):
        return read_number(said[-1].replace("$", ""))
    return read_number(text)


def _classify(example: Example, got: float) -> str:
    if got in example.meta["results"]:
        return "stopped_early"
    given = (read_number(number) for number in re.findall(NUMBER, example.inputs["question"]))
    return "copied" if any(found and found[0] == got for found in given) else "wrong_number"
