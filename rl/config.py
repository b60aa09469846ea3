"""What a spec may say of the weight methods. No torch: the command line reads this."""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from reward_models.config import Reward, questions_per_answer
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


class WeightsConfig(BaseModel):
    """What every method that trains weights can be told.

    `weights: lora` trains a low-rank adapter; `qlora` one on weights held in 4 bits (nf4,
    arXiv:2305.14314), which then belong to the policy; `full` trains every weight. One step is one
    batch of the method's. Every `eval_every` steps the dev split is scored with the task's own
    score; the best checkpoint by that score is the result, the untrained policy (step 0) among
    the candidates. With `audits` a stage looks after itself (rl/self_audit.py).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(default=25, ge=1)
    learning_rate: float | None = Field(default=None, gt=0)  # None: 3e-4, full 1e-5
    weights: Literal["lora", "full", "qlora"] = "lora"
    lora: LoraConfig = LoraConfig()
    gradient_checkpointing: bool = False
    max_grad_norm: float = Field(default=1.0, gt=0)
    warmup_steps: int = Field(default=0, ge=0)
    eval_every: int = Field(default=5, ge=1)
    checkpoint_every: int = Field(default=5, ge=1)
    rows_per_forward: int = Field(default=64, ge=1)
    audits: bool = True

    def rate(self) -> float:
        """The learning rate: as written, else what fits the kind of weights."""
        return self.learning_rate or (1e-5 if self.weights == "full" else 3e-4)

    @model_validator(mode="after")
    def _lora_is_used(self) -> Self:
        if self.weights == "full" and self.lora != LoraConfig():
            raise ValueError("lora: weights: full trains no adapter; leave lora out")
        return self


class RolloutConfig(WeightsConfig):
    """What grpo and ppo share: a step samples `group_size` rollouts for each of
    `prompts_per_step` train examples and learns from them in `epochs` passes, each in
    `minibatches` optimizer updates over rows shuffled anew. `curriculum: pass_rate` asks most
    often what is solved about half the time (rl/prompt_choice.py). `engine: vllm` samples with
    vLLM, on a CUDA GPU that it shares with training (rl/vllm_engine.py)."""

    prompts_per_step: int = Field(default=8, ge=1)
    group_size: int = Field(default=8, ge=2)
    temperature: float = Field(default=1.0, gt=0)
    epochs: int = Field(default=1, ge=1)
    minibatches: int = Field(default=1, ge=1)
    curriculum: Literal["none", "pass_rate"] = "none"
    engine: Literal["ours", "vllm"] = "ours"
    reward: Reward = "task"  # see reward_models/config.py

    @model_validator(mode="after")
    def _minibatches_are_equal(self) -> Self:
        rows = self.prompts_per_step * self.group_size
        if rows % self.minibatches:
            raise ValueError(
                f"minibatches: {rows} rollouts a step do not split into {self.minibatches} equal "
                f"parts; write a divisor of {rows}"
            )
        return self

    @model_validator(mode="after")
    def _engine_keeps_weights(self) -> Self:
        if self.engine == "vllm" and self.weights == "qlora":
            raise ValueError(
                "engine: vllm would round the adapter to 4 bits with the weights it is merged "
                "into; write engine: ours, or weights: lora"
            )
        return self

    def updates(self) -> int:
        """Optimizer updates in one step."""
        return self.epochs * self.minibatches

    def expected_rollouts(self) -> int:
        """Answers drawn for training, and those of a judge about them; dev evaluations come on top
        and count as evaluation."""
        each = 1 + questions_per_answer(self.reward, self.group_size)
        return self.steps * self.prompts_per_step * self.group_size * each


class GRPOConfig(RolloutConfig):
    """Group relative policy optimization (Shao et al., 2024, arXiv:2402.03300) with TRL.

    Up to `resample` times a step, groups whose answers are all worth the same are replaced by
    those of other prompts (DAPO's dynamic sampling, arXiv:2503.14476, bounded).
    """

    resample: int = Field(default=0, ge=0, le=100)
    beta: float = Field(default=0.0, ge=0)
    objective: str = "dapo"  # one of OBJECTIVES, or path.py:function
    epsilon: float | None = Field(default=None, gt=0, lt=1)  # None: as in OBJECTIVES
    epsilon_high: float | None = Field(default=None, gt=0, allow_inf_nan=False)

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


class PPOConfig(RolloutConfig):
    """Proximal policy optimization (Schulman et al., 2017, arXiv:1707.06347) with a critic.

    `critic: detached` reads the policy's hidden states and sends no gradient back into them;
    `shared` does, scaled by `value_coefficient`. In the first `value_warmup_steps` steps only the
    critic learns. The KL divergence to the incoming policy, times `beta`, is taken off each
    token's reward, or with `kl_in: loss` added to the loss. An answer cut at max_tokens loses
    `missing_eos_penalty` of its reward.
    """

    epochs: int = Field(default=2, ge=1)
    gamma: float = Field(default=1.0, gt=0, le=1)
    gae_lambda: float = Field(default=0.95, ge=0, le=1)
    epsilon: float = Field(default=0.2, gt=0, lt=1)
    value_epsilon: float = Field(default=0.2, gt=0)
    value_coefficient: float = Field(default=0.1, ge=0)
    beta: float = Field(default=0.0, ge=0)
    kl_in: Literal["reward", "loss"] = "reward"
    whiten: bool = True
    critic: Literal["detached", "shared"] = "detached"
    critic_learning_rate: float = Field(default=1e-3, gt=0)
    value_warmup_steps: int = Field(default=0, ge=0)
    missing_eos_penalty: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _warm_up_ends(self) -> Self:
        if self.value_warmup_steps >= self.steps:
            raise ValueError(
                f"value_warmup_steps: {self.value_warmup_steps} of {self.steps} steps leaves none "
                "for the policy; write fewer"
            )
        return self
