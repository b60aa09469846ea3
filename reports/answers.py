"""What the answers were: which failures are left, and where."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from evaluation.records import CORRECT
from reports import escape
from reports.load import Run
from reports.once import once_a_run

FAILURES = (
    *("arm", "seed", "failure", "count", "share", "meaning"),
    *("example_id", "input", "answer", "gold"),
)
SLICES = ("arm", "seed", "feature", "value", "n", "score")
SHOWN = ["example_id", "inputs", "answer", "text", "gold"]
SLICE_VALUES = 12  # a feature with more values names examples rather than kinds of them
NESTED = (list, dict)
AT_ONCE = 10_000  # texts of JSON


@once_a_run
def failures(run: Run) -> pd.DataFrame:
    """Incorrect answers by class, most frequent first; columns `FAILURES`.

    `share` is of all the arm's answers at that seed. `meaning` explains the class. The example
    is the first such answer; where nothing could be extracted its whole text stands in.
    """
    rows: list[dict[str, Any]] = []
    for arm in run.arms:
        answers = run.answers[arm.eval]
        outcome = run.outcomes[arm.eval]
        codes, first = np.unique(outcome.cat.codes, return_index=True)
        names = outcome.cat.categories[codes]
        example = dict(zip(names, _rows(answers, first), strict=True))
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
    total = sum((Counter(_counts(run.outcomes[key])) for key in keys), Counter())
    return Counter(dict(sorted(total.items())))  # equal counts come by name


@once_a_run
def slices(run: Run) -> pd.DataFrame:
    """Mean score by value of each meta feature; columns `SLICES`. `n` counts answers.

    Features with more than `SLICE_VALUES` values, or values that are lists or mappings, are
    left out.
    """
    keys = list(dict.fromkeys(run.alike[arm.eval] for arm in run.arms))  # they hold all metas
    code_A, metas = pd.factorize(pd.concat([run.answers[key]["meta"] for key in keys]))
    ends = np.cumsum([len(run.answers[key]) for key in keys])
    code_of = dict(zip(keys, np.split(code_A, ends[:-1]), strict=True))
    features = _features(metas.tolist())
    value_of = {
        key: {feature: value_M[codes] for feature, (_, value_M) in features.items()}
        for key, codes in code_of.items()
    }
    rows = [
        (arm.arm, arm.seed, feature, *figures)
        for arm in run.arms
        for feature, value_A in value_of[run.alike[arm.eval]].items()
        for figures in _by_value(features[feature][0], value_A, run.answers[arm.eval])
    ]
    order = {name: i for i, name in enumerate(run.arm_names)}
    rows.sort(key=lambda row: (row[2], row[3], row[1], order[row[0]]))
    return pd.DataFrame(rows, columns=pd.Index(SLICES))


def _counts(outcome: pd.Series) -> dict[str, int]:
    """How many failures of each class, most frequent first, equal counts by name."""
    count_N = np.bincount(outcome.cat.codes, minlength=len(outcome.cat.categories))
    counts = zip(outcome.cat.categories, count_N.tolist(), strict=True)
    found = [(name, n) for name, n in counts if n and name != CORRECT]
    return dict(sorted(found, key=lambda x: (-x[1], x[0])))


def _rows(answers: pd.DataFrame, places: np.ndarray) -> Iterator[dict[str, str]]:
    columns = [answers[name].iloc[places].tolist() for name in SHOWN]
    return (dict(zip(SHOWN, row, strict=True)) for row in zip(*columns, strict=True))


def _shown(answer: Mapping[str, Any]) -> dict[str, str]:
    return {
        "example_id": answer["example_id"],
        "input": asked(answer["inputs"]),
        "answer": answer["answer"] or answer["text"],
        "gold": answer["gold"],
    }


def asked(inputs: str) -> str:
    """What an example asks, one field a line."""
    return escape.storable("\n".join(map(str, json.loads(inputs).values())))


def _features(metas: Sequence[str]) -> dict[str, tuple[list[str], np.ndarray]]:
    """By feature: its values, and which of them each of these texts of JSON has (0: none, 1: the
    first).

    Only the features `slices` shows. An example's text is parsed once, however many answers it
    has, and what it says is kept as one byte a feature.
    """
    values: dict[str, dict[str, int]] = {}
    told: dict[str, tuple[dict[str, int], bytearray] | None] = {}  # None: too many values
    for i, meta in enumerate(_parsed(metas)):
        for feature, value in meta.items():
            if feature not in told:
                told[feature] = {}, bytearray(len(metas))
            kept = told[feature]
            if kept is None or type(value) in NESTED:
                continue
            code, value_M = kept  # of texts as they stand
            text = value if type(value) is str else str(value)
            if text not in code:
                known = values.setdefault(feature, {})
                code[text] = known.setdefault(escape.storable(text), len(known) + 1)
                if len(known) > SLICE_VALUES:
                    told[feature] = None
                    continue
            value_M[i] = code[text]
    return {
        escape.storable(feature): (list(known), np.frombuffer(kept[1], dtype=np.uint8))
        for feature, known in values.items()
        if (kept := told[feature]) is not None
    }


def _parsed(texts: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What each text of JSON says. Many at once: a call of `json.loads` costs more than a text."""
    for start in range(0, len(texts), AT_ONCE):
        yield from json.loads(f"[{','.join(texts[start : start + AT_ONCE])}]")


def _by_value(
    values: list[str], value_A: np.ndarray, answers: pd.DataFrame
) -> list[tuple[str, int, float]]:
    """(value, answers, mean score) for each value that some answer has."""
    n_V = np.bincount(value_A, minlength=len(values) + 1)[1:]
    sum_V = np.bincount(value_A, weights=answers["score"], minlength=len(values) + 1)[1:]
    return [
        (value, int(n), float(total / n))
        for value, n, total in zip(values, n_V, sum_V, strict=True)
        if n
    ]
