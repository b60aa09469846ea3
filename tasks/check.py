"""What can be known of a task before a model sees it: `tasklift check TASK`.

A task that scores its own gold answers wrong, leaks test questions into train or gives other
examples in the next process makes every later figure wrong, and silently.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Literal

from tasks.check_tools import wrong_tools
from tasks.few_shot import given_away
from tasks.splits import check_disjoint, describe_overlaps, fold_inputs, is_harmful, required_split
from tasks.text import fold, normalize, shorten
from tasks.types import SPLITS, Example, Prompt, Score, SplitName, Task, TaskError

SAMPLED = 25  # examples a split whose scores are looked at with other texts than their own answer
FEW_TESTS = 100
NAMED = 20  # overlaps that are listed
HOSTILE = (
    "",
    " \n\t ",
    "\0",
    "\ud800",
    "\u202e\u05d0\u05d1\u05d2 \u0639\u0631\u0628\u064a",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467" * 50,
    "<|im_end|>",
    "{}[]()\\ %s %d $1 .*",
    "a" * 5_000 + "!",
    "z " * 500_000,
)

Examples = Mapping[SplitName, Sequence[Example]]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. A warning that is not ok leaves the task usable."""

    check: str
    ok: bool
    detail: str
    severity: Literal["error", "warning"] = "error"
    named: tuple[str, ...] = ()  # the first of what was found, one line each


def check_task(task: Task, spelling: str | None = None) -> list[Finding]:
    """Everything found about a task, in reading order; stops early when a split cannot be opened.

    With `spelling` (what `load_task` took) the examples are compared with those of a new process,
    which is where a set's or `hash`'s order shows.
    """
    splits: dict[SplitName, list[Example]] = {}
    try:
        for name in SPLITS:
            splits[name] = required_split(task, name)
    except TaskError as error:
        return [Finding("splits", False, str(error))]
    sizes = ", ".join(f"{len(examples)} {name}" for name, examples in splits.items())
    return [
        Finding("splits", True, sizes),
        _check_size(splits),
        _check_disjoint(splits),
        _check_duplicates(splits),
        _check_repeatable(task, splits, spelling),
        _check_instruction(task, splits),
        _report("gold answers", _wrong_golds(task, splits), _told_golds(splits)),
        _report("scores", _bad_scores(task, splits), "no text breaks the scorer"),
        _report(
            "feedback",
            _silent_scores(task, splits),
            "every wrong answer is told why",
            severity="warning",
        ),
        *_check_tools(task, splits),
    ]


def _check_tools(task: Task, splits: Examples) -> list[Finding]:
    if not getattr(task, "tools", ()):
        return []
    fine = "they are called as shown, shown answers are right, broken ones have a class"
    return [_report("tools", wrong_tools(task, splits), fine)]


def digest_splits(task: Task) -> str:
    """A hash over every example of every split, in order. Raises TaskError for a bad split."""
    return _digest({name: required_split(task, name) for name in SPLITS})


def _digest(splits: Examples) -> str:
    digest = hashlib.sha256()
    for name, examples in splits.items():
        for example in examples:
            meta = json.dumps(dict(example.meta), sort_keys=True)
            row = (name, example.id, sorted(example.inputs.items()), example.answer, meta)
            digest.update(repr(row).encode())
    return digest.hexdigest()


def _report(
    check: str,
    problems: Iterator[str],
    fine: str,
    severity: Literal["error", "warning"] = "error",
) -> Finding:
    found = list(problems)
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return Finding(check, not found, found[0] + more if found else fine, severity)


def _check_size(splits: Examples) -> Finding:
    count = len(splits["test"])
    enough = count >= FEW_TESTS
    detail = f"{count} test examples" + ("" if enough else ": only large differences will show")
    return Finding("size", enough, detail, "warning")


def _check_disjoint(splits: Examples) -> Finding:
    try:
        overlaps = check_disjoint(splits, allow_overlap=True)
    except TaskError as error:
        return Finding("disjoint", False, str(error))
    if not overlaps:
        return Finding("disjoint", True, "no id and no question, exact or nearly, in two splits")
    harmful = [overlap for overlap in overlaps if is_harmful(overlap)]
    named = tuple(map(str, (harmful or overlaps)[:NAMED]))
    detail = describe_overlaps(harmful or overlaps, splits)
    return Finding("disjoint", False, detail, "error" if harmful else "warning", named)


def check_prompt_file(task: Task, prompt: Prompt) -> Finding:
    """Whether few-shot text that is not from a run holds examples of dev or test.

    Raises TaskError when a split cannot be opened.
    """
    held_out: dict[SplitName, list[Example]] = {
        "dev": required_split(task, "dev"),
        "test": required_split(task, "test"),
    }
    found = list(given_away(prompt, required_split(task, "train"), held_out))
    if not found:
        return Finding("prompt", True, "it holds no example of dev or test")
    detail = f"gives dev or test away in {len(found)} places; take them out"
    return Finding("prompt", False, detail, named=tuple(found[:NAMED]))


def _check_duplicates(splits: Examples) -> Finding:
    def repeats() -> Iterator[str]:
        for name, examples in splits.items():
            seen: dict[object, str] = {}
            for example in examples:
                first = seen.setdefault(fold_inputs(example), example.id)
                if first != example.id:
                    yield f'{name}: "{first}" and "{example.id}" ask the same'

    return _report("duplicates", repeats(), "no split asks the same twice", "warning")


