"""The prompts of a run: what each arm asks with, and what its methods made of the first one."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from reports.load import Arm, Run
from reports.once import once_a_run
from tasks.types import COT_REQUEST, Prompt

_WORDS = re.compile(r"\s+|\w+|[^\w\s]")
Piece = tuple[str, str]  # same, del or ins; and the words


@dataclass(frozen=True)
class Change:
    """A prompt that some arms ended with, against the one they began with."""

    arms: str
    instruction: list[Piece]
    demos: tuple[tuple[str, str, str], ...]  # question, reasoning, answer
    same_fields: dict[str, str]  # what all the demos have in common, and so is not repeated
    kept_demos: int
    style: tuple[str, str]
    nearest: int | None
    changed: bool


@once_a_run
def prompts(run: Run) -> dict[Arm, Prompt]:
    """The prompt of each arm and seed; absent where the folder has none, or a program asks."""
    start = _read(run.path / "prompt.json")
    found = {arm: _of(run, arm, start) for arm in run.arms}
    return {arm: prompt for arm, prompt in found.items() if prompt is not None}


def changes(run: Run) -> list[Change]:
    """Every different prompt that an arm ended with, in the order of the arms."""
    start = _read(run.path / "prompt.json")
    by_prompt: dict[Prompt | str, list[Arm]] = {}
    for arm, prompt in prompts(run).items():
        by_prompt.setdefault(prompt.to_json(), []).append(arm)
    several = len({arm.seed for arm in run.arms}) > 1
    return [
        _change(start, prompts(run)[arms[0]], _named(arms, several)) for arms in by_prompt.values()
    ]


def programs(run: Run) -> list[str]:
    """The arms that ask with a program of several steps, which no prompt describes."""
    found = [arm for arm in run.arms if arm.stages and _program(run, arm)]
    return list(dict.fromkeys(arm.arm for arm in found))


def shown_to_the_page(run: Run) -> tuple[list[dict[str, Any]], dict[Arm, int]]:
    """Each different prompt once, as JSON, and which of them each arm has."""
    place: dict[str, int] = {}
    of_arm = {arm: place.setdefault(p.to_json(), len(place)) for arm, p in prompts(run).items()}
    told = [json.loads(text) | {"cot_request": COT_REQUEST} for text in place]
    return told, of_arm


def _named(arms: list[Arm], several: bool) -> str:
    return ", ".join(f"{arm.arm} (seed {arm.seed})" if several else arm.arm for arm in arms)


def _change(start: Prompt | None, end: Prompt, arms: str) -> Change:
    before = start or end
    known = set(map(repr, before.demos))
    added = [demo for demo in end.demos if repr(demo) not in known]
    same = {
        name: added[0].inputs[name]
        for name in (end.inputs if len(added) > 1 and len(end.inputs) > 1 else ())
        if len({demo.inputs.get(name) for demo in added}) == 1
    }
    return Change(
        arms=arms,
        instruction=words_changed(before.instruction, end.instruction),
        demos=tuple((_asked(demo.inputs, same), demo.reasoning, demo.output) for demo in added),
        same_fields=same,
        kept_demos=sum(repr(demo) in known for demo in end.demos),
        style=(before.style, end.style),
        nearest=end.nearest,
        changed=before.to_json() != end.to_json(),
    )


def _asked(inputs: Mapping[str, str], same: Mapping[str, str]) -> str:
    return " · ".join(text for name, text in inputs.items() if name not in same)


def words_changed(old: str, new: str) -> list[Piece]:
    """What was taken out and put in, word by word."""
    a, b = _WORDS.findall(old), _WORDS.findall(new)
    found: list[Piece] = []
    matcher = difflib.SequenceMatcher(None, a, b, autojunk=False)
    for what, i1, i2, j1, j2 in matcher.get_opcodes():
        if what == "equal":
            found.append(("same", "".join(a[i1:i2])))
        if what in ("delete", "replace"):
            found.append(("del", "".join(a[i1:i2])))
        if what in ("insert", "replace"):
            found.append(("ins", "".join(b[j1:j2])))
    return found


def _of(run: Run, arm: Arm, start: Prompt | None) -> Prompt | None:
    if not arm.stages:
        return start
    if _program(run, arm):
        return None
    return _read(run.path / "stages" / arm.stages[-1] / "policy" / "prompt.json")


def _program(run: Run, arm: Arm) -> bool:
    path = run.path / "stages" / arm.stages[-1] / "policy" / "policy.json"
    try:
        return bool(json.loads(path.read_text("utf-8")).get("program"))
    except (OSError, ValueError, AttributeError):
        return False


def _read(path: Path) -> Prompt | None:
    """A prompt.json, None where there is none that can be shown: the figures do without."""
    try:
        found = Prompt.from_json(path.read_text("utf-8"))
        found.to_json()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    texts = [found.instruction, found.output, found.style, *found.inputs]
    texts += [text for d in found.demos for text in (d.output, d.reasoning, *d.inputs.values())]
    return found if all(map(partial(_is, str), texts)) else None


def _is(kind: type, value: object) -> bool:
    return isinstance(value, kind)
