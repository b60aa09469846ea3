"""Pairs of which a tiny model can learn what they prefer: vowels to consonants."""

from __future__ import annotations

from reward_models.pairs import Pair
from tasks.types import Prompt

PROMPT = Prompt("Say it in vowels.", ("word",))


def vowel_pairs(first: int, last: int) -> list[Pair]:
    """Answers of vowels are preferred to answers of consonants."""
    return [
        Pair(
            f"w{i}",
            PROMPT.messages({"word": f"word {i}"}),
            "".join("aeiou"[(i * k) % 5] for k in range(1, 2 + i % 6)),
            "".join("bcdfgklm"[(i * k) % 8] for k in range(1, 2 + (i + 3) % 6)),
        )
        for i in range(first, last)
    ]
