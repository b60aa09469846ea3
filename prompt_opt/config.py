"""What a spec may say of the prompt methods. No dspy: the command line reads this."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class BootstrapConfig(BaseModel):
    """DSPy's BootstrapFewShotWithRandomSearch (Khattab et al., 2023, arXiv:2310.03714).

    `candidates` random demo sets are compared on the first `dev_examples` of dev beside DSPy's
    three fixed ones (no demos, labeled demos, one unshuffled bootstrap). Demos are drawn from
    `train_examples` of train: DSPy would walk all of train, one question after another, when its
    teacher is rarely right.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_bootstrapped_demos: int = Field(default=4, ge=0)
    max_labeled_demos: int = Field(default=4, ge=0)
    candidates: int = Field(default=6, ge=0)
    train_examples: int = Field(default=64, ge=1)
    dev_examples: int = Field(default=100, ge=1)
    style: str = Field(default="direct", pattern="^(direct|cot)$")
    rollouts: int | None = Field(default=None, ge=1)  # hard cap on answers asked for

    def expected_rollouts(self) -> int:
        """Answers asked for at most, bootstrapping attempts aside."""
        wanted = (self.candidates + 3) * self.dev_examples
        return wanted if self.rollouts is None else min(wanted, self.rollouts)
