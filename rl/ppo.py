"""PPO for language models: a critic says what to expect at each token, the policy does better.

The idea in one paragraph. The model writes an answer token by token and is told at the end what
it was worth. Which tokens deserve the credit? A second, small network, the critic, learns to
predict from the text so far (through the policy's own hidden state) the reward that will come:
V_t. When the expected reward rises from one token to the next, the token between them was good
news, and its advantage is that rise; generalized advantage estimation (rl/gae.py) mixes this
one-step view (lambda 0: little noise, trusts the critic) with the plain outcome (lambda 1: much
noise, trusts nobody). The policy then makes tokens with positive advantage more probable. Rollouts
cost more than updates, so each batch is used for several passes in small parts; from the second
update on the policy differs from the one that wrote the answers, which the ratio of their
probabilities corrects, and clipping that ratio removes the incentive to run far ahead of the data
(Schulman et al., 2017, arXiv:1707.06347). A price on every token for its distance to the incoming
policy (KL) keeps the text sound where the reward is blind (Stiennon et al., 2020,
arXiv:2009.01325). The difference to GRPO: there the baseline is the mean of other answers to the
same prompt, one number for all tokens of an answer; here it is learned, one for each token.

Simplified here: the critic is a head on the policy's trunk instead of a model of its own. By
default it reads the hidden state without sending a gradient back, which costs next to nothing and
leaves the policy alone; `critic: shared` trains the trunk for both. The last token of an answer
cut at the length limit counts as an end; `missing_eos_penalty` makes it a bad one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainerCallback

from evaluation.types import Policy, ScoreFunction
from lm.ranks import average_gradients, gathered, is_first, summed
from lm.scoring import Scored
from rl.config import PPOConfig
from rl.gae import explained_variance, gae, moments, token_rewards, value_losses, whitened
from rl.grpo import check_rollouts, make_rollouts, trainer_inputs
from rl.objectives import (
    Batch,
    Metrics,
    Objective,
    clipped,
    kl_to_reference,
    per_token,
    token_ratio,
    with_kl,
)
from rl.trl_seam import SeamTrainer
from rl.weight_method import Course, Stage, WeightMethod
from tasks.types import Example

CRITIC_FILE = "critic.safetensors"


class PPO(WeightMethod):
    """Method; see `rl.weight_method.WeightMethod`. The critic lives as long as the stage."""

    name = "ppo"
    config: PPOConfig

    def check(
        self,
        policy: Policy,
        train: Sequence[Example],
        dev: Sequence[Example],
        score: ScoreFunction,
    ) -> None:
        check_rollouts(self.name, self.config, policy, train, dev, score)

    def course(self, stage: Stage) -> Course:
        rollouts = make_rollouts(self.config, stage)
        trainer = PPOTrainer(
            self.config,
            stage.context.seed,
            rollouts=rollouts,
            **trainer_inputs(self.config, stage),
        )
        return Course(trainer, rollouts, self.config.updates())


class Critic(nn.Module):
    """Hidden states (N, D) to values (N,) in the reward's unit; a new one says the same of all."""

    def __init__(self, width: int, seed: int, device: Any):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, 1)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)
        self.detached = True
        self.to(device)

    def forward(self, hidden_ND: Tensor) -> Tensor:
        hidden_ND = hidden_ND.detach() if self.detached else hidden_ND
        with torch.autocast(hidden_ND.device.type, enabled=False):
            return self.outer(torch.tanh(self.inner(hidden_ND.float()))).squeeze(-1)


def policy_loss(batch: Batch) -> tuple[Tensor, Metrics]:
    """PPO's clipped surrogate, every token of the update counting alike."""
    ratio_BT = token_ratio(batch)
    losses_BT, metrics = clipped(ratio_BT, batch)
    losses_BT, metrics = with_kl(losses_BT, metrics, ratio_BT, batch)
    return per_token(losses_BT, batch), metrics


