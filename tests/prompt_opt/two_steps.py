"""A program of two steps, for the tests: it thinks of a plan, then shouts."""

from __future__ import annotations

import dspy


class Plan(dspy.Signature):
    """Make a plan."""

    word: str = dspy.InputField()
    plan: str = dspy.OutputField()


class Shout(dspy.Signature):
    """Follow the plan."""

    word: str = dspy.InputField()
    plan: str = dspy.InputField()
    loud: str = dspy.OutputField()


class Solve(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.think = dspy.Predict(Plan)
        self.act = dspy.Predict(Shout)

    def forward(self, word: str) -> dspy.Prediction:
        return self.act(word=word, plan=self.think(word=word).plan)
