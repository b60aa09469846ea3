"""What training on one task costs elsewhere: a small off-task panel, asked before and after.

24 plain questions (knowledge, arithmetic, copying) that a model of 135M parameters partly knows,
answered greedily, and 12 neutral sentences, of which the model says how likely they are. The two
see different things: answers that are no longer given, and language that is no longer expected,
even by a model too small to answer. A second or two; it is no benchmark, and only the difference
between two panels of one model means something.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev

from lm.hf import HFModel
from lm.types import Sampling
from rl.findings import Finding
from tasks.text import contains, normalize

MAX_TOKENS = 12
CHANCE = 0.01  # of a finding where nothing was forgotten
T_11 = 2.72  # Student's t with 11 degrees of freedom, one-sided, at `CHANCE`
SHIFT = 0.1  # nats per token; less is a matter of style
LOSS = 0.5  # nats per token: a text of 20 tokens is 20,000 times less likely

# question, then the answers that count, as whole words anywhere in the reply
QUESTIONS: tuple[tuple[str, ...], ...] = (
    ("What is the capital of France?", "Paris"),
    ("What is the capital of Japan?", "Tokyo"),
    ("What is the capital of Italy?", "Rome"),
    ("In which country is Berlin?", "Germany"),
    ("On which continent is Egypt?", "Africa"),
    ("What is the largest planet of the solar system?", "Jupiter"),
    ("Which planet do we live on?", "Earth"),
    ("Who wrote the play Romeo and Juliet?", "Shakespeare"),
    ("What is the chemical formula of water?", "H2O", "H₂O"),
    ("What color is the sky on a clear day?", "blue"),
    ("What color is grass?", "green"),
    ("What is frozen water called?", "ice"),
    ("Which animal barks?", "dog", "dogs"),
    ("What do bees make?", "honey"),
    ("How many days are in a week?", "7", "seven"),
    ("How many legs does a spider have?", "8", "eight"),
    ("What is 2 + 2?", "4", "four"),
    ("What is 5 + 3?", "8", "eight"),
    ("What is 10 - 4?", "6", "six"),
    ("What is 3 times 3?", "9", "nine"),
    ("What is the opposite of hot?", "cold"),
    ("Which month comes after January?", "February"),
    ("Repeat this word: lantern", "lantern"),
    ("Repeat this number: 4815", "4815"),
)
SENTENCES = (
    "The train to the coast leaves early in the morning.",
    "She put the letter on the table and closed the window.",
    "Most of the houses in the village are made of stone.",
    "It rained all night, and the river rose by half a meter.",
    "He has worked in the same office for almost ten years.",
    "The children were playing in the garden behind the school.",
    "A good map shows where the roads are and how long they take.",
    "The museum is closed on Mondays, but the park is always open.",
    "They bought bread, cheese and a bottle of water at the market.",
    "When the film was over, nobody in the room said a word.",
    "The doctor told her to rest and to drink plenty of tea.",
    "In winter the lake freezes, and people walk across the ice.",
)
ASKED = "Write one sentence."


@dataclass(frozen=True)
class Panel:
    """One round: the replies, which of them are right, and nats per token of each sentence."""

    replies: tuple[str, ...]
    right: tuple[bool, ...]
    nats: tuple[float, ...]

    @property
    def accuracy(self) -> float:
        return fmean(self.right)

    @property
    def nats_per_token(self) -> float:
        """The mean over sentences, each by its own length."""
        return fmean(self.nats)

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Panel:
        """Inverse of `to_json`."""
        raw = json.loads(text)
        return cls(tuple(raw["replies"]), tuple(raw["right"]), tuple(raw["nats"]))


def ask_panel(model: HFModel) -> Panel:
    """Put the panel to `model`, greedily; counted in its ledger as `eval`.

    Leaves the model in eval mode, as sampling does. The same weights give the same panel.
    """
    model.forget()
    chats = [[{"role": "user", "content": row[0]}] for row in QUESTIONS]
    rows = model.generate(chats, Sampling(max_tokens=MAX_TOKENS), "eval")
    model.forget()  # of these chats too
    replies = tuple(row[0].text for row in rows)
    tokens = [model.tokenizer(s, add_special_tokens=False)["input_ids"] for s in SENTENCES]
    said = model.logprobs([[{"role": "user", "content": ASKED}]] * len(tokens), tokens)
    return Panel(
        replies,
        tuple(_is_right(r, row[1:]) for r, row in zip(replies, QUESTIONS, strict=True)),
        tuple(-fmean(row) for row in said),
    )


def forgetting(before: Panel, after: Panel) -> list[Finding]:
    """One finding on the answers and one on the sentences, each paired item by item.

    Answers: the exact one-sided sign test on questions that turned wrong against ones that turned
    right. Sentences: a paired one-sided t test on nats per token. Any training moves those a
    little, so only a rise above `SHIFT` is noted, and one above `LOSS` trips.
    """
    return [_answers(before, after), _sentences(before, after)]


def _answers(before: Panel, after: Panel) -> Finding:
    pairs = list(zip(before.right, after.right, strict=True))
    lost, won = sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)
    moved = lost + won
    p = sum(math.comb(moved, k) for k in range(lost, moved + 1)) / 2**moved
    said = (
        f"off-task questions right: {sum(before.right)} of {len(pairs)} before, "
        f"{sum(after.right)} after ({lost} lost, {won} won)"
    )
    return Finding("forgetting: answers", "tripped" if p < CHANCE else "ok", None, said)


def _sentences(before: Panel, after: Panel) -> Finding:
    rises = [b - a for a, b in zip(before.nats, after.nats, strict=True)]
    rise, error = fmean(rises), stdev(rises) / math.sqrt(len(rises))
    sure = rise > T_11 * error
    level = "tripped" if sure and rise > LOSS else "note" if sure and rise > SHIFT else "ok"
    said = (
        f"neutral sentences: {before.nats_per_token:.2f} nats per token before, "
        f"{after.nats_per_token:.2f} after"
    )
    return Finding("forgetting: sentences", level, None, said)


def _is_right(reply: str, accepted: Sequence[str]) -> bool:
    return any(contains(normalize(reply), normalize(form)) for form in accepted)
