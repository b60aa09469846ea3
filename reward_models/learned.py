"""A learned reward: a folder with a sequence classifier that says how good an answer is.

`tasklift reward-train` writes one (reward_models/training.py); any of transformers with one label
will do. The unit is that of a Bradley-Terry model's logits: the sigmoid of the difference of two
rewards is how probably the first answer is preferred (Bradley and Terry, 1952).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from lm.ledger import Ledger, Stopwatch
from reward_models.card import Card, read_card
from reward_models.types import RewardError, Turns, find, reply
from tasks.types import Example, Prompt

if TYPE_CHECKING:
    from lm.classifier import Classifier

AGGREGATES = {"": fmean, "min": min, "mean": fmean, "last": lambda scores: scores[-1]}


@dataclass(frozen=True)
class LearnedReward:
    """A reward; None for a conversation that does not fit the model's window.

    Reads the question of `example_id` in the task's own words, or the prompt as it was sent: see
    `Card`. In plain TRL, without `examples`, it reads prompts as they are given.
    """

    name: str
    classifier: Classifier
    card: Card = field(default_factory=Card)
    examples: Mapping[str, Example] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=Ledger)

    @property
    def __name__(self) -> str:
        """What TRL calls the reward in its logs."""
        return Path(self.name).name

    def __call__(
        self, prompts: Sequence[Turns], completions: Sequence[Turns], **columns: Any
    ) -> list[float | None]:
        aggregate = AGGREGATES[self.card.steps]
        scores = self.step_scores(prompts, completions, **columns)
        return [aggregate(steps) if steps else None for steps in scores]

    def step_scores(
        self, prompts: Sequence[Turns], completions: Sequence[Turns], **columns: Any
    ) -> list[list[float]]:
        """What each line of each completion is worth (all of it, for a model without steps); none
        for a conversation that does not fit the window."""
        from lm.classifier import read_scores

        chats = self._chats(prompts, columns.get("example_id"))
        replies = [reply(turns) for turns in completions]
        rows, places = self.classifier.rows_of(chats, replies, bool(self.card.steps))
        window = self.classifier.window
        fits = [i for i, row in enumerate(rows) if window is None or len(row) <= window]
        with Stopwatch() as watch:
            found = read_scores(self.classifier, [rows[i] for i in fits], [places[i] for i in fits])
        self.ledger.add(
            "reward",
            completions=0,  # it writes nothing
            prompt_tokens=sum(len(rows[i]) for i in fits),
            completion_tokens=0,
            seconds=watch.seconds,
        )
        scores: list[list[float]] = [[] for _ in rows]
        for i, some in zip(fits, found, strict=True):
            scores[i] = [score - self.card.center for score in some]
        return scores

    def _chats(
        self, prompts: Sequence[Turns], example_id: Sequence[str] | None
    ) -> list[Sequence[Any]]:
        own = self.card.prompt if self.card.reads == "task" else None
        if own is not None and example_id is not None and self.examples:
            return [own.messages(find(self.examples, k, self.name).inputs) for k in example_id]
        return [[{"role": "user", "content": p}] if isinstance(p, str) else p for p in prompts]


def check_learned(folder: Path, prompt: Prompt) -> None:
    """Raises what `load_learned` would, as far as files tell without loading weights: ModelError,
    and RewardError when the model was trained for a task with other inputs than `prompt` has."""
    from lm.classifier import check_classifier

    check_classifier(folder)
    own = read_card(folder).prompt
    if own is not None and own.inputs != tuple(prompt.inputs):
        raise RewardError(
            f"reward {folder}: was trained for a task with inputs {', '.join(own.inputs)}, this "
            f"one has {', '.join(prompt.inputs)}; train one for this task"
        )


def load_learned(
    folder: Path,
    prompt: Prompt,
    examples: Mapping[str, Example],
    ledger: Ledger | None = None,
    device: str = "auto",
) -> LearnedReward:
    """The reward in `folder`, in fp32. Raises ModelError and RewardError."""
    from lm.classifier import load_classifier

    check_learned(folder, prompt)
    classifier = load_classifier(folder, device)
    return LearnedReward(str(folder), classifier, read_card(folder), examples, ledger or Ledger())
