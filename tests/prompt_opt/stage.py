"""A prompt method's stage as the tests see it: a pupil that demos, rules or luck make better."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluation.types import Context, Method, Policy
from lm.ledger import Caps, Ledger, Purpose
from lm.scripted import ScriptedLM
from lm.types import Chat, Completion, Sampling
from tasks.types import Example, Prompt, Score

TASK = Prompt("Shout.", ("word",), "loud")


def examples(first: int, count: int) -> list[Example]:
    return [Example(f"e{i}", {"word": f"w{i}"}, f"W{i}") for i in range(first, first + count)]


TRAIN, DEV = examples(0, 40), examples(100, 30)


def exact(example: Example, answer: str) -> Score:
    return Score(float(answer == example.answer), answer == example.answer, feedback="So it is.")


class Model(ScriptedLM):
    """Counts its calls, draws what it is asked at temperature > 0 by its random stream, and raises
    at call `dies_at`, as a kill would end it."""

    def __init__(self, script: Callable[[Chat, int], str], ledger: Ledger, dies_at: int = -1):
        super().__init__(script, ledger)
        self.sizes: list[int] = []
        self.asked: list[str] = []
        self.dies_at = dies_at

    def generate(
        self, chats: Sequence[Chat], sampling: Sampling, purpose: Purpose
    ) -> list[list[Completion]]:
        if len(self.sizes) == self.dies_at:
            raise KeyboardInterrupt
        self.sizes.append(len(chats))
        draws = sampling.draws or (0,) * len(chats)
        self.asked += [json.dumps([*chat, draw]) for chat, draw in zip(chats, draws, strict=True)]
        self.ledger.check(purpose)
        rows = [
            [self._complete(chat, draw, sampling)] for chat, draw in zip(chats, draws, strict=True)
        ]
        self.ledger.add(
            purpose,
            completions=len(rows),
            prompt_tokens=sum(row[0].prompt_tokens for row in rows),
            completion_tokens=sum(len(row[0].token_ids) for row in rows),
            seconds=0.0,
        )
        return rows


@dataclass
class Stage:
    """One stage's folder and what happened in it."""

    folder: Path
    script: Callable[[Chat, int], str]
    score: Callable[[Example, str], Score] = exact
    seed: int = 0
    caps: Caps = field(default_factory=Caps)
    dies_at: int = -1
    max_tokens: int = 32
    shown: list[tuple[int, int, dict[str, Any]]] = field(default_factory=list)
    progress: Callable[..., None] | None = None
    train: Sequence[Example] = ()
    dev: Sequence[Example] = ()
    model_type: type[Model] = Model

    def _note(self, step: int, total: int, **figures: Any) -> None:
        self.shown.append((step, total, figures))

    def run(self, method: Method, prompt: Prompt = TASK) -> Prompt:
        return self.improve(method, Policy("scripted", prompt)).prompt

    def improve(self, method: Method, policy: Policy) -> Policy:
        self.ledger = Ledger(self.caps)
        self.model = self.model_type(self.script, self.ledger, self.dies_at)
        context = Context(
            score=self.score,
            open=lambda policy: self.model,
            ledger=self.ledger,
            folder=self.folder,
            sampling=Sampling(max_tokens=self.max_tokens),
            seed=self.seed,
            progress=self.progress or self._note,
        )
        return method.improve(policy, self.train or TRAIN, self.dev or DEV, context)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        lines = (self.folder / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    @property
    def candidates(self) -> list[dict[str, Any]]:
        return json.loads((self.folder / "candidates.json").read_text())
