"""What examples are like, as yes-or-no conditions a person can read: "words over 12".

These are properties of the *question* (its inputs, its `meta`, its gold answer), known before any
model answered. Where failures concentrate may be said in their terms only: a property of the answer
that was given, such as its distance from gold, is what failing looks like, and would be "found" to
go with failures every time. Those serve to tell kinds of wrong answers apart, in
`evaluation.answer_features`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from tasks.text import fold

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
FEW = 6  # a number with at most so many values is also asked for each of them
SHORT_WORDS, SHORT_CHARS = 2, 24  # a field of such texts is described by their ends, not words
AFFIX = 4  # letters of the longest beginning or ending
TOKENS = 150  # words, or ends of words, that are asked for in one field
READ_CHARS = 4_000  # of one text; what fails seldom hangs on the words after them
WORD = re.compile(r"\w+(?:'\w+)?")
MISSING = "missing"
KEPT = 8  # frames of examples whose conditions are remembered, a few MB each at most


@dataclass(frozen=True, eq=False)
class Conditions:
    """`holds_EC[e, c]`: whether condition c holds of example e.

    `names` are the conditions in words; `features` what each is about, so that "words over 4" and
    "words over 12" are not combined.
    """

    names: list[str]
    features: list[str]
    holds_EC: np.ndarray

    def all_hold(self, columns: Sequence[int]) -> np.ndarray:
        """Of which examples all the conditions at `columns` hold."""
        return np.asarray(self.holds_EC[:, list(columns)].all(axis=1))


def conditions(examples: pd.DataFrame, minimum: int) -> Conditions:
    """Every condition that holds of `minimum` examples at least, and does not of as many.

    `examples` has one row an example, with the columns `inputs` and `meta` (JSON text) and `gold`.
    They come in the order in which people would rather read them: plain values of `meta`, lengths
    of the inputs, gold answers, words of the inputs, lists in `meta`, the length of gold. Of those
    that hold of the very same examples the first counts. Numbers are cut at their quantiles;
    nothing here looks at an outcome. So what several runs asked alike is worked out once: the last
    `KEPT` are kept.
    """
    key = _digest(examples, minimum)
    found = _kept.pop(key, None) or _conditions(examples, minimum)
    _kept[key] = found  # the last one used stands last
    while len(_kept) > KEPT:
        _kept.pop(next(iter(_kept)))
    return found


_kept: dict[bytes, Conditions] = {}


def _digest(examples: pd.DataFrame, minimum: int) -> bytes:
    digest = hashlib.sha256(str(minimum).encode())
    for name in ("inputs", "meta", "gold"):
        texts = list(map(str, examples[name].tolist()))
        digest.update(np.array(list(map(len, texts))).tobytes())
        digest.update("".join(texts).encode(errors="surrogatepass"))
    return digest.digest()


def _conditions(examples: pd.DataFrame, minimum: int) -> Conditions:
    names, features, columns, seen = [], [], [], set()
    for feature, name, holds_E in _all(examples, minimum):
        known = holds_E.tobytes()
        if minimum <= holds_E.sum() <= len(holds_E) - minimum and known not in seen:
            seen.add(known)
            names.append(name)
            features.append(feature)
            columns.append(holds_E)
    none_EC = np.zeros((len(examples), 0), dtype=bool)
    holds_EC = np.stack(columns, axis=1) if columns else none_EC
    holds_EC.setflags(write=False)  # others get the same
    return Conditions(names, features, holds_EC)


Condition = tuple[str, str, np.ndarray]  # feature, name, of which examples it holds


def _all(examples: pd.DataFrame, minimum: int) -> Iterator[Condition]:
    metas = [dict(_flat(_mapping(text))) for text in examples["meta"].tolist()]
    golds = [str(text)[:READ_CHARS] for text in examples["gold"].tolist()]
    fields: dict[str, list[str]] = {}
    for i, text in enumerate(examples["inputs"].tolist()):
        for name, value in _mapping(text).items():
            fields.setdefault(name, [""] * len(examples))[i] = str(value)[:READ_CHARS]
    yield from _of_meta(metas, minimum, lists=False)
    for name, texts in fields.items():
        yield from _lengths(name, texts)
    yield from _equal("gold", [f'"{gold}"' for gold in golds], minimum)
    for name, texts in fields.items():
        yield from _words(name, texts, minimum)
    yield from _of_meta(metas, minimum, lists=True)
    if 2 * len(set(golds)) > len(golds):  # of a choice among a few, the length tells nothing
        yield from _lengths("gold", golds)


def _mapping(text: str) -> dict[str, Any]:
    found = json.loads(text)
    return found if isinstance(found, dict) else {}


def _of_meta(metas: Sequence[dict[str, Any]], minimum: int, *, lists: bool) -> Iterator[Condition]:
    for feature in dict.fromkeys(name for meta in metas for name in meta):
        values = [meta.get(feature) for meta in metas]
        if lists != any(isinstance(value, list) for value in values):
            continue
        if lists:
            yield from _of_lists(feature, values, minimum)
        elif all(value is None or _is_number(value) for value in values):
            yield from _thresholds(feature, values)
        else:
            yield from _equal(feature, [_shown(value) for value in values], minimum)


def _flat(meta: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in meta.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _shown(value: Any) -> str:
    return MISSING if value is None else str(value)


def _of_lists(feature: str, values: Sequence[Any], minimum: int) -> Iterator[Condition]:
    lists = [value if isinstance(value, list) else [] for value in values]
    yield from _thresholds(f"number of {feature}", [len(items) for items in lists])
    sets = [frozenset(str(item) for item in items) for items in lists]
    yield from _tokens(feature, "{feature} has {token}", sets, minimum)


def _equal(feature: str, values: Sequence[str], minimum: int) -> Iterator[Condition]:
    value_E = np.asarray(values, dtype=object)
    common = [value for value, count in Counter(values).most_common() if count >= minimum]
    for value in common[:TOKENS]:
        yield feature, f"{feature} = {value}", value_E == value


def _thresholds(feature: str, values: Sequence[float | None]) -> Iterator[Condition]:
    number_E = np.array([math.nan if value is None else value for value in values], dtype=float)
    known_E = number_E[~np.isnan(number_E)]
    if not len(known_E):
        return
    if len(known_E) < len(number_E):
        yield feature, f"{feature} = {MISSING}", np.isnan(number_E)
    few = np.unique(known_E)
    if len(few) <= FEW:
        for value in few:
            yield feature, f"{feature} = {value:g}", number_E == value
    for cut in np.unique(np.quantile(known_E, QUANTILES, method="lower")):
        yield feature, f"{feature} over {cut:g}", number_E > cut
        yield feature, f"{feature} at most {cut:g}", number_E <= cut


def _lengths(name: str, texts: Sequence[str]) -> Iterator[Condition]:
    words = [len(text.split()) for text in texts]
    if median(words) > 1:
        yield from _thresholds(f"{name} words", words)
    yield from _thresholds(f"{name} characters", [len(text) for text in texts])


def _words(name: str, texts: Sequence[str], minimum: int) -> Iterator[Condition]:
    """The ends of short texts, the words of longer ones."""
    folded = [fold(text) for text in texts]
    if is_short(folded):
        for shape, end in (("ends in", -1), ("starts with", 1)):
            ends = [frozenset(_affixes(text, end)) for text in folded]
            yield from _tokens(name, f'{{feature}} {shape} "{{token}}"', ends, minimum)
    else:
        said = [frozenset(WORD.findall(text)) for text in folded]
        yield from _tokens(name, '{feature} has "{token}"', said, minimum)
    yield name, f"{name} has a digit", np.array([bool(re.search(r"\d", text)) for text in folded])
    yield name, f'{name} has "?"', np.array(["?" in text for text in folded])


def is_short(texts: Sequence[str]) -> bool:
    """Whether these are words rather than sentences."""
    words = median(len(text.split()) for text in texts)
    return words <= SHORT_WORDS and median(map(len, texts)) <= SHORT_CHARS


def _affixes(text: str, end: int) -> Iterator[str]:
    for size in range(1, min(AFFIX, len(text) - 1) + 1):
        yield text[-size:] if end < 0 else text[:size]


def _tokens(
    feature: str, shape: str, sets: Sequence[frozenset[str]], minimum: int
) -> Iterator[Condition]:
    counts = Counter(token for tokens in sets for token in tokens)
    # by count, then by name: the same whatever the order of the rows
    common = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    kept = [t for t, count in common if minimum <= count <= len(sets) - minimum][:TOKENS]
    place = {token: i for i, token in enumerate(kept)}
    holds_TE = np.zeros((len(kept), len(sets)), dtype=bool)
    for e, tokens in enumerate(sets):
        for token in tokens & place.keys():
            holds_TE[place[token], e] = True
    for token, holds_E in zip(kept, holds_TE, strict=True):
        yield feature, shape.format(feature=feature, token=token), holds_E
