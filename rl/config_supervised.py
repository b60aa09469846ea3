"""What a spec may say of the methods that learn from given or chosen answers. No torch here."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from reward_models.config import Reward, questions_per_answer
from rl.config import WeightsConfig

# The losses of TRL's DPOTrainer (its `loss_type`); the papers are named in its documentation.
LossType = Literal[
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot",
    "aot_unpaired", "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
]  # fmt: skip


class SFTConfig(WeightsConfig):
    """Supervised fine-tuning on the gold answers of train, `rows_per_step` of them a step.

    The loss is the mean negative log-likelihood of the answers' tokens, their end among them. With
    a prompt of style `cot` the gold answer is its last line alone: gold answers hold no reasoning,
    so this teaches to answer at once (`rft` keeps the reasoning).
    """

    rows_per_step: int = Field(default=32, ge=1)

    def expected_rollouts(self) -> int:
        return 0


class SampledConfig(WeightsConfig):
    """What rft and dpo share: answers are drawn, scored, and some of them learned from."""

    samples_per_prompt: int = Field(default=8, ge=2)
    prompts_per_round: int = Field(default=128, ge=1)  # fewer where train is smaller
    temperature: float = Field(default=1.0, gt=0)
    reward: Reward = "task"  # see reward_models/config.py

    def answers_per_prompt(self) -> int:
        """Drawn, and those of a judge about them."""
        return self.samples_per_prompt * (
            1 + questions_per_answer(self.reward, self.samples_per_prompt)
        )


class RFTConfig(SampledConfig):
    """Rejection sampling fine-tuning: draw, keep what is right, fine-tune on it, `rounds` times.

    An answer is kept if the task calls it correct, or with `accept` if its reward is at least that
    much; of the kept ones of a prompt, distinct as texts, the first `keep_per_prompt`. `steps`
    steps follow in each round: `start: incoming` takes them from the policy as it came to the
    stage, `start: newest` goes on from the round before.
    """

    rounds: int = Field(default=2, ge=1)
    rows_per_step: int = Field(default=32, ge=1)
    keep_per_prompt: int = Field(default=4, ge=1)
    accept: float | None = None
    start: Literal["incoming", "newest"] = "incoming"

    @model_validator(mode="after")
    def _every_round_is_measured(self) -> Self:
        if self.rounds > 1 and self.steps % self.eval_every:
            raise ValueError(
                f"eval_every: a round of {self.steps} steps would end unmeasured; write a divisor "
                f"of {self.steps}"
            )
        return self

    def expected_rollouts(self) -> int:
        """The most it draws; train may hold fewer than `prompts_per_round` examples."""
        return self.rounds * self.prompts_per_round * self.answers_per_prompt()


class DPOConfig(SampledConfig):
    """Direct preference optimization (Rafailov et al., 2023, arXiv:2305.18290).

    For each prompt the pairs with the widest gaps between their rewards, which must be above 0 and
    at least `margin`; at most `pairs_per_prompt`: with 1 the best answer against the worst. A
    chosen answer has an end. The reference is the policy as it came to the stage. The loss alone
    may push both answers down, the chosen one less; `sft_weight` adds so much of the chosen
    answers' negative log-likelihood (Pang et al., 2024, arXiv:2404.19733, with 1).
    """

    learning_rate: float | None = Field(default=None, gt=0)  # None: 5e-5, full 1e-6
    pairs_per_step: int = Field(default=16, ge=1)
    pairs_per_prompt: int = Field(default=1, ge=1)
    margin: float = Field(default=0.0, ge=0)
    beta: float = Field(default=0.1, gt=0)
    loss_type: LossType = "sigmoid"
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    sft_weight: float = Field(default=0.0, ge=0, allow_inf_nan=False)

    def rate(self) -> float:
        """The learning rate: as written, else what fits the kind of weights."""
        return self.learning_rate or (1e-6 if self.weights == "full" else 5e-5)

    @model_validator(mode="after")
    def _no_dropout(self) -> Self:
        if self.lora.dropout:
            raise ValueError("lora.dropout: TRL's DPO switches it off; write lora: {dropout: 0}")
        return self

    @model_validator(mode="after")
    def _smoothed_exo(self) -> Self:
        if self.loss_type == "exo_pair" and not self.label_smoothing:
            raise ValueError("label_smoothing: exo_pair needs some; write 0.001")
        return self

    def expected_rollouts(self) -> int:
        """The most it draws; train may hold fewer than `prompts_per_round` examples."""
        return self.prompts_per_round * self.answers_per_prompt()
