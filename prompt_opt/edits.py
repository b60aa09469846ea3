"""Small changes to an instruction, and which texts can be one: what a small proposer needs.

A model of a few hundred million parameters answers the task, talks about itself or copies the
request when it is asked for a better instruction. So it is asked in one sentence for one kind of
change, what comes back is looked at before it costs a rollout, and the same kinds of change can be
made without it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tasks.text import normalize
from tasks.types import Example, Prompt

MOST_ANSWERS = 12  # different ones that an instruction may list
MOST_WORDS = 120
BRIEF = 160  # characters of a text that is shown to a proposer
LEAD = re.compile(
    r"^\W*(?:(?:new|improved|better|revised|rewritten|proposed)\s+)*"
    r"(?:task description|task|instructions?|description|rule|rules)\s*:\s*",
    re.IGNORECASE,
)
CHATTER = re.compile(
    r"^(?:sure|certainly|of course|here (?:is|are)|i am|i'm|i |as an ai|thank|okay|ok,|yes|no,)",
    re.IGNORECASE,
)
MARKUP = ("<|", "[[", "]]", "##", "```", "http", "\ufffd")


@dataclass(frozen=True)
class Edit:
    """One kind of change: how a model is asked for it, and how it is made without one."""

    request: str
    apply: Callable[[str, random.Random], str]


class Menu:
    """The edits that make sense for a task, with examples of train to show.

    With `steps` an instruction is that of one step of several, whose fields are not the task's:
    then only those that name no field.
    """

    def __init__(self, prompt: Prompt, examples: Sequence[Example], steps: bool = False):
        self.prompt, self._examples = prompt, list(examples)
        given = " and ".join(prompt.inputs)
        answers = sorted({example.answer for example in examples})
        form = f"Answer with the {prompt.output} only, nothing else."
        if prompt.style == "cot":  # which asks for more than the answer by itself
            form = f"On the last line give the {prompt.output} only."
        look = f"Look closely at the {given} before you answer."
        self._rules, self._steps = [form, look], steps
        if steps:
            self._rules, self.edits = _RULES_OF_A_STEP, _EDITS_OF_A_STEP
            return
        self.edits = [
            Edit("Make it shorter and clearer.", _shorter),
            Edit("Say exactly what form the answer must have.", lambda t, _: f"{t} {form}"),
            Edit("Add one rule that helps to find the right answer.", lambda t, _: f"{t} {look}"),
            Edit("Add an example of an answer.", lambda t, rng: f"{t} {self.shown(rng, 1)}"),
            Edit("Add more examples.", lambda t, rng: f"{t} {self.shown(rng, 4)}"),
            Edit("Say who should answer, such as an expert.", _as_expert),
            Edit(
                "Name what is given and what is wanted.",
                lambda t, _: f"You get the {given}. Give the {prompt.output}. {t}",
            ),
        ]
        if len(answers) <= min(MOST_ANSWERS, len(examples) // 3):
            listed = ", ".join(answers)
            self.edits.append(
                Edit("List the answers to choose from.", lambda t, _: f"{t} Choose from: {listed}.")
            )

    def rule(self, rng: random.Random) -> str:
        """A rule that any task may have, or, where it has the task's fields, an example instead."""
        examples = [] if self._steps else [self.shown(rng, 1)]
        return rng.choice([*self._rules, *examples])

    def shown(self, rng: random.Random, count: int) -> str:
        """`count` examples in a line."""
        chosen = rng.sample(self._examples, min(count, len(self._examples)))
        return "For example: " + "; ".join(map(self.line, chosen)) + "."

    def line(self, example: Example) -> str:
        asked = " / ".join(example.inputs[name] for name in self.prompt.inputs)
        return f"{brief(asked)} → {brief(example.answer)}"

    def lines(self, rng: random.Random, count: int) -> str:
        chosen = rng.sample(self._examples, min(count, len(self._examples)))
        return "\n".join(map(self.line, chosen))


def _shorter(text: str, _: random.Random) -> str:
    return text.split(". ")[0].rstrip(".") + "."


def _as_expert(text: str, _: random.Random) -> str:
    return f"You are an expert. {text} Be accurate."


_RULES_OF_A_STEP = [
    "Answer with what is asked for only, nothing else.",
    "Look closely at what is given before you answer.",
]
_EDITS_OF_A_STEP = [
    Edit("Make it shorter and clearer.", _shorter),
    Edit("Say exactly what form the answer must have.", lambda t, _: f"{t} Write nothing else."),
    Edit(
        "Add one rule that helps to find the right answer.",
        lambda t, _: f"{t} Look closely at what is given before you answer.",
    ),
    Edit("Ask for few words.", lambda t, _: f"{t} Be brief and exact."),
    Edit("Say who should answer, such as an expert.", _as_expert),
]


def brief(text: str) -> str:
    """In one line, cut in the middle where it is long."""
    line = " ".join(str(text).split())
    return line if len(line) <= BRIEF else f"{line[: BRIEF // 2]} … {line[-BRIEF // 2 :]}"


def cleaned(text: str, cut: bool) -> str:
    """The first paragraph without label and quotes; of a `cut` answer, whole sentences."""
    paragraphs = [part for part in re.split(r"\n\s*\n", text.strip()) if part.strip()]
    first = " ".join(paragraphs[0].split()) if paragraphs else ""
    first = LEAD.sub("", first).strip().strip("\"'“”*` ")
    if cut and len(paragraphs) <= 1:
        end = max(first.rfind(mark) for mark in ".!?")
        first = first[: end + 1]
    return first


def fault(text: str, current: str) -> str | None:
    """Why `text` cannot take the place of the instruction `current`; None when it can."""
    words = text.split()
    if len(words) < 3:
        return "too short"
    if len(words) > max(MOST_WORDS, 2 * len(current.split())):
        return "too long"
    if normalize(text) == normalize(current):
        return "no change"
    if CHATTER.match(text):
        return "chatter"
    if any(mark in text for mark in MARKUP):
        return "markup"
    if sum(map(str.isalpha, text)) < 0.5 * len(text):
        return "no prose"
    grams = [tuple(words[i : i + 4]) for i in range(len(words) - 3)]
    if len(grams) - len(set(grams)) > 2:
        return "repetition"
    return None
