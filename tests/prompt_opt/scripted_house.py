"""A provider on scripted models, with a trainer that does nothing but take note."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.training import Graded, Lesson
from evaluation.types import Policy
from lm.ledger import Ledger
from lm.scripted import ScriptedLM
from lm.types import Chat, Sampling
from prompt_opt.bridge import LocalProvider
from tasks.types import Prompt


def scripted(name: str, ledger: Ledger) -> ScriptedLM:
    """Says its name, the question, and a number that no other of its answers has."""
    said: list[int] = []

    def script(chat: Chat, _: int) -> str:
        said.append(1)
        return f"{name} {chat[-1]['content']} {len(said)} "

    return ScriptedLM(script, ledger, name)


class FakeLearner:
    def __init__(self, ledger: Ledger):
        self.ledger, self.steps = ledger, 0
        self.groups: list[list[list[Graded]]] = []
        self._model = scripted("live0", ledger)

    def model(self) -> ScriptedLM:
        return self._model

    def step(self, groups: Sequence[Sequence[Graded]]) -> Mapping[str, float]:
        self.groups.append([[*group] for group in groups])
        self.steps += 1
        self._model = scripted(f"live{self.steps}", self.ledger)
        return {"loss": 0.0}

    def save(self, folder: Path) -> Policy:
        return Policy("base", Prompt(""), adapter=Path(f"saved{self.steps}"))


class FakeTrainer:
    def __init__(self, ledger: Ledger):
        self.ledger = ledger
        self.lessons: list[list[Lesson]] = []
        self.settings: list[dict[str, Any]] = []
        self.learner = FakeLearner(ledger)
        self.fails: BaseException | None = None

    def finetune(
        self,
        policy: Policy,
        lessons: Sequence[Lesson],
        settings: Mapping[str, Any],
        folder: Path,
    ) -> Policy:
        if self.fails is not None:
            raise self.fails
        self.lessons.append([*lessons])
        self.settings.append({**settings})
        return policy.with_adapter(Path(f"tuned{len(self.lessons)}"))

    def reinforce(self, policy: Policy, settings: Mapping[str, Any], folder: Path) -> FakeLearner:
        self.settings.append({**settings})
        return self.learner


class House:
    """A provider, its trainer, and the models that were opened."""

    def __init__(self, folder: Path, temperature: float = 0.0, cache: bool = False):
        self.ledger, self.opened = Ledger(), list[str]()
        self.trainer = FakeTrainer(self.ledger)

        def open(policy: Policy) -> ScriptedLM:
            self.opened.append(str(policy.adapter or policy.model))
            return scripted(self.opened[-1], self.ledger)

        sampling = Sampling(max_tokens=64, temperature=temperature)
        policy = Policy("base", Prompt(""))
        self.provider = LocalProvider(policy, open, self.trainer, sampling, folder, cache=cache)
        self.lm = self.provider.lm
