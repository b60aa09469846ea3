"""What the answers were: which failures are left, what a change fixed or broke, and where."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd

from evaluation.types import EvalRecord
from reports.load import Arm, ReportError, Run

FAILURES = (
    *("arm", "seed", "failure", "count", "share", "meaning"),
    *("example_id", "input", "answer", "gold"),
)
FLOW = ("seed", "from", "to", "kind", "count")
SLICES = ("arm", "seed", "feature", "value", "n", "score")
SLICE_VALUES = 12  # a feature with more values names examples rather than kinds of them
CORRECT = "correct"


def failures(run: Run) -> pd.DataFrame:
    """Incorrect answers by class, most frequent first; columns `FAILURES`.

    `share` is of all the arm's answers at that seed. `meaning` explains the class. The example
    is the first such answer; where nothing could be extracted its whole text stands in.
    """
    rows: list[dict[str, Any]] = []
    for arm in run.arms:
        records = run.answers[arm.eval]
        first: dict[str, EvalRecord] = {}
        for record in records:
            first.setdefault(_outcome(record), record)
        for failure, count in _outcomes(records).most_common():
            if failure != CORRECT:
                rows.append(
                    {"arm": arm.arm, "seed": arm.seed, "failure": failure, "count": count}
                    | {"share": count / len(records), "meaning": run.meaning(failure)}
                    | _shown(first[failure])
                )
    return pd.DataFrame(rows, columns=pd.Index(FAILURES))


def still_failing(run: Run, name: str) -> Counter[str]:
    """How many answers of an arm, all seeds together, fell into each failure class."""
    counts = _outcomes(r for arm in run.arms if arm.arm == name for r in run.answers[arm.eval])
    del counts[CORRECT]
    return counts


def flow(run: Run, a: str, b: str) -> pd.DataFrame:
    """What became of arm a's answers in arm b, by class and seed; columns `FLOW`.

    `kind` is fixed (right in b only), broken (right in a only), still-correct, still (wrong in
    both, same class) or changed (wrong in both, another class). Answers are paired by example id
    and sample; ones without a partner are left out.

    Raises ReportError when the run has no such arm, or no seed that both were evaluated with.
    """
    for name in (a, b):
        if name not in run.arm_names:
            raise ReportError(f"no arm {name!r} in {run.path}; it has {', '.join(run.arm_names)}")
    both = [(x, y) for x in run.arms for y in run.arms if (x.arm, y.arm) == (a, b)]
    rows = [row for x, y in both if x.seed == y.seed for row in _moves(run, x, y)]
    if not rows:
        raise ReportError(f"{run.path}: {a} and {b} share no seed")
    return pd.DataFrame(rows, columns=pd.Index(FLOW))


def slices(run: Run) -> pd.DataFrame:
    """Mean score by value of each meta feature; columns `SLICES`. `n` counts answers.

    Features with more than `SLICE_VALUES` values, or values that are lists or mappings, are
    left out.
    """
    scores: dict[tuple[str, int, str, str], list[float]] = defaultdict(list)
    for arm in run.arms:
        for record in run.answers[arm.eval]:
            for feature, value in _features(record):
                scores[arm.arm, arm.seed, feature, value].append(record.score)
    values: dict[str, set[str]] = defaultdict(set)
    for _, _, feature, value in scores:
        values[feature].add(value)
    rows = [
        (arm, seed, feature, value, len(scores_), sum(scores_) / len(scores_))
        for (arm, seed, feature, value), scores_ in scores.items()
        if len(values[feature]) <= SLICE_VALUES
    ]
    order = {name: i for i, name in enumerate(run.arm_names)}
    rows.sort(key=lambda row: (row[2], row[3], row[1], order[row[0]]))
    return pd.DataFrame(rows, columns=pd.Index(SLICES))


def _outcome(record: EvalRecord) -> str:
    return CORRECT if record.correct else record.failure or "unclassified"


def _outcomes(records: Iterable[EvalRecord]) -> Counter[str]:
    return Counter(sorted(map(_outcome, records)))  # sorted: equal counts come by name


def _shown(record: EvalRecord) -> dict[str, str]:
    return {
        "example_id": record.example_id,
        "input": "\n".join(map(str, json.loads(record.inputs).values())),
        "answer": record.answer or record.text,
        "gold": record.gold,
    }


def _moves(run: Run, a: Arm, b: Arm) -> list[dict[str, Any]]:
    after = {(r.example_id, r.sample): _outcome(r) for r in run.answers[b.eval]}
    moves = Counter(
        (_outcome(r), after[r.example_id, r.sample])
        for r in run.answers[a.eval]
        if (r.example_id, r.sample) in after
    )
    return [
        {"seed": a.seed, "from": old, "to": new, "kind": _kind(old, new), "count": count}
        for (old, new), count in sorted(moves.items(), key=lambda item: (-item[1], item[0]))
    ]


def _kind(old: str, new: str) -> str:
    if old == new:
        return "still-correct" if old == CORRECT else "still"
    if CORRECT in (old, new):
        return "fixed" if new == CORRECT else "broken"
    return "changed"


def _features(record: EvalRecord) -> Iterator[tuple[str, str]]:
    for feature, value in json.loads(record.meta).items():
        if not isinstance(value, (list, dict)):
            yield feature, str(value)
