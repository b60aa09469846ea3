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
RANKED = ("error", "format", "capability")  # what a pair is put down to, the first of its two
READ = (("correct", bool), ("score", float))


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
    """Split b - a (frames of answers, columns of `EvalRecord`) into format and capability.

    `by` says whose difference is split: the share of right answers, or the mean score. Answers
    are paired by example and sample, ones without a partner left out; the samples of one example
    weigh as much as one answer. Where b fails on format but a did so too, nothing of *correct*
    has changed, and a changed partial score counts as format.

    Raises ValueError when the two have no answer in common.
    """
    return split(told(a, format_failures), told(b, format_failures), paired(a, b), by)


@dataclass(frozen=True, eq=False)
class Told:
    """An arm's answers as numbers, in their order: a million texts are slow to compare.

    `kind_A` is the place in `RANKED` of what the answer failed on, if on anything.
    """

    kind_A: np.ndarray
    correct_A: np.ndarray
    score_A: np.ndarray


@dataclass(frozen=True, eq=False)
class Paired:
    """Which answer of a and which of b are to the same sample of the same example.

    `examples` is how many there are, `samples_P` how many pairs the example of each pair has.
    """

    a_P: np.ndarray
    b_P: np.ndarray
    examples: int
    samples_P: np.ndarray


def told(answers: pd.DataFrame, format_failures: Collection[str]) -> Told:
    """What `split` reads of an arm's answers."""
    code_A, classes = pd.factorize(answers["failure"])  # -1: missing
    kinds = ["error" if c == "error" else "format" if c in format_failures else "" for c in classes]
    rank_C = np.array([RANKED.index(kind or "capability") for kind in [*kinds, ""]])
    correct_A, score_A = (answers[name].to_numpy(dtype) for name, dtype in READ)
    return Told(rank_C[code_A], correct_A, score_A)


def paired(a: pd.DataFrame, b: pd.DataFrame) -> Paired:
    """The answers of both arms (columns `ANSWER`) to the same sample of the same example.

    Raises ValueError where there is none.
    """
    if all(
        a[name].reset_index(drop=True).equals(b[name].reset_index(drop=True)) for name in ANSWER
    ):
        a_P = b_P = np.arange(len(a))  # as a run writes them: nothing to look up
    else:
        places = [x.loc[:, ANSWER].assign(place=np.arange(len(x))) for x in (a, b)]
        both = places[0].merge(places[1], on=ANSWER, suffixes=("_a", "_b"))
        a_P, b_P = (both[name].to_numpy(int) for name in ("place_a", "place_b"))
    if not len(a_P):
        raise ValueError("the two arms share no answer; evaluate both on the same split")
    sample_P = a["sample"].to_numpy()[a_P]
    if (sample_P == sample_P[0]).all():
        return Paired(a_P, b_P, len(a_P), np.ones(len(a_P)))
    code_P, examples = pd.factorize(a["example_id"].iloc[a_P])
    return Paired(a_P, b_P, len(examples), np.bincount(code_P)[code_P])


def split(a: Told, b: Told, of: Paired, by: Literal["correct", "score"]) -> FormatSplit:
    """`format_split` of what was read, so that many pairs of arms share the reading."""
    kind_P = np.minimum(a.kind_A[of.a_P], b.kind_A[of.b_P])
    a_P, b_P = a.correct_A[of.a_P], b.correct_A[of.b_P]
    if by == "score":
        difference_P = b.score_A[of.b_P] - a.score_A[of.a_P]
    else:
        difference_P = b_P.astype(float) - a_P
    weighed_P = difference_P / of.samples_P
    masks = {kind: kind_P == RANKED.index(kind) for kind in KINDS}
    parts = {k: float(weighed_P[mask].sum()) / of.examples for k, mask in masks.items()}
    fixed = {f"{k}_fixed": _count(mask & b_P & ~a_P) for k, mask in masks.items()}
    broken = {f"{k}_broken": _count(mask & a_P & ~b_P) for k, mask in masks.items()}
    return FormatSplit(n=of.examples, delta=sum(parts.values()), **parts, **fixed, **broken)


def _count(mask: np.ndarray) -> int:
    return int(np.count_nonzero(mask))
