"""Which scorer suits the answers, and what to ask the model for; always with the reason."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tasks.collect.clean import Item
from tasks.json_scorer import read_json
from tasks.scorers import NUMBER
from tasks.text import normalize
from tasks.types import TaskError

MOST_CHOICES, ROWS_A_CHOICE = 100, 5
LABEL_LENGTH = 60
SHORT_WORDS, SHORT_MOST = 4, 12
LEADING_ZERO = re.compile(r"[-+]?0\d")
DECIMAL_COMMA = re.compile(r"[-+\u2212]?\d{1,3}(?:[. ]?\d{3})*,\d+(?:\s?%)?")
RATIONALE = re.compile(r"####\s*[-+]?[\d.,]+\s*%?$")


@dataclass(frozen=True)
class Guess:
    """A scorer of a task.yaml and the reason for it."""

    scorer: str
    why: str
    instruction: str
    choices: tuple[str, ...] = ()
    pattern: str = ""
    note: str = ""


def guess_scorer(items: Sequence[Item], name: str = "") -> Guess:
    """The scorer called `name`, or the one that suits the answers. Raises TaskError."""
    answers = [answer for item in items for answer in item.answers]
    if len(set(map(normalize, answers))) == 1:
        raise TaskError(f'every row has the answer "{answers[0][:60]}"; there is nothing to learn')
    if name:
        return _named(name, answers)
    for kind in (_as_json, _as_number_after_reasoning, _as_choice, _as_number):
        if found := kind(answers):
            return found
    found = _as_shape(answers) or _as_words(answers)
    comma = _decimal_comma(answers)
    told = f'"{comma}" is compared as text; for numbers, write a point in the place of the comma'
    return replace(found, note=told) if comma else found


def _named(name: str, answers: Sequence[str]) -> Guess:
    asked = "as asked for"
    if name == "choice":
        return _choice(sorted(set(answers)), asked)
    if name == "number" and (comma := _decimal_comma(answers)):
        raise TaskError(f'scorer number: "{comma}" has a decimal comma; write a point in its place')
    if name == "regex":
        pattern = _shape(answers)
        if not pattern:
            raise TaskError("scorer regex: the answers have no form in common; write it by hand")
        return Guess("regex", asked, _shaped(answers), pattern=pattern)
    asking = {"number": _NUMBER, "json": _JSON, "exact": _SHORT, "contains": _SHORT, "f1": _WORDS}
    return Guess(name, asked, asking[name])


_NUMBER = "Answer with the number only."
_JSON = "Answer with JSON only."
_SHORT = "Answer with the answer only."
_WORDS = "Answer in a few words."


def _shaped(answers: Sequence[str]) -> str:
    return f"Answer in the form {_form(answers[0])} only (0 is any digit, A any letter)."


def _form(answer: str) -> str:
    """2026-03-01 is 0000-00-00: the form, and nobody's answer."""
    return re.sub("[a-z]", "a", re.sub("[A-Z]", "A", re.sub(r"\d", "0", answer)))


def _choice(labels: Sequence[str], why: str) -> Guess:
    listed = ", ".join(labels)
    return Guess("choice", why, f"Answer with one of these labels only: {listed}.", tuple(labels))


def _as_choice(answers: Sequence[str]) -> Guess | None:
    labels = sorted(set(answers))
    rows = len(answers) / len(labels)
    if len(labels) > MOST_CHOICES or rows < ROWS_A_CHOICE or max(map(len, labels)) > LABEL_LENGTH:
        return None
    if any("\n" in label for label in labels):
        return None
    return _choice(labels, f"{len(labels)} different answers, {rows:.0f} rows each on average")


def _as_number(answers: Sequence[str]) -> Guess | None:
    if not all(NUMBER.fullmatch(answer.strip("$€£ ")) for answer in answers):
        return None
    if any(map(LEADING_ZERO.match, answers)):  # a code, such as 00501
        return None
    return Guess("number", "every answer is a number", _NUMBER)


def _decimal_comma(answers: Sequence[str]) -> str:
    """An answer such as 12,50 among what would all be numbers otherwise; '' without."""
    bare = [answer.strip("$€£ ") for answer in answers]
    commas = [a for a in bare if DECIMAL_COMMA.fullmatch(a) and not NUMBER.fullmatch(a)]
    whole = all(DECIMAL_COMMA.fullmatch(a) or NUMBER.fullmatch(a) for a in bare)
    return commas[0] if commas and whole else ""


def _as_number_after_reasoning(answers: Sequence[str]) -> Guess | None:
    if not all(RATIONALE.search(answer) for answer in answers):
        return None
    asking = "Think step by step. End with #### and the number."
    return Guess("number", "every answer ends with #### and a number", asking)


def _as_json(answers: Sequence[str]) -> Guess | None:
    is_json: Callable[[str], bool] = lambda a: a[:1] in "{[" and read_json(a) is not None  # noqa: E731
    if not all(map(is_json, answers)):
        return None
    values = [read_json(answer) for answer in answers[:1000]]
    keys = Counter(key for value in values if isinstance(value, dict) for key in value)
    often = [key for key, count in keys.most_common(12) if count >= len(values) / 10]
    asking = (
        f"Answer with a JSON object only, with the fields {', '.join(often)}." if often else _JSON
    )
    return Guess("json", "every answer is JSON", asking)


def _as_shape(answers: Sequence[str]) -> Guess | None:
    pattern = _shape(answers)
    if not pattern:
        return None
    return Guess(
        "regex", f"every answer has the form {_form(answers[0])}", _shaped(answers), pattern=pattern
    )


def _shape(answers: Sequence[str]) -> str:
    """The regular expression of marks such as AB-1234 or 2026-03-01; '' when there is no such."""
    first = answers[0]
    if len(first) > 40 or " " in first or not re.search(r"\d", first):
        return ""
    parts = re.findall(r"\d+|[A-Z]+|[a-z]+|.", first)
    kinds = {"0": r"\d", "A": "[A-Z]", "a": "[a-z]"}
    body = ""
    for part in parts:
        kind = "0" if part[0] in "0123456789" else "A" if part[0].isupper() else "a"
        is_plain = re.fullmatch(r"[0-9A-Za-z]+", part)
        body += f"{kinds[kind]}{{{len(part)}}}" if is_plain else re.escape(part)
    pattern = rf"(?<!\w){body}(?!\w)"
    return pattern if all(re.fullmatch(pattern, answer) for answer in answers) else ""


def _as_words(answers: Sequence[str]) -> Guess:
    words = sorted(len(answer.split()) for answer in answers)
    middle, longest = words[len(words) // 2], words[int(0.99 * (len(words) - 1))]
    if middle <= SHORT_WORDS and longest <= SHORT_MOST:
        return Guess("exact", f"answers are short ({middle} words in the middle)", _SHORT)
    return Guess("f1", f"answers are texts ({middle} words in the middle): word overlap", _WORDS)
