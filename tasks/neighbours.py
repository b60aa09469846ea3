"""Which worked examples are most like a question: cosine over counts of three letters in a row.

No model and nothing to install, so that a prompt that picks its demos by the question is the same
prompt everywhere it is asked.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache

GRAM = 3


@lru_cache(maxsize=1 << 16)
def vector(text: str) -> Mapping[str, float]:
    """Three-letter counts of the folded text, its ends marked by spaces, scaled to length 1."""
    padded = f" {' '.join(text.casefold().split())} "
    counts = Counter(padded[i : i + GRAM] for i in range(max(1, len(padded) - GRAM + 1)))
    length = math.sqrt(sum(n * n for n in counts.values()))
    return {gram: n / length for gram, n in counts.items()}


def similarity(one: str, other: str) -> float:
    """In [0, 1]."""
    few, many = sorted((vector(one), vector(other)), key=len)
    return sum(weight * many[gram] for gram, weight in few.items() if gram in many)


def most_alike(texts: Sequence[str], question: str, count: int) -> list[int]:
    """Indices of the `count` texts most like `question`, the most alike last; the question itself
    is left out. Of equals the earlier text counts as more alike."""
    told = [i for i, text in enumerate(texts) if text != question]
    told.sort(key=lambda i: (-similarity(texts[i], question), i))
    return told[:count][::-1]
