"""How much of a difference between two arms is format, and how much is capability?

An arm may gain because the model learned to answer in the form asked for, which a better prompt or
a parser would have given as well, or because it gets right what it got wrong before. Each answer's
difference is put down, whole, to one of the two, so that the parts add up to the difference.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

ANSWER = ["example_id", "sample"]
KINDS = ("format", "capability", "error")
COMPARED = [*ANSWER, "score", "correct", "failure"]


@dataclass(frozen=True)
class FormatSplit:
    """Arm b minus arm a over `n` shared examples, in units of the score (1 is 100 points).

    `delta` is `format` + `capability` + `error`. A difference is one of *error* where either
    answer has the class `error`, else one of *format* where either failed on format, else one of
    *capability*. `*_fixed` and `*_broken` count answers right in b only, and in a only.
    """

    n: int
    delta: float
    format: float
    capability: float
    error: float
    format_fixed: int
    format_broken: int
    capability_fixed: int
    capability_broken: int
    error_fixed: int
    error_broken: int


def format_split(
    a: pd.DataFrame,
    b: pd.DataFrame,
    format_failures: Collection[str],
    by: Literal["correct", "score"] = "correct",
) -> FormatSplit:
    """Split b - a (frames of answers with the columns `COMPARED`) into format and capability.

    `by` says whose difference is split: the share of right answers, or the mean score. Answers
    are paired by example and sample, ones without a partner left out; the samples of one example
    weigh as much as one answer. Where b fails on format but a did so too, nothing of *correct*
    has changed, and a changed partial score counts as format.

    Raises ValueError when the two have no answer in common.
    """
    both = _paired(a.loc[:, COMPARED], b.loc[:, COMPARED])
    if both.empty:
        raise ValueError("the two arms share no answer; evaluate both on the same split")
    failures = [both[f"failure_{arm}"] for arm in "ab"]
    error, formal = (
        failures[0].isin(which).to_numpy(bool) | failures[1].isin(which).to_numpy(bool)
        for which in (["error"], list(format_failures))
    )
    places = {
        kind: place for place, kind in enumerate(KINDS)
    }  # a million texts are slow to compare
    code = np.select([error, formal], [places["error"], places["format"]], places["capability"])
    difference = both[f"{by}_b"].to_numpy(float) - both[f"{by}_a"].to_numpy(float)
    examples, samples = _samples(both)
    right = both["correct_b"].to_numpy(int) - both["correct_a"].to_numpy(int)
    of = {kind: code == place for kind, place in places.items()}
    parts = {k: float((difference / samples)[of[k]].sum()) / examples for k in KINDS}
    fixed = {f"{k}_fixed": int((right[of[k]] > 0).sum()) for k in KINDS}
    broken = {f"{k}_broken": int((right[of[k]] < 0).sum()) for k in KINDS}
    return FormatSplit(n=examples, delta=sum(parts.values()), **parts, **fixed, **broken)


def _paired(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Both arms' answers to the same sample of the same example, side by side."""
    if all(
        a[name].reset_index(drop=True).equals(b[name].reset_index(drop=True)) for name in ANSWER
    ):
        # as a run writes them: nothing to look up
        first, second = (x.drop(columns=ANSWER).reset_index(drop=True) for x in (a, b))
        told = [a[ANSWER].reset_index(drop=True), first.add_suffix("_a"), second.add_suffix("_b")]
        return pd.concat(told, axis=1)
    return a.merge(b, on=ANSWER, suffixes=("_a", "_b"))


def _samples(both: pd.DataFrame) -> tuple[int, np.ndarray]:
    """How many examples there are, and of each answer, how many its example has."""
    if (both["sample"] == both["sample"].iloc[0]).all():
        return len(both), np.ones(len(both))
    code_A, examples = pd.factorize(both["example_id"])
    return len(examples), np.bincount(code_A)[code_A]
