"""One value of a source as text: what a model is shown has one Unicode form and no odd spaces."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufeff\u200b\u2060]")
ODD_SPACE = re.compile("[\u00a0\u2007\u202f]")
LINE_END = re.compile(r"[ \t]+(?=\n)")
EMPTY_LINES = re.compile(r"\n{3,}")


def clean_text(text: str) -> str:
    """NFC, one kind of line break and of space, nothing invisible, no space at the ends. What
    stands in front of a line is kept: it may be code."""
    if text.isascii() and text.isprintable():
        return text.strip()
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # half a pair
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = ODD_SPACE.sub(" ", CONTROL.sub("", text))
    return EMPTY_LINES.sub("\n\n", LINE_END.sub("", text)).strip()


def as_text(value: Any) -> str:
    """'' for what is missing; a list is a line for each item, a mapping is JSON."""
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))  # a column of whole numbers with a gap
    if isinstance(value, list | tuple) and not any(isinstance(v, Mapping | list) for v in value):
        return "\n".join(filter(None, map(as_text, value)))
    if isinstance(value, Mapping | list | tuple):
        return clean_text(json.dumps(value, ensure_ascii=False, default=str))
    return "" if isinstance(value, bytes) else clean_text(str(value))


def as_answers(value: Any) -> list[str]:
    """The accepted answers: every item of a list, else the one."""
    if isinstance(value, list | tuple) and not any(isinstance(v, Mapping | list) for v in value):
        return list(dict.fromkeys(filter(None, map(as_text, value))))
    text = as_text(value)
    return [text] if text else []


def find(columns: Mapping[str, Any], name: str) -> Any:
    """The value of a column, or of a part of it: answers.text."""
    if name in columns:
        return columns[name]
    head, dot, rest = name.partition(".")
    inner = columns.get(head) if dot else None
    return find(inner, rest) if isinstance(inner, Mapping) else None
