"""Every prompt, or program, a stage has asked with, and its scores: what the winner is picked from.

DSPy's optimizers each keep their own books and lose them when they are stopped. This one is filled
by the metric itself, so that the best candidate so far is known at any moment, whoever searches.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import dataclass

from prompt_opt.state import State
from tasks.types import Prompt

FEWEST = 8  # scored answers that let a prompt look promising
Form = Prompt | State  # what tells one candidate from another


@dataclass(frozen=True)
class Candidate:
    """A prompt, or the state of a program, and its mean score on dev, in [0, 1]."""

    form: Form
    dev_score: float


class Board:
    """Scores by form and example id, of answers drawn as the evaluator draws them.

    A form is a candidate as soon as all of `dev` is answered with it; before that it can only be
    `promising`.
    """

    def __init__(self, dev: Collection[str]):
        self._dev = frozenset(dev)
        self._forms: dict[str, Form] = {}
        self._scores: dict[str, dict[str, float]] = {}
        self._lock = threading.Lock()
        self.candidates: list[Candidate] = []
        self._known: set[str] = set()  # of the candidates

    def note(self, form: Form, example_id: str, value: float) -> None:
        """Any thread may call it."""
        key = form.to_json()
        with self._lock:
            self._forms.setdefault(key, form)
            self._scores.setdefault(key, {})[example_id] = value

    def collect(self) -> list[Candidate]:
        """The candidates that are new since the last call; their order does not depend on threads
        as long as this is called between evaluations."""
        with self._lock:
            new = [k for k in self._scores if k not in self._known and self._is_complete(k)]
        found = [Candidate(self._forms[key], self._dev_score(key)) for key in sorted(new)]
        self.candidates += found
        self._known |= set(new)
        return found

    def promising(self, count: int) -> list[Form]:
        """The best of those that are no candidates yet, by the mean of what is known of them."""
        with self._lock:
            seen = {key: list(found.values()) for key, found in self._scores.items()}
        fewest = min(FEWEST, len(self._dev))
        open_ = [k for k in seen if len(seen[k]) >= fewest and not self._is_complete(k)]
        open_.sort(key=lambda key: (-sum(seen[key]) / len(seen[key]), -len(seen[key]), key))
        return [self._forms[key] for key in open_[:count]]

    def best(self) -> Candidate | None:
        """Best on dev; fewer demos break a tie, and the earlier candidate breaks the next."""
        return max(self.candidates, key=lambda c: (c.dev_score, -len(c.form.demos)), default=None)

    def _is_complete(self, key: str) -> bool:
        return self._dev <= self._scores[key].keys()

    def _dev_score(self, key: str) -> float:
        return sum(self._scores[key][name] for name in self._dev) / len(self._dev)
