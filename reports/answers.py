"""What the answers were: which failures are left, what a change fixed or broke, and where."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from reports.load import Arm, ReportError, Run

FAILURES = (
    *("arm", "seed", "failure", "count", "share", "meaning"),
    *("example_id", "input", "answer", "gold"),
)
FLOW = ("seed", "from", "to", "kind", "count")
SLICES = ("arm", "seed", "feature", "value", "n", "score")
SLICE_VALUES = 12  # a feature with more values names examples rather than kinds of them
CORRECT = "correct"
UNCLASSIFIED = "unclassified"
PAIRED = ["example_id", "sample"]


def failures(run: Run) -> pd.DataFrame:
    """Incorrect answers by class, most frequent first; columns `FAILURES`.

    `share` is of all the arm's answers at that seed. `meaning` explains the class. The example
    is the first such answer; where nothing could be extracted its whole text stands in.
    """
    rows: list[dict[str, Any]] = []
    for arm in run.arms:
        answers = run.answers[arm.eval]
        outcome = outcomes(answers)
        first = ~outcome.duplicated()
        example = dict(zip(outcome[first], answers.loc[first].to_dict("records"), strict=True))
        for failure, count in _counts(outcome).items():
            rows.append(
                {"arm": arm.arm, "seed": arm.seed, "failure": failure, "count": count}
                | {"share": count / len(answers), "meaning": run.meaning(failure)}
                | _shown(example[failure])
            )
    return pd.DataFrame(rows, columns=pd.Index(FAILURES))


def still_failing(run: Run, name: str) -> Counter[str]:
    """How many answers of an arm, all seeds together, fell into each failure class."""
    keys = [arm.eval for arm in run.arms if arm.arm == name]
    return Counter(_counts(pd.concat([outcomes(run.answers[key]) for key in keys])))


def outcomes(answers: pd.DataFrame) -> pd.Series:
    """`CORRECT`, or the failure class, of each answer; `UNCLASSIFIED` where it has none."""
    classes = answers["failure"].replace("", None).fillna(UNCLASSIFIED)
    return pd.Series(classes.mask(answers["correct"], CORRECT))


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
    keys = list(dict.fromkeys(arm.eval for arm in run.arms))
    code_A, metas = pd.factorize(pd.concat([run.answers[key]["meta"] for key in keys]))
    ends = np.cumsum([len(run.answers[key]) for key in keys])
    code_of = dict(zip(keys, np.split(code_A, ends[:-1]), strict=True))
    features = _features(list(metas))
    rows = [
        (arm.arm, arm.seed, feature, *figures)
        for arm in run.arms
        for feature, (values, value_M) in features.items()
        for figures in _by_value(values, value_M[code_of[arm.eval]], run.answers[arm.eval])
    ]
    order = {name: i for i, name in enumerate(run.arm_names)}
    rows.sort(key=lambda row: (row[2], row[3], row[1], order[row[0]]))
    return pd.DataFrame(rows, columns=pd.Index(SLICES))


def _counts(outcome: pd.Series) -> dict[str, int]:
    """How many failures of each class, most frequent first, equal counts by name."""
    counts = outcome.value_counts().drop(CORRECT, errors="ignore")
    found = sorted(zip(counts.index, counts.tolist(), strict=True), key=lambda x: (-x[1], x[0]))
    return dict(found)


def _shown(answer: Mapping[str, Any]) -> dict[str, str]:
    return {
        "example_id": answer["example_id"],
        "input": "\n".join(map(str, json.loads(answer["inputs"]).values())),
        "answer": answer["answer"] or answer["text"],
        "gold": answer["gold"],
    }


def _moves(run: Run, a: Arm, b: Arm) -> list[dict[str, Any]]:
    old, new = (
        run.answers[arm.eval][PAIRED].assign(outcome=outcomes(run.answers[arm.eval]))
        for arm in (a, b)
    )
    met = old.merge(new, on=PAIRED, suffixes=("_a", "_b"))
    moves = Counter(met.value_counts(["outcome_a", "outcome_b"]).to_dict())
    return [
        {"seed": a.seed, "from": x, "to": y, "kind": _kind(x, y), "count": count}
        for (x, y), count in sorted(moves.items(), key=lambda item: (-item[1], item[0]))
    ]


def _kind(old: str, new: str) -> str:
    if old == new:
        return "still-correct" if old == CORRECT else "still"
    if CORRECT in (old, new):
        return "fixed" if new == CORRECT else "broken"
    return "changed"


def _features(metas: Sequence[str]) -> dict[str, tuple[list[str], np.ndarray]]:
    """By feature: its values, and which of them each of these texts of JSON has (-1: none).

    Only the features `slices` shows. An example's text is parsed once, however many answers it
    has, and what it says is kept as one byte a feature.
    """
    values: dict[str, dict[str, int]] = {}
    value_M: dict[str, np.ndarray] = {}
    for i, meta in enumerate(metas):
        for feature, value in json.loads(meta).items():
            if isinstance(value, list | dict):
                continue
            known = values.setdefault(feature, {})
            if len(known) > SLICE_VALUES:
                continue
            if feature not in value_M:
                value_M[feature] = np.full(len(metas), -1, dtype=np.int8)
            value_M[feature][i] = known.setdefault(str(value), len(known))
    return {
        feature: (list(known), value_M[feature])
        for feature, known in values.items()
        if len(known) <= SLICE_VALUES
    }


def _by_value(
    values: list[str], value_A: np.ndarray, answers: pd.DataFrame
) -> list[tuple[str, int, float]]:
    """(value, answers, mean score) for each value that some answer has."""
    known_A = value_A >= 0
    score_A = answers["score"].to_numpy()[known_A]
    n_V = np.bincount(value_A[known_A], minlength=len(values))
    sum_V = np.bincount(value_A[known_A], weights=score_A, minlength=len(values))
    return [
        (value, int(n), float(total / n))
        for value, n, total in zip(values, n_V, sum_V, strict=True)
        if n
    ]
