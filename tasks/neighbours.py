"""Which worked examples are most like a question: cosine over counts of three letters in a row.

No model and nothing to install, so that a prompt that picks its demos by the question is the same
prompt everywhere it is asked.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from functools import lru_cache

GRAM = 3
Index = Mapping[str, list[tuple[int, float]]]


def vector(text: str) -> dict[str, float]:
    """Three-letter counts of the folded text, its ends marked by spaces, scaled to length 1."""
    padded = f" {' '.join(text.casefold().split())} "
    counts = Counter(padded[i : i + GRAM] for i in range(max(1, len(padded) - GRAM + 1)))
    length = math.sqrt(sum(n * n for n in counts.values()))
    return {gram: n / length for gram, n in counts.items()}


def most_alike(texts: tuple[str, ...], question: str, count: int) -> list[int]:
    """Indices of the `count` texts most like `question`, the most alike last; the question itself
    is left out. Of equals the earlier text counts as more alike."""
    alike = [0.0] * len(texts)
    index = _index(texts)
    for gram, weight in vector(question).items():
        for place, other in index.get(gram, ()):
            alike[place] += weight * other
    told = [i for i, text in enumerate(texts) if text != question]
    told.sort(key=lambda i: (-alike[i], i))
    return told[:count][::-1]


@lru_cache(maxsize=4)
def _index(texts: tuple[str, ...]) -> Index:
    """For each gram the texts that have it, and its weight there."""
    index: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
    for place, text in enumerate(texts):
        for gram, weight in vector(text).items():
            index[gram].append((place, weight))
    return index
