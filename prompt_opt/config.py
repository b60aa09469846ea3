"""What a spec may say of the prompt methods. No dspy: the command line reads this."""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from lm.ledger import Caps


class PromptConfig(BaseModel):
    """What all prompt methods share.

    Candidates are compared on `dev_examples` of dev; demos, and the examples an optimizer learns
    from, are drawn from `train_examples` of train. `rollouts` (answers asked for, proposals among
    them), `tokens` and `seconds` are hard caps on the stage: it ends with the best candidate so
    far, in front of the answer that would pass `rollouts`, and within a batch of the other two.

    `program` names a DSPy program to begin with, `my_program.py:Solve`: a `dspy.Module` or what
    makes one. A single predictor becomes a prompt, in its own style; other programs stay programs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    train_examples: int = Field(default=64, ge=1)
    dev_examples: int = Field(default=100, ge=1)
    style: Literal["direct", "cot"] = "direct"
    rollouts: int | None = Field(default=None, ge=1)
    tokens: int | None = Field(default=None, ge=1)
    seconds: float | None = Field(default=None, gt=0)
    program: str | None = None

    @field_validator("program")
    @classmethod
    def _names_a_class(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r".+\.py:\w+", value):
            raise ValueError(f"program: {value!r} names no class; write my_program.py:Solve")
        return value

    @model_validator(mode="after")
    def _style_of_the_program(self) -> Self:
        if self.program is not None and self.style != "direct":
            raise ValueError("style: the program itself says how it asks; leave style out")
        return self

    def caps(self) -> Caps:
        return Caps(self.rollouts, self.tokens, self.seconds)

    def expected_rollouts(self) -> int:
        """About as many answers as will be asked for."""
        wanted = self.candidates_at_most() * self.dev_examples + self.asked_besides()
        return wanted if self.rollouts is None else min(wanted, self.rollouts)

    def asked_besides(self) -> int:
        """Answers that do not measure a candidate on dev."""
        return 0

    def candidates_at_most(self) -> int:
        """Candidates measured on all of dev, the incoming prompt among them."""
        raise NotImplementedError


class DemoConfig(PromptConfig):
    """What the methods that pick worked examples share."""

    max_bootstrapped_demos: int = Field(default=4, ge=0)
    max_labeled_demos: int = Field(default=4, ge=0)
    candidates: int = Field(default=6, ge=0)

    def asked_besides(self) -> int:
        return self.train_examples if self.max_bootstrapped_demos else 0


class BootstrapConfig(DemoConfig):
    """DSPy's BootstrapFewShotWithRandomSearch (Khattab et al., 2023, arXiv:2310.03714).

    `candidates` random demo sets are compared on dev beside DSPy's three fixed ones (no demos,
    labeled demos, one unshuffled bootstrap). Demos are drawn from `train_examples` of train: DSPy
    would walk all of train, one question after another, when its teacher is rarely right.
    """

    def candidates_at_most(self) -> int:
        return self.candidates + 3
