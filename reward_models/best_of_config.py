"""What a spec may say of best-of-n. No torch: the command line reads this."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from reward_models.config import MAJORITY, Reward


class BestOfConfig(BaseModel):
    """Draw `n` answers to each question at `temperature`, keep the one that `reward` likes best.

    It moves neither prompt nor weights, trains nothing, and makes every answer n times as dear.
    `majority` is no reward but a vote: the answer most of them agree on (self-consistency: Wang et
    al., 2023, arXiv:2203.11171). Any other reward is one of reward_models that can do without the
    gold answer, which nobody has when the model is used.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    n: int = Field(default=8, ge=2)
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    reward: Reward = MAJORITY

    def expected_rollouts(self) -> int:
        """None: it draws when it answers, and what it answers is counted with the evaluation."""
        return 0
