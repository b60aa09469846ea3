"""Every prompt, or program, a stage has asked with, and its scores: what the winner is picked from.

DSPy's optimizers each keep their own books and lose them when they are stopped. This one is filled
by the metric itself, so that the best candidate so far is known at any moment, whoever searches.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
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

    def __init__(self, dev: Sequence[str]):
        self._dev = list(dev)
        self._forms: dict[str, Form] = {}
        self._scores: dict[str, dict[str, float]] = {}
        self._newest: Form | None = None
        self._newest_key = ""
        self._lock = threading.Lock()
        self.candidates: list[Candidate] = []
        self._known: set[str] = set()  # of the candidates

    def note(self, form: Form, example_id: str, value: float) -> None:
        """Any thread may call it."""
        with self._lock:
            key = self._key_of(form)
            self._forms.setdefault(key, form)
            self._scores.setdefault(key, {})[example_id] = value

    def _key_of(self, form: Form) -> str:
        """Its JSON, made once while the same object is noted again: it may hold 500 demos."""
        if form is not self._newest:
            self._newest, self._newest_key = form, form.to_json()
        return self._newest_key

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
        """The best of those that are no candidates yet, as far as is known of them: on dev, or
        where nobody has enough answers there, on train. Few answers count for less."""
        with self._lock:
            seen = {key: dict(found) for key, found in self._scores.items()}
        open_ = [key for key in seen if not self._is_complete(key)]
        on_dev = {key: [seen[key][i] for i in self._dev if i in seen[key]] for key in open_}
        ranked = _ranked(on_dev, min(FEWEST, len(self._dev)))
        rest = {key: list(seen[key].values()) for key in open_ if not on_dev[key]}
        ranked += _ranked(rest, FEWEST)
        return [self._forms[key] for key in ranked[:count]]

    def best(self) -> Candidate | None:
        """Best on dev; fewer demos break a tie, and the earlier candidate breaks the next."""
        return max(self.candidates, key=lambda c: (c.dev_score, -len(c.form.demos)), default=None)

    def _is_complete(self, key: str) -> bool:
        return self._scores[key].keys() >= set(self._dev)

    def _dev_score(self, key: str) -> float:
        return math.fsum(self._scores[key][name] for name in self._dev) / len(self._dev)


def _ranked(scores: dict[str, list[float]], fewest: int) -> list[str]:
    """By the mean less half a unit over the root of n, about a standard error of 0/1 scores."""

    def bound(found: list[float]) -> float:
        return math.fsum(found) / len(found) - 0.5 / math.sqrt(len(found))

    enough = [key for key, found in scores.items() if len(found) >= fewest]
    return sorted(enough, key=lambda key: (-bound(scores[key]), key))
