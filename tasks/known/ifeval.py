"""Instructions a program can check, one by one (Zhou et al., 2023, "Instruction-Following
Evaluation for Large Language Models"): `google/IFEval`, 541 prompts, which are the test.

`value` is the share of a prompt's instructions that the reply follows, `correct` that it follows
all; the mean of `value` weighs prompts alike, not instructions. `ifeval` judges strictly,
`ifeval-loose` as the authors' loose accuracy does. There are no reference replies, so the answers
of test are empty; train and dev are made by `ifeval_made`, replies included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tasks.hub import hub_rows
from tasks.known import ifeval_made, ifeval_rules
from tasks.known.ifeval_rules import FAILURES, FAMILIES, RULES, follows, follows_loosely
from tasks.text import shorten
from tasks.types import Example, Score, SplitName, Task, TaskError

MAX_CHARS = 20_000


class IFEval(Task):
    """400 prompts for train and 100 for dev, made here, and the 541 of the paper for test."""

    name = "ifeval"
    instruction = "Answer the request and follow every instruction in it."
    inputs = ("request",)
    output = "reply"
    failure_classes = FAILURES
    format_failures = ("empty",)
    files = (Path(ifeval_made.__file__), Path(ifeval_rules.__file__))
    loose = False

    def split(self, name: SplitName) -> Sequence[Example]:
        if lacking := ifeval_rules.missing():
            raise TaskError(f"ifeval needs {', '.join(lacking)}: pip install 'tasklift[tasks]'")
        return _read_test() if name == "test" else _make(name)

    def score(self, example: Example, text: str) -> Score:
        text = text[:MAX_CHARS]
        if not text.strip():
            return Score(0.0, False, "empty", "The answer is empty; follow every instruction.")
        told, results = shorten(text), self.judge(example, text)
        if all(results):
            return Score(1.0, True, answer=told)
        failed = [rule for rule, ok in zip(example.meta["rules"], results, strict=True) if not ok]
        families = {rule.partition(":")[0] for rule in failed}
        failure = families.pop() if len(families) == 1 else "several"
        if not self.loose and all(judge_rules(example, text, loose=True)):
            failure = "loose_only"
        why = f"Not followed: {', '.join(failed)}. {FAILURES[failure]}"
        return Score(sum(results) / len(results), False, failure, why, told)

    def judge(self, example: Example, text: str) -> list[bool]:
        """For each instruction, in the order of `meta["rules"]`, whether it is followed."""
        return judge_rules(example, text, self.loose)


class IFEvalLoose(IFEval):
    """The same prompts, judged as the paper's loose accuracy does."""

    name = "ifeval-loose"
    loose = True


def judge_rules(example: Example, text: str, loose: bool) -> list[bool]:
    check = follows_loosely if loose else follows
    given = zip(example.meta["rules"], example.meta["arguments"], strict=True)
    return [check(rule, arguments, text) for rule, arguments in given]


def _read_test() -> list[Example]:
    rows = hub_rows("google/IFEval", None, "train")
    return [_build(f"ifeval-{row['key']}", row["prompt"], "", _rules(row)) for row in rows]


def _rules(row: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The columns of a row list every argument there is, most of them empty."""
    rules = row["instruction_id_list"]
    if unknown := sorted({*rules} - {*RULES}):
        raise TaskError(f'dataset "google/IFEval": no rule "{unknown[0]}" here; use another copy')
    given = [{k: v for k, v in a.items() if v} for a in row["kwargs"]]
    return list(zip(rules, given, strict=True))


@cache
def _make(name: str) -> tuple[Example, ...]:
    made = ifeval_made.make_prompts(name)
    return tuple(_build(f"{name}-{n}", m.prompt, m.reply, m.rules) for n, m in enumerate(made))


def _build(id: str, prompt: str, reply: str, rules: Sequence[tuple[str, Any]]) -> Example:
    named = {rule.partition(":")[0] for rule, _ in rules}
    meta = {"instructions": len(rules), **{family: family in named for family in FAMILIES}}
    meta |= {"rules": [rule for rule, _ in rules], "arguments": [given for _, given in rules]}
    return Example(id, {"request": prompt}, reply, meta)
