"""`tasklift.json` in a reward model's folder: what it reads, what it learned from, how good it is.

The rest of the folder is as transformers writes any sequence classifier, and works without it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from reward_models.pairs import question_digest
from reward_models.types import RewardError
from tasks.types import Prompt

CARD = "tasklift.json"
Reads = Literal["task", "sent"]
Steps = Literal["", "min", "mean", "last"]


@dataclass(frozen=True)
class Card:
    """`reads: task` puts the question with `prompt`, the task's own and bare, so that a score does
    not hang on the demos of whoever answered; `sent` reads the chat that was sent. With `steps`
    each line of the answer that has text is scored, and the reward is the worst, the mean or the
    last of the scores. `center` is what an answer of the held-out pairs scores on average: it is
    taken off. `told` is for people: base, pairs, figures, seed; but for `learned_from`, digests of
    the questions.
    """

    reads: Reads = "sent"
    prompt: Prompt | None = None
    steps: Steps = ""
    center: float = 0.0
    told: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        plain = {**asdict(self), "prompt": self.prompt and json.loads(self.prompt.to_json())}
        return json.dumps(plain, indent=1, ensure_ascii=False)

    def learned_from(self, question: str) -> bool:
        """Whether a pair of this question was among those trained on, as far as the card tells."""
        return question_digest(question) in self.told.get("learned_from", ())


def read_card(folder: Path) -> Card:
    """The card of a folder; of one that others made, an empty one. Raises RewardError."""
    path = folder / CARD
    if not path.exists():
        return Card()
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        prompt = raw["prompt"] and Prompt.from_json(json.dumps(raw["prompt"]))
        card = Card(raw["reads"], prompt, raw["steps"], float(raw["center"]), dict(raw["told"]))
        known = card.reads in get_args(Reads) and card.steps in get_args(Steps)
        if not known or (card.reads == "task" and prompt is None):
            raise ValueError("reads, steps or prompt are not as tasklift reward-train writes them")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RewardError(f"{path}: is damaged ({error}); train the reward model again") from None
    return card
