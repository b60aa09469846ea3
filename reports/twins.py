"""Two runs of one task, arm against arm: paired where they asked the same, and it says how often.

Two runs may have asked other examples: more of them, or with changed words. An example is the same
where id, inputs and right answer are; only those are compared. What two runs have in common is put
into a run of its own, so that the figures are those of any other comparison.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from evaluation.compare import adjust
from reports.columns import typed
from reports.load import Arm, ReportError, Run
from reports.tables import PAIRS, best_arm, comparisons, pair

SAME = ["example_id", "inputs", "gold"]
COMPARE = ("run_a", "arm_a", "run_b", "arm_b", *PAIRS[2:])


@dataclass(frozen=True)
class Twins:
    """`table` has a row for each pair of arms, columns `COMPARE`; `notes` say what matched, and
    what else the runs differ in. `joined` are the runs behind the rows, arms named "run: arm"."""

    table: pd.DataFrame
    notes: tuple[str, ...]
    joined: tuple[Run, ...]


def compare_runs(
    a: Run, b: Run, arm_a: str | None = None, arm_b: str | None = None, margin: float | None = None
) -> Twins:
    """Run b against run a. Without arms, every arm that both have by name, and the best of each;
    with one, the arm of the same name in the other, else its best. p is adjusted over the rows.

    Seeds are paired by number, in order where no number is in both: then they are other draws.
    Raises ReportError on another task, on an unknown arm and where no example is the same.
    """
    if a.info["task"] != b.info["task"]:
        raise ReportError(
            f"{a.path} is of task {a.info['task']!r}, {b.path} of {b.info['task']!r}; "
            "compare runs of the same task"
        )
    chosen = _chosen(a, b, arm_a, arm_b)
    first, second = _names(a, b)
    found = [_join(a, b, x, y, f"{first}: {x}", f"{second}: {y}") for x, y in chosen]
    joined = tuple(run for run, _ in found)
    family = adjust([next(iter(comparisons(run).values())) for run in joined])
    rows = []
    for run, (x, y), met in zip(joined, chosen, family, strict=True):
        row = pair(run, *run.arm_names, margin=margin).assign(p_adjusted=met.p_adjusted)
        rows.append(row.assign(run_a=first, arm_a=x, run_b=second, arm_b=y))
    table = pd.concat(rows, ignore_index=True)
    more = [name for name in table.columns if name not in COMPARE]
    notes = [*dict.fromkeys(line for _, line in found), *_differences(a, b)]
    return Twins(typed("compare", table.loc[:, [*COMPARE, *more]]), tuple(notes), joined)


def _chosen(a: Run, b: Run, arm_a: str | None, arm_b: str | None) -> list[tuple[str, str]]:
    for run, arm in ((a, arm_a), (b, arm_b)):
        if arm is not None and arm not in run.arm_names:
            names = ", ".join(run.arm_names)
            raise ReportError(f"no arm {arm!r} in {run.path}; write one of {names}")
    both = [name for name in a.arm_names if name in b.arm_names]
    if arm_a is None and arm_b is None and both:
        pairs = [(name, name) for name in both]
        top = (best_arm(a), best_arm(b))
        return pairs if top in pairs else [*pairs, top]
    x = arm_a or (arm_b if arm_b in both else None) or best_arm(a)
    y = arm_b or (arm_a if arm_a in both else None) or best_arm(b)
    return [(x, y)]


def _names(a: Run, b: Run) -> tuple[str, str]:
    first, second = a.info["name"], b.info["name"]
    return (first, second) if first != second else (str(a.path), str(b.path))


def _join(a: Run, b: Run, x: str, y: str, told_x: str, told_y: str) -> tuple[Run, str]:
    """A run of these two arms and the examples that both were asked, and what matched."""
    if told_x == told_y:
        raise ReportError(f"{told_x!r} against itself; write two different runs or arms")
    of_a = [arm for arm in a.arms if arm.arm == x]
    of_b = [arm for arm in b.arms if arm.arm == y]
    asked_a, asked_b = a.answers[of_a[0].eval], b.answers[of_b[0].eval]
    same, line = _matched(asked_a, asked_b)
    if same.empty:
        raise ReportError(f"{a.path} and {b.path}: no example is the same; {line}")
    numbers = [(i, i) for i in (arm.seed for arm in of_a) if i in {arm.seed for arm in of_b}]
    if not numbers:
        numbers = [(one.seed, other.seed) for one, other in zip(of_a, of_b, strict=False)]
        line += "; no seed is in both, so they are paired in order"
    arms, answers = list[Arm](), dict[str, pd.DataFrame]()
    for side, told, number in ((0, told_x, of_a), (1, told_y, of_b)):
        by_seed = {arm.seed: arm for arm in number}
        for both in numbers:
            key, run = f"{side}/{by_seed[both[side]].eval}", (a, b)[side]
            arms.append(Arm(told, both[0], (), key))
            answers[key] = _only(run.answers[by_seed[both[side]].eval], same)
    info = a.info | {"baseline": told_x}
    empty: dict[str, Any] = {"stages": {}, "metrics": {}, "audits": {}, "test_ledgers": {}}
    return replace(a, info=info, arms=tuple(arms), answers=answers, notes=(), **empty), line


def _matched(a: pd.DataFrame, b: pd.DataFrame) -> tuple[pd.Index, str]:
    """The ids of the examples that are the same, and a line on those and the others."""
    one, other = (frame.drop_duplicates("example_id").loc[:, SAME] for frame in (a, b))
    same = pd.Index(one.merge(other, on=SAME)["example_id"])
    ids = pd.Index(one["example_id"]).intersection(pd.Index(other["example_id"]))
    changed = len(ids) - len(same)
    said = [f"{len(same):,} examples match by id, inputs and right answer"]
    if changed:
        said.append(f"{changed:,} have the same id and other inputs or another answer")
    for where, frame in (("first", one), ("second", other)):
        if alone := len(frame) - len(ids):
            said.append(f"{alone:,} are in the {where} run only")
    return same, ", ".join(said)


def _only(answers: pd.DataFrame, ids: pd.Index) -> pd.DataFrame:
    kept = pd.Index(answers["example_id"]).isin(ids)
    return answers if bool(np.all(kept)) else answers.loc[kept].reset_index(drop=True)


def _differences(a: Run, b: Run) -> list[str]:
    """What else is not the same, a line each."""
    told = {
        "model_fingerprint": f"the models differ: {a.info['model']} and {b.info['model']}",
        "task_hash": "the task's source differs, so scoring or prompts may have changed in between",
    }
    lines = [line for name, line in told.items() if a.info[name] != b.info[name]]
    if (exams := _exams(a) | _exams(b)) and len(exams) > 1:
        lines.append("the exams differ (test examples, scoring or sampling)")
    return lines


def _exams(run: Run) -> set[Any]:
    rows = json.loads((run.path / "arms.json").read_text("utf-8"))
    return {row["exam"] for row in rows if row.get("exam")}
