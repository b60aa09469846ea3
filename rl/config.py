"""What a spec may say of the weight methods. No torch: the command line reads this."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class LoraConfig(BaseModel):
    """Low-rank adapters (Hu et al., 2021, arXiv:2106.09685)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    r: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: str | list[str] = "all-linear"


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
    loss_type: Literal["grpo", "dr_grpo", "dapo", "bnpo"] = "dapo"
    epsilon: float = Field(default=0.2, gt=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    warmup_steps: int = Field(default=0, ge=0)
    reward: str = "task"  # a reward of reward_models, by name, or path.py:function
    lora: LoraConfig = LoraConfig()
    eval_every: int = Field(default=5, ge=1)
    checkpoint_every: int = Field(default=5, ge=1)
    rows_per_forward: int = Field(default=64, ge=1)

    def expected_rollouts(self) -> int:
        """Answers drawn for training; dev evaluations come on top and count as evaluation."""
        return self.steps * self.prompts_per_step * self.group_size
