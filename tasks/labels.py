"""The base of tasks that choose one label of a fixed set: how answers are read, classed and told.

A subclass says what its labels are and which pairs are easily confused; with its own words in
`advice` and `told`, the feedback speaks of teams, kinds or queues.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache

from tasks.text import normalize, shorten
from tasks.types import Example, Score, Task

WORD = re.compile(r"[^\W\d_]+")
FORMAT_FAILURES = ("empty", "extra_text", "several", "invented", "no_choice")


class LabelTask(Task):
    """`labels` maps each label, as `normalize` leaves it, to a few words about what it is for.

    `failure_classes` must hold `FORMAT_FAILURES`, `confused`, the class of a label that is easily
    taken for the right one (`pairs`), and `wrong`, that of any other. `told` ends every feedback
    with the right label and its meaning; `elsewhere` starts it where another label was chosen.
    """

    labels: Mapping[str, str]
    pairs: Sequence[tuple[str, str]] = ()
    confused: str = "confused_pair"
    wrong: str = "wrong_label"
    advice: Mapping[str, str]
    elsewhere: str = '"{label}" is for another matter ({about})'
    told: str
    format_failures = FORMAT_FAILURES

    def score(self, example: Example, text: str) -> Score:
        answer = self.read(text)
        if answer == example.answer:
            return Score(1.0, True, answer=answer)
        named = _named(tuple(self.labels), answer)
        failure = self._classify(example.answer, answer, named)
        return Score(0.0, False, failure, self._feedback(example, failure, named), shorten(answer))

    def read(self, text: str) -> str:
        """The text in the form the labels have."""
        return normalize(text)

    def confusable(self, a: str, b: str) -> bool:
        """Whether two labels are easily taken for each other."""
        return (a, b) in self.pairs or (b, a) in self.pairs

    def _classify(self, right: str, answer: str, named: Sequence[str]) -> str:
        """The first class that fits. Which label was meant counts for more than words around."""
        words = WORD.findall(answer)
        if not words:
            return "empty"
        if not named:
            return "invented" if len(words) <= 2 else "no_choice"
        if len(named) > 1:
            return "several"
        if named[0] == right:
            return "extra_text"
        return self.confused if self.confusable(named[0], right) else self.wrong

    def _feedback(self, example: Example, failure: str, named: Sequence[str]) -> str:
        why, right = self.advice.get(failure), example.answer
        if why is None:
            why = self.elsewhere.format(label=named[0], about=self.labels[named[0]])
        return f"{why}: {self.told.format(label=right, about=self.labels[right])}"


def _named(labels: tuple[str, ...], answer: str) -> list[str]:
    """The labels that stand in `answer` as whole words; of two that overlap the longer one."""
    return list(dict.fromkeys(_finder(labels).findall(answer)))


@cache
def _finder(labels: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(labels, key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")
