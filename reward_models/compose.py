"""Rewards put together: each rule a small function of columns of numbers, None where there is none.

The order is that of `Composition`: gates, normalization, weights, penalties, clip. Simplified on
purpose: every term is asked about every answer, also behind a gate that does not hold, so that each
can be logged as it is.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from statistics import fmean, stdev
from typing import Any

from reward_models.checked import Checked
from reward_models.config import Composition, Part
from reward_models.types import Judged, RewardModel, Turns, Values, example_ids, judged_apart, reply

TINY = 1e-4  # as TRL adds to a standard deviation


@dataclass(frozen=True)
class Composed:
    """The reward that `spec` describes; `rewards` are those of `spec.terms()`, in that order."""

    name: str
    spec: Composition
    rewards: Sequence[RewardModel]

    def __call__(
        self, prompts: Sequence[Turns], completions: Sequence[Turns], **columns: Any
    ) -> Values:
        return self.apart(prompts, completions, **columns).values

    def apart(
        self, prompts: Sequence[Turns], completions: Sequence[Turns], **columns: Any
    ) -> Judged:
        terms = self.spec.terms()
        told = {
            term.name: judged_apart(reward, prompts, completions, **columns)
            for term, reward in zip(terms, self.rewards, strict=True)
        }
        said = {name: judged.values for name, judged in told.items()}
        taken = self._penalties(completions, columns.get("completion_ids"))
        grouped = self.spec.normalize == "group"
        ids = example_ids(columns, len(completions), self.name, needed=grouped)
        values = composed(self.spec, said, taken, ids)
        within = {f"{n}/{part}": v for n, j in told.items() for part, v in j.parts.items()}
        return Judged(values, {**said, **within, **taken})

    def _penalties(
        self, completions: Sequence[Turns], completion_ids: Sequence[Sequence[int]] | None
    ) -> dict[str, Values]:
        """By name, 0 or less; of tokens, or of words where the caller has none."""
        tokens: Sequence[Sequence[Hashable]]
        tokens = completion_ids or [reply(turns).split() for turns in completions]
        taken: dict[str, Values] = {}
        if (long := self.spec.overlong) is not None:
            taken["overlong"] = [-long.weight * overlong(len(t), long) for t in tokens]
        if (again := self.spec.repetition) is not None:
            taken["repetition"] = [-again.weight * repeated(t, again.ngram) for t in tokens]
        return taken


def absolute(reward: RewardModel) -> RewardModel:
    """The reward without normalization within groups, so that answers to different questions, and
    an answer on its own, can be held against each other."""
    if isinstance(reward, Checked):
        return replace(reward, reward=absolute(reward.reward))
    if isinstance(reward, Composed):
        return replace(reward, spec=reward.spec.model_copy(update={"normalize": "none"}))
    return reward


def composed(
    spec: Composition, said: dict[str, Values], penalties: dict[str, Values], ids: Sequence[str]
) -> Values:
    """What each answer is worth, given what each term says of it and what is taken off."""
    held = hold(spec, said)
    counted = {gate.name: said[gate.name] for gate in spec.gate}
    counted |= {part.name: gated(said[part.name], held, spec.otherwise) for part in spec.parts}
    if spec.normalize == "group":
        counted = {name: standardized(values, ids) for name, values in counted.items()}
    known = weighted_sum(spec.terms(), counted)
    for column in penalties.values():
        known = [None if v is None else v + (p or 0.0) for v, p in zip(known, column, strict=True)]
    return known if spec.clip is None else clipped(known, *spec.clip)


def hold(spec: Composition, said: dict[str, Values]) -> list[bool | None]:
    """Whether all gates reach what they must; None where one that is not optional says nothing:
    it is a term of the sum, which then says nothing either."""
    count = len(next(iter(said.values())))
    return [_holds(spec, {name: values[i] for name, values in said.items()}) for i in range(count)]


def _holds(spec: Composition, row: dict[str, float | None]) -> bool | None:
    given = [(row[gate.name], gate) for gate in spec.gate]
    if any(value is None and not gate.optional for value, gate in given):
        return None
    return all(value is None or value >= gate.at_least for value, gate in given)


def gated(values: Values, held: Sequence[bool | None], otherwise: float) -> Values:
    """`values` where the gates hold, else `otherwise`, whatever the content says."""
    return [
        otherwise if open_ is False else value for value, open_ in zip(values, held, strict=True)
    ]


def standardized(values: Values, ids: Sequence[str]) -> Values:
    """Standard deviations above the mean of the group: consecutive rows of one example.

    With n - 1 in the deviation, as TRL has it; a group all alike, or of one, is 0. Doing this term
    by term, before weights, is GDPO's first step (Liu et al., 2026, arXiv:2601.05242): differences
    of a small part are not drowned by those of a large one. GRPO's own normalization of the sum
    follows in the trainer, in the place of GDPO's over the batch.
    """
    found: Values = []
    for _, rows in groupby(zip(ids, values, strict=True), key=lambda row: row[0]):
        group = [value for _, value in rows]
        known = [value for value in group if value is not None]
        if len(set(known)) < 2:
            found += [None if value is None else 0.0 for value in group]
            continue
        mean, spread = fmean(known), stdev(known) + TINY
        found += [None if value is None else (value - mean) / spread for value in group]
    return found


def weighted_sum(terms: Sequence[Part], values: dict[str, Values]) -> Values:
    """The sum of weight times value; None where a term that is not optional says nothing, or all
    do. An optional term that says nothing adds nothing, and no other weighs more for it."""
    rows = zip(*(values[term.name] for term in terms), strict=True)
    return [_row_sum(terms, row) for row in rows]


def _row_sum(terms: Sequence[Part], row: Sequence[float | None]) -> float | None:
    given = list(zip(terms, row, strict=True))
    if any(value is None and not term.optional for term, value in given):
        return None
    known = [term.weight * value for term, value in given if value is not None]
    return sum(known) if known else None


def clipped(values: Values, low: float, high: float) -> Values:
    """No less than `low`, no more than `high`."""
    return [None if value is None else min(max(value, low), high) for value in values]


def overlong(tokens: int, limits: Any) -> float:
    """0 up to `limits.start` tokens, 1 from `limits.max` on, linear between (DAPO, eq. 13,
    arXiv:2503.14476, with L_max = max and L_cache = max - start)."""
    return min(max((tokens - limits.start) / (limits.max - limits.start), 0.0), 1.0)


def repeated(tokens: Sequence[Hashable], n: int) -> float:
    """The share of n-grams that have stood before: 1 - distinct / all; 0 with fewer than n tokens
    (arXiv:2502.03373, appendix C.2, as `trl.rewards` has it)."""
    grams = list(zip(*(tokens[i:] for i in range(n)), strict=False))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
