"""Grade school maths in words (Cobbe et al., 2021, "Training Verifiers to Solve Math Word
Problems"): `openai/gsm8k`, config `main`.

An example's answer is the worked solution, without its <<3*4=12>> marks, so that a demo and SFT
show the way; only the final number is scored. It is looked for as math-verify looks for it: in
\\boxed{}, after "the answer is", else the last one; GSM8K's own "####" comes before all these. A
formula that is not worked out (5/8, 2 + 3) is no number.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from typing import Any

from tasks.known.hub_task import HubTask, Source
from tasks.known.math_answers import last_boxed
from tasks.scorers import NUMBER, read_number, same_number
from tasks.text import MAX_CHARS, shorten
from tasks.types import Example, Score, SplitName

MARKS = re.compile(r"<<[^>\n]*>>")
SIGN = "[-+\u2212]"
DIGITS = rf"(?P<sign>{SIGN}\s?)?\$?(?P<digits>{NUMBER.pattern})"
BETWEEN = rf"[^\d\n]{{0,40}}?(?<!{SIGN})(?<!\.)"  # what ends in a sign or point has cut the number
AFTER = re.compile(
    rf"(?:(?<!#)#{{4,}}+|\banswer(?: is|:)){BETWEEN}{DIGITS}(?P<rest>[^\n]{{0,200}})", re.IGNORECASE
)
ALONE = re.compile(rf"\s*{DIGITS}")
OPERATOR = r"(?:\s?[-+*/^\u2212\u00d7\u00f7]\s?|\}\{)"
GOES_ON = re.compile(rf"{OPERATOR}[($]*\d")
BEGAN = re.compile(rf"[\d)%]{OPERATOR}[($]*$")

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
    said = list(AFTER.finditer(text))
    if marked := [match for match in said if match[0].startswith("#")]:
        return _number_of(marked[-1], marked[-1]["rest"])
    if (boxed := last_boxed(text)) is not None:
        match = ALONE.match(boxed)
        return _number_of(match, boxed[match.end() :]) if match else _last_number(boxed)
    return _number_of(said[-1], said[-1]["rest"]) if said else _last_number(text)


def _number_of(match: re.Match[str], rest: str) -> tuple[float, bool] | None:
    """The number of `match`; where it begins a formula, what stands at the end of that."""
    if GOES_ON.match(rest):
        return _last_number(match["digits"] + rest)
    found = read_number(match["digits"])
    is_minus = (match["sign"] or "+")[0] in "-\u2212"
    return (-found[0], found[1]) if found and is_minus else found


def _last_number(text: str) -> tuple[float, bool] | None:
    last = next(iter(deque(NUMBER.finditer(text), maxlen=1)), None)
    if last is None:
        return None
    start = last.start() + (last[0][0] in "-+\u2212")
    before = text[max(0, start - 8) : start]
    found = None if BEGAN.search(before) else read_number(last[0])
    return (-found[0], found[1]) if found and before.endswith(("-$", "\u2212$")) else found


def _classify(example: Example, got: float) -> str:
    if got in example.meta["results"]:
        return "stopped_early"
    given = (read_number(number) for number in NUMBER.findall(example.inputs["question"]))
    return "copied" if any(found and found[0] == got for found in given) else "wrong_number"
