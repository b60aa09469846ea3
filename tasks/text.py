"""One way to compare texts, shared by the scorers and by the search for leaked examples."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable

MAX_CHARS = 100_000  # no answer is longer; a runaway one must not stall a scorer
SHOWN_CHARS = 200
QUOTES = "\"'`\u00b4\u201c\u201d\u201e\u2018\u2019\u00ab\u00bb()[]{}*_"
STOPS = ".,;:!?\u2026\u3002"


def fold(text: str) -> str:
    """Equal for texts that differ in case, Unicode form or white space only."""
    text = unicodedata.normalize("NFKC", text[:MAX_CHARS]).casefold()
    return " ".join(text.split())


def normalize(text: str) -> str:
    """`fold`, without quotes, brackets and sentence marks at the ends. Signs stay: -5, C#, 50%."""
    folded = fold(text)
    return folded.strip(QUOTES + STOPS + " ") or folded


def contains(text: str, part: str) -> bool:
    """Whether `part` stands in `text` as whole words, both already normalized."""
    return re.search(rf"(?<!\w){re.escape(part)}(?!\w)", text) is not None


def shorten(text: str, limit: int = SHOWN_CHARS) -> str:
    """For records and messages: stripped, cut to `limit` characters, always encodable as UTF-8."""
    text = text[:MAX_CHARS].strip()[:limit]
    return text.encode("utf-8", "replace").decode("utf-8")


def nearest(word: str, known: Iterable[str]) -> str:
    """' (did you mean ...?)', or '' when nothing is near. Ends a message about an unknown name."""
    found = difflib.get_close_matches(word, list(known), n=1)
    return f' (did you mean "{found[0]}"?)' if found else ""
