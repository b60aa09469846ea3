"""The answers of one stage, on disk: after a kill nothing is asked twice, and costs stay the same.

One JSON line per generate call, so that the call count, tokens and seconds replay exactly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any

from lm.ledger import Ledger, Purpose, Usage
from lm.types import FinishReason


@dataclass(frozen=True)
class Answer:
    """What the model said, without token ids: text is all DSPy sees. `transcript` are the turns of
    an answer that could call tools."""

    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    transcript: Sequence[Mapping[str, Any]] = ()


@dataclass
class Spent:
    """What counts against a cap; of the tokens, `completion_tokens` were written."""

    rollouts: int = 0
    tokens: int = 0
    seconds: float = 0.0
    completion_tokens: int = 0

    def add(self, usage: Usage) -> None:
        self.rollouts += usage.completions
        self.tokens += usage.prompt_tokens + usage.completion_tokens
        self.seconds += usage.seconds
        self.completion_tokens += usage.completion_tokens


class AnswerBook:
    """Answers by question key in a JSONL file; `seconds` has each one's share of its call's time,
    `paid` what all calls in the file have cost.

    Opening it counts what the file holds into `ledger`: the stage did pay for these answers. A
    torn last line, left by a kill in mid-write, is cut off.
    """

    def __init__(self, path: Path, ledger: Ledger):
        self.answers: dict[str, Answer] = {}
        self.seconds: dict[str, float] = {}
        self.paid = Spent()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        written = path.read_bytes()
        whole = written[: written.rfind(b"\n") + 1]
        for line in whole.splitlines():
            self._replay(json.loads(line), ledger)
        self._file = path.open("r+b")
        self._file.truncate(len(whole))
        self._file.seek(len(whole))

    def _replay(self, row: dict, ledger: Ledger) -> None:
        used, spent = ledger.usage.setdefault(row["purpose"], Usage()), Usage(**row["usage"])
        self._note(spent, {key: Answer(*values) for key, values in row["answers"].items()})
        for name in _NAMES:
            setattr(used, name, getattr(used, name) + getattr(spent, name))

    def write(self, purpose: Purpose, usage: Usage, answers: Mapping[str, Answer]) -> None:
        """Add one generate call's answers and what they cost; with the system when this returns."""
        self._note(usage, answers)
        rows = {key: astuple(answer) for key, answer in answers.items()}
        row = {"purpose": purpose, "usage": asdict(usage), "answers": rows}
        self._file.write(json.dumps(row).encode() + b"\n")
        self._file.flush()

    def _note(self, usage: Usage, answers: Mapping[str, Answer]) -> None:
        self.answers |= answers
        self.seconds |= dict.fromkeys(answers, usage.seconds / len(answers))
        self.paid.add(usage)

    def close(self) -> None:
        self._file.close()


_NAMES = tuple(field.name for field in fields(Usage))


def difference(after: Usage, before: Usage) -> Usage:
    """What was spent between two readings of one purpose."""
    return Usage(**{name: getattr(after, name) - getattr(before, name) for name in _NAMES})
