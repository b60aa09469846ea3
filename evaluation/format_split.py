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
    both = a[COMPARED].merge(b[COMPARED], on=ANSWER, suffixes=("_a", "_b"))
    if both.empty:
        raise ValueError("the two arms share no answer; evaluate both on the same split")
    failures = [both[f"failure_{arm}"] for arm in "ab"]
    error = failures[0].eq("error") | failures[1].eq("error")
    names = list(format_failures)
    formal = failures[0].isin(names) | failures[1].isin(names)
    conditions = [error.to_numpy(bool), formal.to_numpy(bool)]
    kind = np.select(conditions, ["error", "format"], "capability")
    difference = both[f"{by}_b"].to_numpy(float) - both[f"{by}_a"].to_numpy(float)
    samples = both.groupby("example_id")["sample"].transform("size").to_numpy(float)
    examples = len(both["example_id"].unique())
    right = both["correct_b"].to_numpy(int) - both["correct_a"].to_numpy(int)
    parts = {k: float((difference / samples)[kind == k].sum()) / examples for k in KINDS}
    fixed = {f"{k}_fixed": int((right[kind == k] > 0).sum()) for k in KINDS}
    broken = {f"{k}_broken": int((right[kind == k] < 0).sum()) for k in KINDS}
    return FormatSplit(n=examples, delta=sum(parts.values()), **parts, **fixed, **broken)


KINDS = ("format", "capability", "error")
