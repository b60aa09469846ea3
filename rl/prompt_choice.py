"""Which train prompts a step asks.

By default in the order of the dataset, shuffled anew for each pass. With `curriculum: pass_rate`
by what the rollouts so far say of each prompt: one that is always or never solved teaches a group
method nothing, one solved half the time teaches most, as the variance p (1 - p) of a pass does
(Foster and Foerster, 2025, "Learning to reason at the frontier of learnability",
arXiv:2502.12272). Rollouts that earlier methods of the chain have drawn count as well, so a prompt
optimizer's work also shows RL where to look.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evaluation.types import PassRate
from tasks.types import Example, Prompt

FLOOR = 0.02  # of a prompt that seems hopeless or done: the policy changes, it is asked again
FADE = 0.5  # what an older visit counts against a newer one


@dataclass
class PassRates:
    """The mean score of each example's answers, newer ones counting more."""

    seen: dict[str, PassRate] = field(default_factory=dict)

    def add(self, rates: Mapping[str, PassRate]) -> None:
        """Note one visit to each of these examples."""
        for key, new in rates.items():
            old = self.seen.get(key, PassRate(0, 0.0))
            self.seen[key] = PassRate(
                old.answers * FADE + new.answers, old.total * FADE + new.total
            )

    def add_rows(self, rows: Iterable[tuple[str, float | None]]) -> None:
        """Note the answers of one step, as (example id, score)."""
        visit: dict[str, PassRate] = {}
        for key, score in rows:
            if score is not None:
                old = visit.get(key, PassRate(0, 0.0))
                visit[key] = PassRate(old.answers + 1, old.total + score)
        self.add(visit)

    def weight(self, key: str) -> float:
        """p (1 - p), in expectation under a Beta(1, 1) prior, so that the unknown is worth asking;
        between 0 and 1/4."""
        rate = self.seen.get(key, PassRate(0, 0.0))
        solved, failed = 1 + rate.total, 1 + rate.answers - rate.total
        count = solved + failed
        return solved * failed / (count * (count + 1))


@dataclass
class PromptChoice:
    """Chooses the prompts of a step from (seed, step) and the rates known by then."""

    train: Sequence[Example]
    prompt: Prompt
    seed: int
    rates: PassRates
    weighted: bool = False

    def rows(
        self, step: int, turn: int, count: int, without: Collection[str] = ()
    ) -> list[dict[str, Any]]:
        """`count` different rows of a dataset for TRL, fewer where fewer are left besides the
        examples `without`. `turn` tells apart the choices of one step."""
        rng = random.Random(f"{self.seed}/{step}/{turn}")
        pool = [example for example in self.train if example.id not in without]
        keys = {e.id: _key(rng, self._weight(e.id)) for e in pool}
        chosen = sorted(pool, key=lambda e: keys[e.id], reverse=True)[:count]
        return [{"prompt": self.prompt.messages(e.inputs), "example_id": e.id} for e in chosen]

    def _weight(self, key: str) -> float:
        return FLOOR + self.rates.weight(key) if self.weighted else 1.0


def _key(rng: random.Random, weight: float) -> float:
    """Those with the largest keys are a weighted draw without replacement (Efraimidis and
    Spirakis, 2006)."""
    return math.log(rng.random() or 1e-300) / weight
