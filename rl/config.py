"""What a spec may say of the weight methods. No torch: the command line reads this."""

from __future__ import annotations

import re
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tasks.text import nearest


class LoraConfig(BaseModel):
    """Low-rank adapters (Hu et al., 2021, arXiv:2106.09685)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    r: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: str | list[str] = "all-linear"


# The objectives of rl.objectives, and their clips where a spec writes none: below 1, above 1.
OBJECTIVES: dict[str, tuple[float, float]] = {
    "grpo": (0.2, 0.2),
    "dr_grpo": (0.2, 0.2),
    "dapo": (0.2, 0.28),
    "bnpo": (0.2, 0.2),
    "gspo": (3e-4, 4e-4),
    "luspo": (3e-4, 4e-4),  # as gspo
    "cispo": (0.2, 5.0),  # only the upper one, the most a weight may be (arXiv:2510.13786)
    "sapo": (0.2, 0.2),  # neither is used
    "vespo": (0.2, 0.2),  # neither is used
    "rloo": (0.2, 0.2),
}


class GRPOConfig(BaseModel):
    """Group relative policy optimization (Shao et al., 2024, arXiv:2402.03300) with TRL.

    A step samples `group_size` rollouts for each of `prompts_per_step` train examples. Every
    `eval_every` steps the dev split is scored with the task's own score; the best checkpoint by
    that score is the result, the untrained policy (step 0) among the candidates.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(default=25, ge=1)
    prompts_per_step: int = Field(default=8, ge=1)
    group_size: int = Field(default=8, ge=2)
    learning_rate: float = Field(default=3e-4, gt=0)
    temperature: float = Field(default=1.0, gt=0)
    beta: float = Field(default=0.0, ge=0)
    objective: str = "dapo"  # one of OBJECTIVES, or path.py:function
    epsilon: float | None = Field(default=None, gt=0, lt=1)  # None: as in OBJECTIVES
    epsilon_high: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    max_grad_norm: float = Field(default=1.0, gt=0)
    warmup_steps: int = Field(default=0, ge=0)
    reward: str = "task"  # a reward of reward_models, by name, or path.py:function
    lora: LoraConfig = LoraConfig()
    eval_every: int = Field(default=5, ge=1)
    checkpoint_every: int = Field(default=5, ge=1)
    rows_per_forward: int = Field(default=64, ge=1)

    @field_validator("objective")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in OBJECTIVES and not re.fullmatch(r".+\.py:\w+", name):
            known = ", ".join(OBJECTIVES)
            raise ValueError(
                f"unknown {name!r}{nearest(name, OBJECTIVES)}; write {known} or path.py:function"
            )
        return name

    @model_validator(mode="after")
    def _weights_of_1_stay(self) -> Self:
        if self.objective == "cispo" and self.epsilon_high is not None and self.epsilon_high < 1:
            raise ValueError(
                f"epsilon_high: {self.epsilon_high} is the most a weight may be in cispo; "
                "write 1 or more, or leave it out for 5"
            )
        return self

    def clip(self) -> tuple[float, float]:
        """How far below and above 1 the ratio may go: as written, else as in OBJECTIVES."""
        low, high = OBJECTIVES.get(self.objective, (0.2, 0.2))
        written = self.epsilon if self.epsilon is not None else low
        above = high if self.epsilon is None or self.objective == "cispo" else self.epsilon
        return written, self.epsilon_high if self.epsilon_high is not None else above

    def expected_rollouts(self) -> int:
        """Answers drawn for training; dev evaluations come on top and count as evaluation."""
        return self.steps * self.prompts_per_step * self.group_size