def _check_repeatable(task: Task, splits: Examples, spelling: str | None) -> Finding:
    for name, examples in splits.items():
        try:
            again = required_split(task, name)
        except TaskError as error:
            return Finding("repeatable", False, f"at a second call: {error}")
        if again != list(examples):
            return Finding("repeatable", False, f'split("{name}") differs at its second call')
    if spelling is None:
        return Finding("repeatable", True, "the same examples at a second call")
    detail = _compare_process(splits, spelling)
    return Finding("repeatable", not detail, detail or "the same examples in a new process")


def _compare_process(splits: Examples, spelling: str) -> str:
    """'' when a new process with another hash seed gives the same examples, else what happened."""
    code = (
        "import sys; from tasks.load import load_task; from tasks.check import digest_splits; "
        "print(digest_splits(load_task(sys.argv[1])))"
    )
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    path = os.pathsep.join(entry for entry in sys.path if entry)
    result = subprocess.run(
        [sys.executable, "-c", code, spelling],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path},
    )
    if result.returncode:
        last = result.stderr.strip().rpartition("\n")[2]
        return f"cannot be loaded in a new process: {last}"
    if result.stdout.strip().rpartition("\n")[2] == _digest(splits):
        return ""
    return "other examples in a new process; sort sets, seed random, use hashlib for hash()"


def _check_instruction(task: Task, splits: Examples) -> Finding:
    instruction = fold(task.instruction)

    def baked() -> Iterator[str]:
        for name, examples in splits.items():
            for example in examples:
                if instruction and any(instruction in fold(t) for t in example.inputs.values()):
                    yield f'{name}: the inputs of "{example.id}" hold the instruction; take it out'

    return _report("instruction", baked(), "no input holds the instruction")


def _told_golds(splits: Examples) -> str:
    bare = sum(not example.answer for examples in splits.values() for example in examples)
    none = f"; {bare} have none, which SFT and demos need" if bare else ""
    return f"every answer scores 1 and correct{none}"


def _wrong_golds(task: Task, splits: Examples) -> Iterator[str]:
    for name, examples in splits.items():
        for example in examples:
            if not example.answer:  # an open request, which many answers meet
                continue
            score, problem = _try_score(task, example, example.answer)
            if problem:
                yield problem
            elif not (score.correct and score.value == 1.0):
                shown, value = shorten(example.answer, 40), float(score.value)
                yield f'{name}: "{example.id}" scores its own answer "{shown}" {value:g}'


def _bad_scores(task: Task, splits: Examples) -> Iterator[str]:
    for example, text, hostile in _probes(splits):
        score, problem = _try_score(task, example, text)
        shown = shorten(text, 20).replace("\n", " ")
        where = f'score of "{shown}" for "{example.id}"'
        if problem:
            yield problem
        elif hostile and score.correct and _is_odd(example, text):
            yield f"{where} is correct"
        elif wrong := _broken_rule(task, score):
            yield f"{where}: {wrong}"


def _is_odd(example: Example, text: str) -> bool:
    """Whether it is odd that so strange a text is right."""
    return bool(example.answer) and normalize(text) != normalize(example.answer)


def _silent_scores(task: Task, splits: Examples) -> Iterator[str]:
    for example, text, _ in _probes(splits):
        score, problem = _try_score(task, example, text)
        if not problem and not score.correct and not score.feedback:
            yield f'"{shorten(text, 20)}" for "{example.id}" is wrong, and feedback is empty'


def _probes(splits: Examples) -> Iterator[tuple[Example, str, bool]]:
    """(example, text, whether the text is hostile): right answers, wrong ones, and worse."""
    for examples in splits.values():
        sample = examples[:SAMPLED]
        for example in sample[:2]:
            yield from ((example, text, True) for text in HOSTILE)
        for example, other in zip(sample, [*sample[1:], sample[0]], strict=True):
            yield example, example.answer, False
            yield example, other.answer, False


def _broken_rule(task: Task, score: Score) -> str:
    """Which promise of `Score` is broken; '' when none is."""
    if not 0 <= score.value <= 1:
        return f"the value {score.value} is not in [0, 1]"
    if score.correct and score.failure is not None:
        return f'correct, but the failure is "{score.failure}" and not None'
    if not score.correct and score.failure not in task.failure_classes:
        known = ", ".join(task.failure_classes) or "none"
        return f"the failure {score.failure!r} is not declared in failure_classes ({known})"
    return ""


def _try_score(task: Task, example: Example, text: str) -> tuple[Score, str]:
    """The score and '', or any score and what went wrong."""
    try:
        score = task.score(example, text)
    except (Exception, SystemExit) as error:
        shown = shorten(f"{type(error).__name__}: {error}", 80)
        text = shorten(text, 20).replace("\n", " ")
        return Score(0.0, False), f'score of "{text}" for "{example.id}" raised {shown}'
    if not isinstance(score, Score):
        return Score(0.0, False), f"score returned a {type(score).__name__}, not a tasks.Score"
    if odd := _odd_field(score):
        shown = shorten(repr(getattr(score, odd)), 40)
        return Score(0.0, False), f"score returned a Score whose {odd} is {shown}"
    return score, ""


def _odd_field(score: Score) -> str:
    """The field of another type than `Score` declares, '' when there is none."""
    fine = {
        "value": isinstance(score.value, Real),
        "correct": type(score.correct).__name__ in ("bool", "bool_"),  # numpy's as well
        "failure": score.failure is None or isinstance(score.failure, str),
        "feedback": isinstance(score.feedback, str),
        "answer": isinstance(score.answer, str),
    }
    return next((name for name, ok in fine.items() if not ok), "")
