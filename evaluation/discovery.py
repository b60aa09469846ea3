"""Where do failures concentrate? Subgroups of examples, found on one half, confirmed on the other.

A subgroup is one condition on the question (`evaluation.features`) or two at once. On one half of
the examples, the *discovery half*, every single condition is tested, and the strongest are combined
with every other; the exact test is Fisher's, one-sided, and Benjamini and Hochberg's procedure
(1995) keeps the expected share of false ones among the found below `FDR`, for each depth of search
and for all failures and their classes apart. What is left after pruning is tested once more on the
*held-out half*, which took no part in choosing it; Holm's procedure (1979) over those few keeps the
chance of reporting any false one low, however many conditions were tried. Then the halves change
roles, since either may happen to hold too few failures to find anything. Each of the two may err
with half of `LEVEL`, so that the whole errs with no more than `LEVEL`.

Two simplifications. An example is one case, however many samples or seeds answered it: it counts as
failing when enough of its answers fail, enough being what brings the share of failing examples
closest to one half. And a condition is tried against what it adds: a pair counts only if each of
its conditions matters where the other holds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import pandas as pd

from evaluation.candidates import FEWEST, Candidate, Conditioned, significant
from evaluation.exact import holm, upper_tail
from evaluation.features import Conditions, conditions

LEVEL = 0.05
SUPPORT = 0.02  # of the examples of a half: a smaller subgroup is not looked for
REDUNDANT = 0.01  # what a subgroup must still show besides those already taken
MOST = {True: 6, False: 3}  # subgroups reported of all failures, of one class
CLASSES = 6  # failure classes looked into, the most frequent
OVERLAP = 0.9  # of a subgroup's examples: it lies inside another one
ALIKE, NEAR = 0.8, 100  # shared examples, and ratio of p, of subgroups that are as good as one
LIFT = 1.2  # a subgroup that fails less above the whole is mostly the whole without an exception
LONGEST = 300  # candidates looked at for each target
ANY = ""


@dataclass(frozen=True)
class Half:
    """A subgroup in one half of the examples: answers, and how many of them fail."""

    n: int
    failures: int


@dataclass(frozen=True)
class Subgroup:
    """Failures of the kind `target` (`ANY`: of all kinds) concentrate where all `terms` hold.

    `n` and `failures` count answers in it, both halves together; `rate` is failures / n,
    `rate_outside` that of all other answers, `lift` the rate over that of all answers, `share`
    the share of all such failures that lie in it. `p` is Fisher's one-sided exact test over the
    examples of the half that found it, `p_adjusted` that of the held-out half, adjusted. Rates
    of the whole are those by which it was chosen, and so flatter it; `held` does less, as only
    what it confirms is kept.
    """

    target: str
    terms: tuple[str, ...]
    n: int
    failures: int
    rate: float
    rate_outside: float
    lift: float
    share: float
    p: float
    p_adjusted: float
    found: Half
    held: Half
    examples: frozenset[str] = field(repr=False)

    @property
    def name(self) -> str:
        return " and ".join(self.terms)


def discover(
    answers: pd.DataFrame,
    *,
    targets: Mapping[str, np.ndarray] | None = None,
    depth: int = 2,
) -> list[Subgroup]:
    """The confirmed subgroups where `answers` fail, most failures first; often none.

    `answers` has the columns of `EvalRecord`. `targets` names what counts as failing, a mask over
    the answers each; by default all failures, and each frequent class. `depth` 1 tries single
    conditions only. The order of the rows does not matter, and nothing is random: which half an
    example is in is a hash of its id. Of one target no subgroup is reported twice.
    """
    marked = _targets(answers) if targets is None else targets
    asked = answers.loc[:, ["example_id", "inputs", "meta", "gold"]]
    examples = asked.drop_duplicates("example_id").sort_values("example_id")
    half_E = in_discovery(examples["example_id"])
    minimum = max(FEWEST, int(np.ceil(SUPPORT * len(examples) / 2)))
    every = _common(conditions(examples, 2 * minimum), half_E, minimum)
    place_A = pd.Index(examples["example_id"]).get_indexer(pd.Index(answers["example_id"]))
    cases = [_Case.of(name, mask, place_A, half_E) for name, mask in marked.items()]
    cases = [case for case in cases if case.enough()]
    if not cases or not every.names:
        return []
    confirmed = [
        one
        for roles in (cases, [replace(case, half_E=~case.half_E) for case in cases])
        for one in _confirmed(_search(roles, every, minimum, depth))
    ]
    ids = examples["example_id"].to_numpy()
    found = [
        case.subgroup(terms, holds_E, p, p_adjusted, ids)
        for p_adjusted, (case, terms, holds_E, p) in _once(confirmed, minimum)
    ]
    return sorted(found, key=lambda s: (s.target != ANY, -s.failures, s.target, s.terms))


@lru_cache(maxsize=100_000)
def in_discovery_half(example_id: str) -> bool:
    """Which half an example is in: the same in every run and for every arm."""
    return hashlib.sha256(f"half\0{example_id}".encode()).digest()[0] < 128


def in_discovery(ids: pd.Series) -> np.ndarray:
    """`in_discovery_half` of each id: a mask."""
    return np.array([in_discovery_half(example_id) for example_id in ids.tolist()], dtype=bool)


def _targets(answers: pd.DataFrame) -> dict[str, np.ndarray]:
    wrong = ~answers["correct"].to_numpy(bool)
    counts = answers.loc[wrong, "failure"].value_counts()
    classes = sorted(counts.index, key=lambda name: (-counts[name], name))[:CLASSES]
    of_class = {str(c): wrong & answers["failure"].eq(c).to_numpy(bool) for c in classes}
    # a class that is nearly all of the failures tells nothing of its own
    return {ANY: wrong} | {c: m for c, m in of_class.items() if m.sum() < OVERLAP * wrong.sum()}


def _common(every: Conditions, half_E: np.ndarray, minimum: int) -> Conditions:
    """The conditions that hold of enough examples in both halves."""
    holds_EC = every.holds_EC
    least_C = np.minimum(holds_EC[half_E].sum(0), holds_EC[~half_E].sum(0))
    kept = np.flatnonzero(least_C >= minimum)
    return Conditions(
        [every.names[c] for c in kept], [every.features[c] for c in kept], holds_EC[:, kept]
    )


@dataclass(frozen=True, eq=False)
class _Case:
    """One target: by example its answers, those that fail, and whether it fails as one case."""

    target: str
    answers_E: np.ndarray
    failures_E: np.ndarray
    fails_E: np.ndarray
    half_E: np.ndarray

    @classmethod
    def of(cls, target: str, mask: np.ndarray, place_A: np.ndarray, half_E: np.ndarray) -> _Case:
        size = len(half_E)
        answers_E = np.bincount(place_A, minlength=size)
        failures_E = np.bincount(place_A, weights=mask, minlength=size).astype(int)
        rate_E = failures_E / answers_E
        cuts = np.unique(rate_E[rate_E > 0])
        gaps = [abs((rate_E >= cut).mean() - 0.5) for cut in cuts]
        cut = cuts[int(np.argmin(gaps))] if len(cuts) else 1.0
        return cls(target, answers_E, failures_E, rate_E >= cut, half_E)

    def enough(self) -> bool:
        """Whether both halves hold failing examples, and ones that do not fail."""
        counts = [self.fails_E[half].sum() for half in (self.half_E, ~self.half_E)]
        return min(counts) >= FEWEST and self.fails_E.sum() < len(self.fails_E)

    def p_held(self, holds_E: np.ndarray) -> float:
        fails_E, inside_E = self.fails_E[~self.half_E], holds_E[~self.half_E]
        return float(
            upper_tail((fails_E & inside_E).sum(), inside_E.sum(), fails_E.sum(), len(fails_E))
        )

    def subgroup(
        self,
        terms: tuple[str, ...],
        holds_E: np.ndarray,
        p: float,
        adjusted: float,
        ids: np.ndarray,
    ) -> Subgroup:
        n, failures = self._count(holds_E)
        n_all, failures_all = self._count(np.ones_like(holds_E))
        outside = (failures_all - failures) / max(1, n_all - n)
        return Subgroup(
            target=self.target,
            terms=terms,
            n=n,
            failures=failures,
            rate=failures / n,
            rate_outside=outside,
            lift=(failures / n) / (failures_all / n_all),
            share=failures / failures_all,
            p=p,
            p_adjusted=adjusted,
            found=Half(*self._count(holds_E & self.half_E)),
            held=Half(*self._count(holds_E & ~self.half_E)),
            examples=frozenset(ids[holds_E]),
        )

    def _count(self, holds_E: np.ndarray) -> tuple[int, int]:
        return int(self.answers_E[holds_E].sum()), int(self.failures_E[holds_E].sum())


def _confirmed(chosen: Sequence[_Chosen]) -> list[tuple[float, _Chosen]]:
    """Those that the held-out half confirms, with the p it adjusts to: twice Holm's, since each
    half is held out once."""
    adjusted = holm([case.p_held(holds_E) for case, _, holds_E, _ in chosen])
    rows = zip(adjusted, chosen, strict=True)
    return [(min(1.0, 2 * p), one) for p, one in rows if 2 * p <= LEVEL]


def _once(confirmed: Sequence[tuple[float, _Chosen]], minimum: int) -> list[tuple[float, _Chosen]]:
    """Without what both halves found: the surest first, later ones only if they add to it."""
    kept: list[tuple[float, _Chosen]] = []
    for p, one in sorted(confirmed, key=lambda x: (x[0], x[1][1])):
        case, _, holds_E, _ = one
        masks = [other[2] for _, other in kept if other[0].target == case.target]
        alike = any(_alike(holds_E, mask) for mask in masks)
        if not alike and _adds(holds_E, masks, case.fails_E, minimum):
            kept.append((p, one))
    return kept


_Chosen = tuple[_Case, tuple[str, ...], np.ndarray, float]  # of which examples it holds, and p


def _search(cases: Sequence[_Case], every: Conditions, minimum: int, depth: int) -> list[_Chosen]:
    """What is significant on the discovery half, without what the rest already says."""
    half_E = cases[0].half_E  # that of all
    feature_C = np.unique(every.features, return_inverse=True)[1]
    half = Conditioned(every.holds_EC[half_E].astype(np.float32), feature_C, minimum)
    fails_FE = np.stack([case.fails_E[half_E] for case in cases])
    singles = half.singles(fails_FE)
    tries = [singles]
    if depth > 1:
        tries.append(half.pairs(fails_FE, [p_C for p_C, _ in singles]))
    kept: list[list[Candidate]] = [[] for _ in cases]
    first = [case.target == ANY for case in cases]
    for tried in tries:
        for family in (True, False):  # the classes are a family of their own: they dilute no other
            mine = [i for i, is_first in enumerate(first) if is_first == family]
            for i, found in zip(mine, significant([tried[i] for i in mine]), strict=True):
                kept[i] += found
    return [
        (case, tuple(every.names[c] for c in columns), every.all_hold(columns), p)
        for case, candidates in zip(cases, kept, strict=True)
        for p, columns in _pruned(case, every, candidates, minimum)
    ]


def _pruned(
    case: _Case, every: Conditions, candidates: list[Candidate], minimum: int
) -> list[Candidate]:
    """Strongest first; each later one must show failures that those before do not account for.

    Of candidates that are nearly the same examples, and about as strong, the most readable one
    stands for all: the shortest, in the order of `conditions`.
    """
    taken: list[Candidate] = []
    fails_E = case.fails_E[case.half_E]
    masks: list[np.ndarray] = []
    ordered = sorted(candidates, key=lambda c: (c[0], len(c[1]), c[1]))[:LONGEST]
    holds = {c[1]: every.all_hold(c[1])[case.half_E] for c in ordered}
    ordered = [c for c in ordered if fails_E[holds[c[1]]].mean() >= LIFT * fails_E.mean()]
    for p, columns in ordered:
        if len(taken) == MOST[case.target == ANY]:
            break
        if _adds(holds[columns], masks, fails_E, minimum):
            like = [c for c in ordered if c[0] <= NEAR * p and _alike(holds[c[1]], holds[columns])]
            taken.append(min(like, key=lambda c: (len(c[1]), c[1])))
            masks.append(holds[taken[-1][1]])
    return taken


def _alike(a_E: np.ndarray, b_E: np.ndarray) -> bool:
    return (a_E & b_E).sum() >= ALIKE * (a_E | b_E).sum()


def _adds(
    holds_E: np.ndarray, masks: Sequence[np.ndarray], fails_E: np.ndarray, minimum: int
) -> bool:
    """Whether failures still concentrate in it: inside what contains it, outside of the others."""
    rest_E = np.ones_like(holds_E)
    for mask in masks:
        contains = (holds_E & mask).sum() >= OVERLAP * holds_E.sum()
        rest_E &= mask if contains else ~mask
    inside_E, inside_fails_E = holds_E & rest_E, fails_E & rest_E
    if not masks:
        return True
    if inside_E.sum() < minimum // 2:
        return False
    k = (inside_E & fails_E).sum()
    tail = upper_tail(k, inside_E.sum(), inside_fails_E.sum(), rest_E.sum())
    return bool(tail <= REDUNDANT)
