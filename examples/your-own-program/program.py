"""Two DSPy programs for the past tense: one of two steps, and one that comes down to a prompt."""

import dspy


class Kind(dspy.Signature):
    """Say whether the verb is regular or irregular."""

    verb: str = dspy.InputField()
    kind: str = dspy.OutputField()


class Past(dspy.Signature):
    """Give the past tense of the verb. Answer with one word."""

    verb: str = dspy.InputField()
    kind: str = dspy.InputField()
    past: str = dspy.OutputField()


class TwoSteps(dspy.Module):
    """Several predictors: stays a program, with DSPy's own adapter."""

    def __init__(self) -> None:
        super().__init__()
        self.kind = dspy.Predict(Kind)
        self.past = dspy.Predict(Past)

    def forward(self, verb: str) -> dspy.Prediction:
        return self.past(verb=verb, kind=self.kind(verb=verb).kind)


def one_step() -> dspy.Module:
    """A single predictor: becomes a prompt, and any method can follow."""
    return dspy.Predict(dspy.Signature("verb -> past", "Give the past tense of the verb."))
