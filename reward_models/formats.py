"""Rewards for the form of an answer, which a program can check without knowing what is right.

They pay for form alone, and a policy finds out: beside the task's score, or in front of it as a
gate, they teach a form; alone they teach to say nothing in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from reward_models.config_formats import (
    Format,
    JsonFormat,
    LanguageFormat,
    LengthFormat,
    TagsFormat,
)
from reward_models.types import RewardError, Turns, Values, reply
from tasks.text import MAX_CHARS, nearest
from tasks.types import Prompt

PARTLY = 0.5  # the most for a form that is not quite as asked
SCRIPTS = (
    "Latin", "Cyrillic", "Greek", "Arabic", "Hebrew", "Han", "Hiragana", "Katakana", "Hangul",
    "Devanagari", "Thai", "Armenian", "Georgian",
)  # fmt: skip  # for the hint; `regex` knows all of Unicode's
Tokens = Sequence[Hashable]


@dataclass(frozen=True)
class FormatReward:
    """`check(text, tokens)` of every reply: 0 to 1."""

    format: Format
    check: Callable[[str, Tokens], float]

    @property
    def __name__(self) -> str:
        """What TRL calls the reward in its logs."""
        return f"format_{self.format.format}"

    def __call__(
        self, prompts: Sequence[Turns], completions: Sequence[Turns], **columns: Any
    ) -> Values:
        texts = [reply(turns) for turns in completions]
        tokens = columns.get("completion_ids") or [text.split() for text in texts]
        return [self.check(text, t) for text, t in zip(texts, tokens, strict=True)]


def format_reward(format: Format, prompt: Prompt) -> FormatReward:
    """The reward for a form. `prompt` extracts the answer in which JSON is looked for.

    Raises RewardError for a schema or script that is none.
    """
    if isinstance(format, TagsFormat):
        return FormatReward(format, lambda text, _: tags(text, format))
    if isinstance(format, JsonFormat):
        valid = _validator(format.json_schema)
        return FormatReward(format, lambda text, _: _is_json(prompt.extract(text), valid))
    if isinstance(format, LengthFormat):
        return FormatReward(
            format, lambda text, tokens: in_window(_size(text, tokens, format), format)
        )
    return FormatReward(format, _share_of(format))


def tags(text: str, format: TagsFormat) -> float:
    """1 for the tags alone, in order, each once; else half the share of those that stand once, in
    order and closed. With `outside: anything`, text around and between them does not matter."""
    spans = [_span(text, name) for name in format.names]
    found = [span for span in spans if span is not None]
    whole = len(found) == len(spans) and _in_order(found)
    if whole and (format.outside == "anything" or not _outside(text, found).strip()):
        return 1.0
    return PARTLY * (len(found) if _in_order(found) else 0) / len(spans)


def _span(text: str, name: str) -> tuple[int, int] | None:
    """Where <name>…</name> begins and ends, if either tag stands exactly once and in this order."""
    first, last = f"<{name}>", f"</{name}>"
    if text.count(first) != 1 or text.count(last) != 1:
        return None
    start, end = text.index(first), text.index(last)
    return (start, end + len(last)) if start < end else None


def _in_order(spans: Sequence[tuple[int, int]]) -> bool:
    return all(a[1] <= b[0] for a, b in pairwise(spans))


def _outside(text: str, spans: Sequence[tuple[int, int]]) -> str:
    ends = [0, *(end for _, end in spans)]
    starts = [*(start for start, _ in spans), len(text)]
    return "".join(text[a:b] for a, b in zip(ends, starts, strict=True))


def in_window(size: int, window: LengthFormat) -> float:
    """1 from `min` to `max`; below, the share of `min` there is; above, 1 less the excess as a
    share of `max`, 0 at the least."""
    if size < window.min:
        return size / window.min
    if window.max is not None and size > window.max:
        return max(0.0, 1 - (size - window.max) / window.max)
    return 1.0


def _size(text: str, tokens: Tokens, window: LengthFormat) -> int:
    if window.unit == "tokens":
        return len(tokens)
    return len(text.strip()) if window.unit == "chars" else len(text.split())


def parsed(text: str) -> Any:
    """JSON as the standard has it. Raises ValueError for anything else, NaN among it."""

    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is no JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _is_json(answer: str | None, fits: Callable[[Any], bool]) -> float:
    try:
        value = parsed((answer or "")[:MAX_CHARS])
    except ValueError:
        return 0.0
    try:
        return 1.0 if fits(value) else PARTLY
    except (RecursionError, ArithmeticError):  # of a value no schema was made for
        return PARTLY


def _validator(schema: dict[str, Any] | str | None) -> Callable[[Any], bool]:
    """Whether a value fits. Raises RewardError for a schema that is none."""
    if schema is None:
        return lambda value: True
    from jsonschema import SchemaError
    from jsonschema.validators import validator_for
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    if isinstance(schema, str):
        schema = _read_schema(schema)
    kind = validator_for(schema)
    try:
        kind.check_schema(schema)
        checker = kind(schema, registry=Registry())  # which fetches nothing
        checker.is_valid(None)
    except SchemaError as error:
        raise RewardError(f"reward: json_schema is no JSON schema: {error.message[:200]}") from None
    except Unresolvable as error:
        raise RewardError(
            f"reward: json_schema refers to what it does not hold ({str(error)[:100]}); "
            "write it out"
        ) from None
    return checker.is_valid


def _read_schema(file: str) -> dict[str, Any]:
    try:
        found = parsed(Path(file).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RewardError(f"reward: json_schema {file!r}: {error}; name a .json file") from None
    if not isinstance(found, dict):
        raise RewardError(f"reward: json_schema {file!r} holds no mapping; write a JSON schema")
    return found


def _share_of(format: LanguageFormat) -> Callable[[str, Tokens], float]:
    import regex

    letters = regex.compile(r"\p{L}")
    for script in format.scripts:
        if not re.fullmatch(r"\w+", script) or not _is_script(script):
            hint = nearest(script, SCRIPTS) or f"; write {', '.join(SCRIPTS[:6])} …"
            raise RewardError(f"reward: {script!r} is no script of Unicode{hint}")
    own = regex.compile("[" + "".join(rf"\p{{Script={s}}}" for s in format.scripts) + "]")

    def share(text: str, _: Tokens) -> float:
        """0 where there are no letters: silence is no language."""
        found = letters.findall(text[:MAX_CHARS])
        return sum(own.match(letter) is not None for letter in found) / len(found) if found else 0.0

    return share


def _is_script(name: str) -> bool:
    import regex

    try:
        regex.compile(rf"\p{{Script={name}}}")
    except regex.error:
        return False
    return True
