"""What a trainer is asked from outside, in words that neither the prompt optimizers nor RL own.

`rl.lessons` is a `Trainer`, `prompt_opt.bridge` calls one, `experiments.bridge` introduces the two
to each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from evaluation.types import Policy
from lm.types import Chat, Completion, LanguageModel


@dataclass(frozen=True)
class Lesson:
    """An answer to imitate: `text`, and the end of the turn, behind `chat`."""

    chat: Chat
    text: str


@dataclass(frozen=True)
class Graded:
    """An answer and what it was worth.

    `completion` holds the tokens as they were drawn. None: nobody knows them, and `text` stands for
    them, as the tokenizer writes it, with the end of the turn.
    """

    chat: Chat
    text: str
    reward: float
    completion: Completion | None = None


class Learner(Protocol):
    """Weights in training by policy gradient, one step at a time."""

    def model(self) -> LanguageModel:
        """Answers with the weights as they are now, until the next step; its fingerprint tells
        them from those of any other step."""
        ...

    def step(self, groups: Sequence[Sequence[Graded]]) -> Mapping[str, float]:
        """One optimizer step on answers compared within their group; figures of it by name.

        All groups have the same size, 2 or more. Raises BudgetExhausted when there is no time left.
        """
        ...

    def save(self, folder: Path) -> Policy:
        """The policy of now, its weights in `folder`, which appears once it is whole."""
        ...


class Trainer(Protocol):
    """Moves the weights of a policy; its prompt plays no part.

    `settings` are options by name. Raises ModelError for one that is unknown or wrong, and for what
    cannot be trained on.
    """

    def finetune(
        self,
        policy: Policy,
        lessons: Sequence[Lesson],
        settings: Mapping[str, Any],
        folder: Path,
    ) -> Policy:
        """Supervised: the new policy, its weights in `folder`, which appears once it is whole.

        Raises BudgetExhausted when there is no time left.
        """
        ...

    def reinforce(self, policy: Policy, settings: Mapping[str, Any], folder: Path) -> Learner:
        """A learner that begins as `policy`; `folder` is for its passing files."""
        ...
