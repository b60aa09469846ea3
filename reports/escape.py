"""Model output is untrusted: it may hold escape codes, Markdown, markup, or a whole novel."""

from __future__ import annotations

import re
import unicodedata

LIMIT = 100  # characters of one cell

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "@": "&#64;"}
_MARKUP = re.compile(r"://|www\.|[&<>|@\\`*_\[\]~#$!]", re.IGNORECASE)


def plain(text: str, limit: int = LIMIT) -> str:
    """`text` on one line of at most `limit` characters, safe to print to a terminal.

    Line breaks show as ⏎; control characters, which ANSI codes need, and invisible formatting
    ones, which can reverse what is read (Trojan Source, CVE-2021-42574), show as their escapes.
    """
    text = text[: limit + 1].replace("\r\n", "\n")
    shown = "".join(map(_visible, text))
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def markdown(text: str, limit: int = LIMIT) -> str:
    """`text` as one Markdown table cell, or part of a sentence, that shows it literally.

    Pipes and angle brackets become entities, other markup is backslashed, and web addresses are
    broken so that no renderer makes a link of them.
    """
    return _MARKUP.sub(_literal, plain(text, limit))


def storable(text: str) -> str:
    """`text` with half of a surrogate pair as its escape: Arrow, and so pandas, holds none. JSON
    may name one, so whatever is parsed again may have it though Parquet had not."""
    return text.encode(errors="backslashreplace").decode()


def _literal(found: re.Match[str]) -> str:
    markup = found[0]
    if len(markup) > 1:  # of a web address
        return "".join(f"&#{ord(character)};" for character in markup)
    return _ENTITIES.get(markup, f"\\{markup}")


def _visible(character: str) -> str:
    if character == "\n":
        return "⏎"
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
        return character.encode("unicode_escape").decode()
    return character
