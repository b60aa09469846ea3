"""Which examples stand in two splits, whole or nearly: contamination, found before anything runs.

Three kinds, the first that holds:

- *exact*: the same inputs, letter by letter.
- *normalized*: the same words, numbers and signs, whatever the case, white space and punctuation.
  Where a text is mostly numbers and signs ("(3 + 4) * 2", "[[1], 2]", ":(") all of it counts.
- *near*: most of the same words in the same order, and every number and sign the same. Texts are
  compared as sets of words and pairs of neighbouring words, and count as near from a Jaccard
  similarity of `NEAR` on: a text of 17 words or more with one of them changed. Each field must find
  its like among the other example's fields, so that another question about the same passage is
  another example, and fields may have changed places.

What all examples share is a frame and not what is asked: words and pairs that more than
`FRAME_SHARE` of the examples have do not count, and with fewer than `FEW_SHINGLES` others nothing
is called near. So "go" is not "goes", and "Tom has 3 apples" is not "Tom has 4 apples".

Not found: paraphrases, translations, a word changed in a shorter text, and families of eight or
more texts that differ in a word, where they are more than 5 % of the examples, so that their words
count as frame. MinHash only proposes the pairs (`tasks.minhash`); each one is then compared for
what it is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from tasks.passages import SINGLE
from tasks.text import fold, shorten
from tasks.types import Example

NEAR = 0.8
FRAME_SHARE, FRAME_EXAMPLES = 0.05, 8  # of the examples, and at least so many of them
FEW_SHINGLES = 19  # ten words and their nine pairs
PROPOSED = 10  # examples of other splits looked at for each one, those most alike

Kind = Literal["exact", "normalized", "near"]
Tokens = tuple[str, ...]

_PUNCTUATION = [chr(c) for c in range(0x3100) if unicodedata.category(chr(c))[0] == "P"]
_SYMBOLS = [chr(c) for c in range(0x3000) if unicodedata.category(chr(c))[0] == "S"]
_SIGNS = re.escape("".join({*_SYMBOLS, *"%&*/#@\\"} - set("`\u00b4")))
_MARKS = re.escape("".join({*_PUNCTUATION, "`", "\u00b4"} - set("%&*/#@\\")))
_NUMBER = r"\d+(?:[.,]\d+)*"
_MINUS = r"(?<![^\W\d_])-(?=\s?\d)"
_WORD = rf"[{SINGLE}]|[^\s{_SIGNS}{_MARKS}{SINGLE}]+"
_BLANK = r"(?<!\S)_(?!\S)"  # an empty square of a board
FIGURE = re.compile(rf"{_NUMBER}|{_MINUS}|[{_SIGNS}]|{_BLANK}")
TOKEN = re.compile(rf"{FIGURE.pattern}|{_WORD}")
SYMBOL = re.compile(rf"{_NUMBER}|{_WORD}|\S")
BRACKET = re.compile(r"[][(){}]")


@dataclass(frozen=True)
class Overlap:
    """Example `id` of `split` is also `other_id` of `other_split`.

    `similarity` is the Jaccard similarity of what the two say; 1 unless `kind` is near.
    """

    split: str
    id: str
    other_split: str
    other_id: str
    kind: Kind
    similarity: float = 1.0

    def __str__(self) -> str:
        how = {"exact": "the same inputs", "normalized": "the same but for case or punctuation"}
        said = how.get(self.kind) or f"nearly the same, similarity {self.similarity:.2f}"
        here, there = shorten(self.id, 60), shorten(self.other_id, 60)
        return f'{self.split} "{here}" is {self.other_split} "{there}" ({said})'


def find_overlaps(splits: Mapping[str, Sequence[Example]]) -> list[Overlap]:
    """Every example that stands in a split named before its own; one finding for each example.

    In the order of the splits. 100,000 examples of 30 words take some seconds.
    """
    asked = [_Asked.of(split, example) for split in splits for example in splits[split]]
    found = {id(a): a.told(b, "exact") for a, b in _equal(asked, "raw")}
    for a, b in _equal(asked, "normal"):
        found.setdefault(id(a), a.told(b, "normalized"))
    for a, b, similarity in _near(asked, list(splits), found):
        found.setdefault(id(a), a.told(b, "near", similarity))
    return [found[id(a)] for a in asked if id(a) in found]


def set_apart(splits: Mapping[str, Sequence[Example]]) -> dict[str, tuple[Example, ...]]:
    """The splits without the examples that stand in a split named before their own."""
    kept = {name: tuple(examples) for name, examples in splits.items()}
    # what counts as frame depends on what is there, so that the rest is looked at again
    while found := {(overlap.split, overlap.id) for overlap in find_overlaps(kept)}:
        kept = {
            name: tuple(e for e in examples if (name, e.id) not in found)
            for name, examples in kept.items()
        }
    return kept


def find_repeats(examples: Sequence[Example]) -> list[Overlap]:
    """Every example that asks what an earlier one asks, in their order; `split` says nothing.

    An example that is near only to such as are repeats themselves is none.
    """
    asked = [_Asked.of("", example) for example in examples]
    found = {id(a): a.told(b, "exact") for a, b in _equal(asked, "raw", within=True)}
    for a, b in _equal(asked, "normal", within=True):
        found.setdefault(id(a), a.told(b, "normalized"))
    for a, b, similarity in _near(asked, None, found):
        if id(a) not in found and id(b) not in found:
            found[id(a)] = a.told(b, "near", similarity)
    return [found[id(a)] for a in asked if id(a) in found]


def normal_form(text: str) -> Tokens:
    """Equal for texts that say the same but for case, white space and punctuation."""
    folded = fold(text)
    return _normal_form(folded, tuple(TOKEN.findall(folded)), FIGURE.findall(folded))


def _normal_form(folded: str, tokens: Tokens, figures: Sequence[str]) -> Tokens:
    if _is_prose(len(tokens), len(figures) + len(BRACKET.findall(folded))):
        return tokens
    symbols = SYMBOL.findall(folded)
    while len(symbols) > 1 and symbols[-1] in ".?\u3002":
        symbols.pop()
    return tuple(symbols)


def _is_prose(tokens: int, signs: int) -> bool:
    """Mostly words. Where signs are a third of a text, each of them matters."""
    return tokens > 3 * signs


@dataclass(frozen=True, eq=False)
class _Asked:
    """What is compared of one example: its inputs as they are, in their normal form, and as words.

    `figures` are its numbers and signs, in order of their value.
    """

    split: str
    id: str
    raw: tuple[tuple[str, str], ...]
    normal: tuple[tuple[str, Tokens], ...]
    fields: tuple[Tokens, ...]
    figures: Tokens

    @classmethod
    def of(cls, split: str, example: Example) -> _Asked:
        raw = tuple(sorted(example.inputs.items()))
        folded = [fold(text) for _, text in raw]
        fields = tuple(tuple(TOKEN.findall(text)) for text in folded)
        figures = [FIGURE.findall(text) for text in folded]
        normal = map(_normal_form, folded, fields, figures)
        return cls(
            split=split,
            id=example.id,
            raw=raw,
            normal=tuple((name, form) for (name, _), form in zip(raw, normal, strict=True)),
            fields=fields,
            figures=tuple(sorted(figure for field in figures for figure in field)),
        )

    @property
    def is_long_prose(self) -> bool:
        size = sum(map(len, self.fields))
        return size > FEW_SHINGLES // 2 and _is_prose(size, len(self.figures))

    def told(self, other: _Asked, kind: Kind, similarity: float = 1.0) -> Overlap:
        return Overlap(self.split, self.id, other.split, other.id, kind, similarity)


def _equal(
    asked: Sequence[_Asked], what: str, *, within: bool = False
) -> Iterator[tuple[_Asked, _Asked]]:
    seen: dict[object, _Asked] = {}
    for one in asked:
        first = seen.setdefault(getattr(one, what), one)
        if first is not one and (within or first.split != one.split):
            yield one, first


def _near(
    asked: Sequence[_Asked], splits: Sequence[str] | None, found: Container[int]
) -> Iterator[tuple[_Asked, _Asked, float]]:
    """Pairs that are near: across `splits`, the first of each example; with None, all of them."""
    long = [one for one in asked if one.is_long_prose and id(one) not in found]
    if splits is not None and len({one.split for one in long}) < 2:
        return
    from tasks.minhash import propose  # numpy

    proposed = propose(
        [one.fields for one in long],
        None if splits is None else [splits.index(one.split) for one in long],
        [" ".join(one.figures) for one in long],
        frame_size=max(FRAME_EXAMPLES, FRAME_SHARE * len(asked)),
        few=FEW_SHINGLES,
        near=NEAR,
        most=PROPOSED,
    )
    done = set()
    for here, there, similarity in proposed:
        a, b = long[here], long[there]
        if here in done or a.figures != b.figures:
            continue
        if _fields_alike(a.fields, b.fields):
            if splits is not None:
                done.add(here)
            yield a, b, similarity


def _fields_alike(a: Sequence[Tokens], b: Sequence[Tokens]) -> bool:
    """Whether each field has its like among the other's."""
    return all(any(_alike(x, y) for y in b) for x in a) and all(
        any(_alike(x, y) for y in a) for x in b
    )


def _alike(a: Tokens, b: Tokens) -> bool:
    if a == b:
        return True
    one, other = _shingles(a), _shingles(b)
    return len(one & other) >= NEAR * len(one | other)


def _shingles(tokens: Tokens) -> set[Tokens]:
    """Its words, and its pairs of words in a row."""
    return {*zip(tokens, strict=False), *pairwise(tokens)}
