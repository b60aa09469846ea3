"""Where failures may concentrate: conditions and pairs of them, tried on the discovery half.

What `evaluation.discovery` prunes and confirms. Thousands are tried for each target, so they are
counted as products of matrices, and p is worked out only where it may be small enough to count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from evaluation.exact import upper_tail

FDR = 0.1
FEWEST = 8  # examples of a subgroup in each half, and failing examples in each half
BEAM = 24  # single conditions that are combined

Candidate = tuple[float, tuple[int, ...]]  # p, conditions
Tried = tuple[np.ndarray, np.ndarray]  # p, and by row the conditions of each candidate


@dataclass(frozen=True, eq=False)
class Conditioned:
    """The conditions in the discovery half: as floats, whose products count fast.

    `feature_C` says which are about the same and not combined, `minimum` is the fewest examples of
    a pair. Targets are tried together: `fails_FE` says of which examples each of them fails.
    """

    holds_EC: np.ndarray
    feature_C: np.ndarray
    minimum: int

    def singles(self, fails_FE: np.ndarray) -> list[Tried]:
        """Each condition, by target."""
        k_FC, n_C = self._counts(fails_FE)
        p_FC = upper_tail(k_FC, n_C, fails_FE.sum(1)[:, None], fails_FE.shape[1])
        return [(p_C, np.arange(len(p_C))[:, None]) for p_C in p_FC]

    def pairs(self, fails_FE: np.ndarray, p_FC: Sequence[np.ndarray]) -> list[Tried]:
        """By target, each of its `BEAM` strongest conditions with every other one.

        The p of a pair is the largest of three: against all examples, within its first condition,
        and within its second. It is 1 where one of them is too large to count at all.
        """
        k_FC, n_C = self._counts(fails_FE)
        rows, columns = [], []
        for fails_E, k_C, p_C in zip(fails_FE, k_FC, p_FC, strict=True):
            first_T, second_T, k_T, n_T = self._paired(fails_E, n_C, p_C)
            inside = (k_C[first_T], n_C[first_T], k_C[second_T], n_C[second_T])
            rows.append(np.stack([k_T, n_T, np.full_like(k_T, fails_E.sum()), *inside]))
            columns.append(np.sort(np.stack([first_T, second_T], axis=1), axis=1))
        k_T, n_T, fails_T, k_first_T, n_first_T, k_second_T, n_second_T = np.concatenate(rows, 1)
        p_T = upper_tail(k_T, n_T, fails_T, fails_FE.shape[1])
        for inside_k_T, inside_n_T in ((k_first_T, n_first_T), (k_second_T, n_second_T)):
            small_T = p_T <= FDR
            counts = (x[small_T] for x in (k_T, n_T, inside_k_T, inside_n_T))
            p_T[small_T] = np.maximum(p_T[small_T], upper_tail(*counts))
            p_T[~small_T] = 1.0
        return list(zip(np.split(p_T, _ends(columns)), columns, strict=True))

    def _paired(
        self, fails_E: np.ndarray, n_C: np.ndarray, p_C: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """The pairs worth a try: both conditions, failing examples in the pair, and all in it."""
        beam = np.argsort(p_C, kind="stable")[:BEAM]
        fails_EC = self.holds_EC[fails_E]
        n_BC = (self.holds_EC[:, beam].T @ self.holds_EC).astype(int)  # exact below 2^24
        k_BC = (fails_EC[:, beam].T @ fails_EC).astype(int)
        rank_C = np.full(len(p_C), BEAM)
        rank_C[beam] = np.arange(len(beam))
        other_BC = self.feature_C[beam][:, None] != self.feature_C
        tried_BC = other_BC & (rank_C[beam][:, None] < rank_C)
        least_BC = np.minimum(n_C[beam][:, None], n_C) - FEWEST // 2  # else it adds nothing
        b_T, c_T = np.nonzero(tried_BC & (n_BC >= self.minimum) & (n_BC <= least_BC))
        return beam[b_T], c_T, k_BC[b_T, c_T], n_BC[b_T, c_T]

    def _counts(self, fails_FE: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """By condition, of how many failing examples it holds, and of how many of all."""
        k_FC = (fails_FE.astype(np.float32) @ self.holds_EC).astype(int)
        return k_FC, self.holds_EC.sum(0).astype(int)


def significant(by_case: Sequence[Tried]) -> list[list[Candidate]]:
    """The candidates of all cases as one family, those below the false-discovery rate."""
    family = np.concatenate([p_T for p_T, _ in by_case]) if by_case else np.zeros(0)
    if not len(family):
        return [[] for _ in by_case]
    adjusted = stats.false_discovery_control(family, method="bh")
    kept = [q_T <= FDR for q_T in np.split(adjusted, _ends([p_T for p_T, _ in by_case]))]
    return [
        list(zip(p_T[of].tolist(), map(tuple, columns_TD[of].tolist()), strict=True))
        for (p_T, columns_TD), of in zip(by_case, kept, strict=True)
    ]


def _ends(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Where each of several arrays that follow one another ends, but for the last."""
    return np.cumsum([len(part) for part in parts])[:-1]
