"""Texts as words, so that one can be looked for inside another whatever its case and punctuation.

A *line* is a text's words with a space before and behind each: words of one line that stand in
another in the same order are a plain substring of it, found at the speed of one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from functools import cached_property

from tasks.text import fold
from tasks.types import Example

# A word of letters and digits; in scripts without spaces each character is one.
SINGLE = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
WORD = re.compile(rf"[{SINGLE}]|[^\W_{SINGLE}]+")

Span = tuple[int, int]  # of words, the end excluded
Triple = tuple[str, str, str]


def line_of(text: str) -> str:
    """Its words with a space around each; "" when there is none."""
    words = WORD.findall(fold(text))
    return f" {' '.join(words)} " if words else ""


def triples_of(words: Sequence[str]) -> list[Triple]:
    """All words in a row of three."""
    return list(zip(words, words[1:], words[2:], strict=False))


class Passage:
    """A part of a prompt: its text folded, and its words in one line with a space around each."""

    def __init__(self, name: str, text: str):
        self.name, self.folded = name, fold(text)
        places = list(WORD.finditer(self.folded))
        self._places = [place.span() for place in places]
        words = [place.group() for place in places]
        self.line = f" {' '.join(words)} "
        self.triples = frozenset(triples_of(words))

    def spans(self, line: str) -> list[Span]:
        """Where the words of `line` stand."""
        found, place = [], self.line.find(line)
        while place >= 0:
            start = self.line.count(" ", 0, place)
            found.append((start, start + line.count(" ") - 1))
            place = self.line.find(line, place + 1)
        return found

    def between(self, start: int, end: int) -> str:
        """The text between two words, the first of which ends before word `start`."""
        return self.folded[self._places[start - 1][1] : self._places[end][0]]

    def text(self, spans: Iterable[Span]) -> str:
        """From the first to the last of the spans."""
        spans = list(spans)
        first, last = min(start for start, _ in spans), max(end for _, end in spans)
        return self.folded[self._places[first][0] : self._places[last - 1][1]]


class Known:
    """What may be said: the incoming instruction, and all that train examples hold."""

    def __init__(self, instruction: str, train: Sequence[Example]):
        self.before = Passage("the incoming instruction", instruction)
        self._train = train

    @cached_property
    def _texts(self) -> list[str]:
        texts = (text for e in self._train for text in (*e.inputs.values(), e.answer))
        return list(dict.fromkeys(texts))

    @cached_property
    def lines(self) -> list[str]:
        return list(dict.fromkeys(map(line_of, self._texts)))

    @cached_property
    def values(self) -> frozenset[tuple[str, str]]:
        """Each field of train with each of its values."""
        pairs = (pair for e in self._train for pair in e.inputs.items())
        return frozenset((field, line_of(text)) for field, text in pairs)

    @cached_property
    def _text(self) -> str:
        return "\n".join([self.before.line, *self.lines])

    @cached_property
    def _folded(self) -> str:
        return "\n".join([self.before.folded, *map(fold, self._texts)])

    def holds(self, line: str) -> bool:
        """Whether the words stand in a known text."""
        return line in self._text

    def holds_folded(self, text: str) -> bool:
        """The same for a folded text, punctuation included."""
        return text in self._folded

    def triples(self, wanted: Collection[Triple]) -> set[Triple]:
        """Which of them stand in a known text."""
        found = set(wanted) & self.before.triples
        for line in self.lines:
            found.update(triple for triple in triples_of(line.split()) if triple in wanted)
        return found

    def own_spans(self, passage: Passage, line: str) -> list[Span]:
        """Where `line` stands in a passage, but not inside a longer text of train quoted there."""
        longer = [other for other in self.lines if line in other and line != other]
        covers = [span for other in longer for span in passage.spans(other)]
        return [
            (start, end)
            for start, end in passage.spans(line)
            if not any(first <= start and end <= last for first, last in covers)
        ]
