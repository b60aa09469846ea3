"""Ending an arm's evaluation once it is clearly worse than an arm that is done.

The bets of `evaluation.sequential`, one for each arm that the new one is held against. An arm that
was stopped has answered fewer examples than the others, and those it was stopped on: it belongs in
no table of paired differences; what is told of it is the upper end of a confidence sequence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.sequential import ALPHA, confidence_sequence, worse_by_now
from evaluation.types import EvalRecord
from tasks.types import Example

BATCH = 32  # examples between two looks


@dataclass(frozen=True)
class Stopped:
    """Why an evaluation ended after `n` of `of` examples: its arm scored `delta` more (a negative
    number) than the arm `against` on them; with a chance of 1 - `alpha` the true difference is
    below `high`, however often that was looked at. In score units."""

    against: str
    n: int
    of: int
    delta: float
    high: float
    alpha: float


@dataclass
class Stopping:
    """Held against `rivals`: arms that are done, their mean scores by example id.

    `alpha` is the chance that an arm that is not worse, by more than `margin`, than one rival is
    ever said to be: divide what a whole run may have among its pairs of arms (`share`). Asked after
    every batch by the evaluator; `found` says why once it has said yes.
    """

    rivals: Mapping[str, Mapping[str, float]]
    alpha: float
    margin: float = 0.0
    found: Stopped | None = None

    def __call__(self, records: Sequence[EvalRecord], of: int) -> bool:
        """Whether the answers so far are enough; of the last example there is nothing to save."""
        own = _means(records)
        if len(own) >= of:
            return False
        for name, scores in self.rivals.items():
            difference_E = np.array([own[key] - scores[key] for key in own]).round(12)
            if worse_by_now(difference_E, margin=self.margin, alpha=self.alpha).worse:
                self.found = self._told(name, difference_E, of)
                return True
        return False

    def _told(self, name: str, difference_E: np.ndarray, of: int) -> Stopped:
        _, high_E = confidence_sequence(difference_E, alpha=2 * self.alpha)  # alpha on each side
        n, delta = len(difference_E), float(difference_E.mean())
        return Stopped(name, n, of, delta, float(high_E[-1]), self.alpha)


def share(arms: int, alpha: float = ALPHA) -> float:
    """What each pair of so many arms gets of `alpha`: later ones are held against all earlier."""
    return alpha / max(1, arms * (arms - 1) // 2)


def shuffled(examples: Sequence[Example]) -> list[Example]:
    """In an order that has nothing to do with how hard they are: by a hash of their ids."""
    return sorted(examples, key=lambda e: hashlib.sha256(e.id.encode()).digest())


def _means(records: Sequence[EvalRecord]) -> dict[str, float]:
    """The mean score of each example over its samples, in the order asked."""
    scores: dict[str, list[float]] = {}
    for record in records:
        scores.setdefault(record.example_id, []).append(record.score)
    return {key: sum(values) / len(values) for key, values in scores.items()}
