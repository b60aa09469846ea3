"""Any generator of reasoning-gym (Stojanovski et al., 2025) as a task: `reasoning:chain_sum`.

Options of the generator follow its name, `reasoning:chain_sum,max_terms=3,max_digits=2`; `size` is
the number of questions in all splits together (500, or 60 where making one takes long), `seed` is
another set of them. Of the questions drawn, in their order, those that say something new are dealt
in tens: six to train, one to dev, three to test; whatever is nearly a question of test is then left
out of train and dev. Some generators have fewer questions than are asked for.

Scores are the generator's own, partial ones included. Its scorer runs in another process
(`reasoning_scores`): some of them evaluate what the model wrote.
"""

from __future__ import annotations

import base64
import pickle
from collections.abc import Sequence
from pathlib import Path

from tasks.known.reasoning_questions import make_questions, read_name
from tasks.text import MAX_CHARS, contains, normalize, shorten
from tasks.types import Example, Score, SplitName, Task
from tasks.worker import Worker, WorkerFailed

SECONDS = 5.0  # for one score
TRIFLE = 0.1  # what generators give for an answer that is merely there

FAILURES = {
    "empty": "The answer is empty.",
    "extra_text": "The right answer with other words around it.",
    "partial": "The generator gives more than a trifle for it, and less than all.",
    "wrong": "The generator gives nothing, or a trifle for answering at all.",
    "unreadable": "The generator's scorer raised an error over the answer.",
    "timeout": "Scoring the answer took too long.",
}

_worker = Worker("tasks.known.reasoning_scores:score")


class Reasoning(Task):
    """The questions of one generator."""

    instruction = "Solve the problem. Write the answer and nothing else."
    inputs = ("question",)
    output = "answer"
    failure_classes = FAILURES
    format_failures = ("empty", "extra_text", "unreadable")
    files = (
        Path(__file__).with_name("reasoning_questions.py"),
        Path(__file__).with_name("reasoning_scores.py"),
    )

    def __init__(self, name: str):
        self.asked = read_name(name)
        self.name = name

    def split(self, name: SplitName) -> Sequence[Example]:
        return make_questions(self.asked)[0][name]

    def score(self, example: Example, text: str) -> Score:
        text = text[:MAX_CHARS].strip()
        told = f" One right answer is {example.answer}." if example.answer else ""
        if not text:
            return Score(0.0, False, "empty", f"The answer is empty.{told}")
        value, problem = self._value(example.id, text)
        shown = shorten(text)
        if value >= 1.0:
            return Score(1.0, True, answer=shown)
        gold = normalize(example.answer)
        wordy = gold and contains(normalize(text), gold)
        failure = problem or ("extra_text" if wordy else "partial" if value > TRIFLE else "wrong")
        return Score(value, False, failure, f"{FAILURES[failure]}{told}", shown)

    def _value(self, id: str, text: str) -> tuple[float, str]:
        """The generator's score in [0, 1], and the failure class when it gave none."""
        entry = base64.b64encode(pickle.dumps(make_questions(self.asked)[1][id])).decode()
        question = [self.asked.generator, dict(self.asked.options), entry, text]
        try:
            given = _worker.ask(question, SECONDS)
        except WorkerFailed as error:
            return 0.0, "timeout" if error.timed_out else "unreadable"
        if not isinstance(given, float) or not 0.0 <= given <= 1.0:
            return 0.0, "unreadable"
        return given, ""