class PPOTrainer(SeamTrainer):
    """SeamTrainer with a critic: advantages a token, a value loss, a second group of parameters."""

    critic: Critic

    def __init__(self, config: PPOConfig, seed: int, **arguments: Any):
        self.config = config
        super().__init__(
            objective=Objective(policy_loss, skips=False),
            clip=(config.epsilon, config.epsilon),
            beta=config.beta,
            **arguments,
        )
        width = arguments["model"].config.get_text_config().hidden_size
        self.critic = Critic(width, seed, self.accelerator.device)
        self.add_callback(_Zeroing(self.critic))

    def _look_back(self, output: dict[str, Any]) -> None:
        self.critic.detached = self.config.critic == "detached" or self._is_warming_up
        rewards_B = self._rewards(output["advantages"])
        if self.state.global_step == 0:  # the first guess is right on average
            everyones_B = torch.cat(gathered(rewards_B.cpu()))
            self.critic.outer.bias.fill_(everyones_B.nanmean().nan_to_num(nan=0.0).item())
        scored = self._before(output)
        assert scored.values_BT is not None
        output["old_per_token_logps"], values_BT = scored.logprobs_BT, scored.values_BT
        known_B = rewards_B.isfinite()  # an answer without a reward teaches nothing
        mask_BT = output["completion_mask"] * known_B[:, None]
        output["tool_mask"] = mask_BT * output.get("tool_mask", 1)
        mask_BT = output["tool_mask"]
        costs_BT = self._costs(output, mask_BT)
        rewards_BT = token_rewards(rewards_B.nan_to_num(nan=0.0), mask_BT, costs_BT)
        config = self.config
        advantages_BT, returns_BT = gae(
            rewards_BT, values_BT, mask_BT, config.gamma, config.gae_lambda
        )
        _, outcomes_BT = gae(rewards_BT, values_BT, mask_BT, config.gamma, 1.0)
        foreseen = explained_variance(values_BT, outcomes_BT, mask_BT, summed).item()
        self._note("objective/explained_variance", foreseen)
        self._note("objective/value", moments(values_BT, mask_BT, summed)[0].item())
        if config.whiten:
            advantages_BT = whitened(advantages_BT, mask_BT, summed)
        output["advantages"], output["returns"] = advantages_BT, returns_BT
        output["old_values"] = values_BT
        tokens_B = mask_BT.sum(1).clamp(min=1)
        means = gathered((advantages_BT.sum(1) / tokens_B).tolist())
        self.rollouts.advantages = [mean for some in means for mean in some]

    def _rewards(self, like: Tensor) -> Tensor:
        """(B,) rewards, NaN where there is none, less the penalty of answers without an end."""
        drawn = [
            pair
            for group in self.rollouts.own
            for pair in zip(group.rewards, group.completions, strict=True)
        ]
        penalty = self.config.missing_eos_penalty
        rewards = [
            math.nan if reward is None else reward - penalty * (answer.finish_reason == "length")
            for reward, answer in drawn
        ]
        return like.new_tensor(rewards)

    def _costs(self, output: dict[str, Any], mask_BT: Tensor) -> Tensor | None:
        """(B, T) what each token pays for its distance to the incoming policy, if it is to."""
        if self.reference is None or self.config.kl_in == "loss":
            return None
        reference_BT = output.pop("ref_per_token_logps")
        drift_BT = output["old_per_token_logps"] - reference_BT
        kl_BT = kl_to_reference(output["old_per_token_logps"], reference_BT)
        self._note("kl", moments(kl_BT, mask_BT, summed)[0].item())
        return self.config.beta * drift_BT

    def _loss(self, batch: Batch, inputs: dict[str, Any], scored: Scored) -> tuple[Tensor, Metrics]:
        loss, metrics = self.objective.loss(batch)
        assert scored.values_BT is not None
        errors_BT = value_losses(
            scored.values_BT, inputs["old_values"], inputs["returns"], self.config.value_epsilon
        )
        value_loss = per_token(errors_BT, batch)
        metrics["value_loss"] = _mean(errors_BT.detach(), batch.mask_BT)
        value_loss = self.config.value_coefficient * value_loss
        if self._is_warming_up:  # no gradient at all, of which Adam would count the zeros
            return value_loss, metrics
        return loss + value_loss, metrics

    @property
    def _is_warming_up(self) -> bool:
        return self.state.global_step < self.config.value_warmup_steps * self.updates

    def _note(self, name: str, value: float) -> None:
        self._metrics["train"][name].append(value)  # type: ignore[union-attr]

    # The critic is no part of the model, so that what is saved of a policy is a policy.

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        optimizer = super().create_optimizer(model)
        group = {"params": list(self.critic.parameters()), "weight_decay": 0.0}
        optimizer.add_param_group({**group, "lr": self.config.critic_learning_rate})
        return optimizer

    def _clip_grad_norm(self, model: Any) -> Any:
        average_gradients(self.critic.parameters())
        nn.utils.clip_grad_norm_(self.critic.parameters(), self.args.max_grad_norm)
        return super()._clip_grad_norm(model)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if not is_first():
            return
        folder = Path(self._get_output_dir(trial=trial)) / f"checkpoint-{self.state.global_step}"
        save_file(self.critic.state_dict(), folder / CRITIC_FILE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.critic.load_state_dict(load_file(Path(resume_from_checkpoint) / CRITIC_FILE))


class _Zeroing(TrainerCallback):
    """Clears the critic's gradient where transformers clears the model's."""

    def __init__(self, critic: Critic):
        self.critic = critic

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.critic.zero_grad()


def _mean(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    return (values_BT * mask_BT).sum() / mask_BT.sum().clamp(min=1)
