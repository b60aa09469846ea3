"""What GRPO and its relatives minimize: pure functions over the rows of one forward.

Policy gradient on language models differs in three choices: what an answer is compared with
(the advantage), what happens when the policy has moved away from the one that drew the answer
(the ratio and its clipping), and what a token counts (the normalization). Each objective below is
one pick of the three, so they can be read side by side. A file of yours may hold another:
`grpo: {objective: mine.py:loss}` in a spec names `loss(batch) -> (loss, metrics)`; a function
`advantage(rewards_GN)` in the same file is used as well.

In names B counts rows, T tokens of an answer, G groups and N answers of a group.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Answers of one forward, which may be a part of an optimizer step, padded on the right.

    `logps_BT`, alone with a gradient, are log-probabilities (nats) under the weights in training,
    `old_logps_BT` under those that drew the answers, `ref_logps_BT` under the reference, None
    without a KL term. `mask_BT` is 1 where the model wrote a token. `advantages_BT` is (B, 1) when
    an answer has one advantage. `rows` and `tokens` are those of the whole step, so that summing
    the losses of its forwards gives the step's; `longest` is the most tokens an answer may have.
    """

    logps_BT: Tensor
    old_logps_BT: Tensor
    ref_logps_BT: Tensor | None
    mask_BT: Tensor
    advantages_BT: Tensor
    rows: float
    tokens: float
    longest: int
    epsilon: float = 0.2
    epsilon_high: float = 0.2
    beta: float = 0.0


Metrics = dict[str, Tensor]
Loss = Callable[[Batch], tuple[Tensor, Metrics]]
Advantage = Callable[[Tensor], Tensor]


# What an answer is compared with. Rewards (G, N) may be NaN where there is none; so are then
# the advantages, and the trainer takes them for 0.


def group_normalized(rewards_GN: Tensor) -> Tensor:
    """Standard deviations above the group's mean (Shao et al., 2024, arXiv:2402.03300)."""
    centered_GN = group_centered(rewards_GN)
    known_G1 = rewards_GN.isfinite().sum(1, keepdim=True)
    variance_G1 = centered_GN.square().nansum(1, keepdim=True) / (known_G1 - 1)
    return centered_GN / (variance_G1.sqrt() + 1e-4)


def group_centered(rewards_GN: Tensor) -> Tensor:
    """Above the group's mean, in the reward's own unit (Liu et al., 2025, arXiv:2503.20783).

    Exactly 0 where all rewards of a group are equal, so that rounding wakes no dead group.
    """
    known_GN = rewards_GN.isfinite()
    highest_G1 = rewards_GN.masked_fill(~known_GN, -torch.inf).amax(1, keepdim=True)
    lowest_G1 = rewards_GN.masked_fill(~known_GN, torch.inf).amin(1, keepdim=True)
    centered_GN = rewards_GN - rewards_GN.nanmean(1, keepdim=True)
    return centered_GN.masked_fill(known_GN & (highest_G1 == lowest_G1), 0.0)


def leave_one_out(rewards_GN: Tensor) -> Tensor:
    """Above the mean of the group's other answers, an unbiased baseline (Ahmadian et al., 2024,
    arXiv:2402.14740)."""
    known_G1 = rewards_GN.isfinite().sum(1, keepdim=True)
    return group_centered(rewards_GN) * known_G1 / (known_G1 - 1)


# What a token counts.


def per_row(losses_BT: Tensor, batch: Batch) -> Tensor:
    """The mean over answers of the mean over their tokens: long answers count no more."""
    sums_B = (losses_BT * batch.mask_BT).sum(1)
    return (sums_B / batch.mask_BT.sum(1).clamp(min=1)).sum() / batch.rows


def per_token(losses_BT: Tensor, batch: Batch) -> Tensor:
    """The mean over all tokens of the step (Yu et al., 2025, arXiv:2503.14476)."""
    return (losses_BT * batch.mask_BT).sum() / max(batch.tokens, 1.0)


def per_token_of_forward(losses_BT: Tensor, batch: Batch) -> Tensor:
    """The mean over the tokens of this forward, weighed by its share of the rows."""
    tokens = batch.mask_BT.sum().clamp(min=1)
    return (losses_BT * batch.mask_BT).sum() / tokens * (len(losses_BT) / batch.rows)


def per_longest(losses_BT: Tensor, batch: Batch) -> Tensor:
    """The sum over an answer's tokens over a constant, which favours no length."""
    return (losses_BT * batch.mask_BT).sum() / (batch.rows * batch.longest)


def summed(losses_BT: Tensor, batch: Batch) -> Tensor:
    """The mean over answers of the sum over their tokens."""
    return (losses_BT * batch.mask_BT).sum() / batch.rows


# What happens when the policy has moved. Losses are per token, (B, T) or (B, 1).


def token_ratio(batch: Batch) -> Tensor:
    return (batch.logps_BT - batch.old_logps_BT).exp()


def sequence_ratio(batch: Batch) -> Tensor:
    """(B, 1): the geometric mean of an answer's token ratios."""
    moved_BT = (batch.logps_BT - batch.old_logps_BT) * batch.mask_BT
    mean_B1 = moved_BT.sum(1, keepdim=True) / batch.mask_BT.sum(1, keepdim=True).clamp(min=1)
    return mean_B1.exp()


def clipped(ratio: Tensor, batch: Batch) -> tuple[Tensor, Metrics]:
    """PPO's pessimistic bound (Schulman et al., 2017, arXiv:1707.06347)."""
    low, high = 1 - batch.epsilon, 1 + batch.epsilon_high
    advantages = batch.advantages_BT
    losses = -torch.min(ratio * advantages, ratio.clamp(low, high) * advantages)
    stopped = ((ratio < low) & (advantages < 0)) | ((ratio > high) & (advantages > 0))
    return losses, {"clip_ratio": _mean(stopped, batch)}


def with_kl(
    losses: Tensor, metrics: Metrics, ratio: Tensor, batch: Batch
) -> tuple[Tensor, Metrics]:
    """Add `beta` times the distance to the reference, if there is one.

    A token's ratio makes the gradient, too, that of the KL divergence (DeepSeek-V3.2, 2025,
    arXiv:2512.02556); an answer's ratio, as in gspo, does so only nearly. On policy it changes no
    value.
    """
    if batch.ref_logps_BT is None:
        return losses, metrics
    kl_BT = kl_to_reference(batch.logps_BT, batch.ref_logps_BT) * ratio
    return losses + batch.beta * kl_BT, {**metrics, "kl": _mean(kl_BT, batch)}


def kl_to_reference(logps_BT: Tensor, ref_logps_BT: Tensor) -> Tensor:
    """(B, T) estimates of KL(policy || reference): never negative, unbiased for tokens drawn from
    the policy (Schulman, "Approximating KL divergence", 2020: k3)."""
    gap_BT = ref_logps_BT - logps_BT
    return gap_BT.exp() - gap_BT - 1


# The objectives.


def grpo(batch: Batch) -> tuple[Tensor, Metrics]:
    """Group relative policy optimization (Shao et al., 2024, arXiv:2402.03300)."""
    losses, metrics = _clipped_with_kl(token_ratio(batch), batch)
    return per_row(losses, batch), metrics


def dr_grpo(batch: Batch) -> tuple[Tensor, Metrics]:
    """GRPO done right: no favour to long wrong answers (Liu et al., 2025, arXiv:2503.20783)."""
    losses, metrics = _clipped_with_kl(token_ratio(batch), batch)
    return per_longest(losses, batch), metrics


def dapo(batch: Batch) -> tuple[Tensor, Metrics]:
    """Every token of a step counts alike, and the clip is wider above (Yu et al., 2025,
    arXiv:2503.14476)."""
    losses, metrics = _clipped_with_kl(token_ratio(batch), batch)
    return per_token(losses, batch), metrics


def bnpo(batch: Batch) -> tuple[Tensor, Metrics]:
    """As TRL counts under this name: DAPO, were each forward a step of its own."""
    losses, metrics = _clipped_with_kl(token_ratio(batch), batch)
    return per_token_of_forward(losses, batch), metrics


def gspo(batch: Batch) -> tuple[Tensor, Metrics]:
    """One ratio for an answer, which stays close to 1 and is clipped there (Zheng et al., 2025,
    arXiv:2507.18071)."""
    losses, metrics = _clipped_with_kl(sequence_ratio(batch), batch)
    return per_row(losses, batch), metrics


def luspo(batch: Batch) -> tuple[Tensor, Metrics]:
    """GSPO in which an answer counts by its length (arXiv:2602.05261, as TRL has it)."""
    losses, metrics = _clipped_with_kl(sequence_ratio(batch), batch)
    return summed(losses, batch), metrics


def cispo(batch: Batch) -> tuple[Tensor, Metrics]:
    """Clips the weight of a token's gradient and drops no token (MiniMax, 2025,
    arXiv:2506.13585). The weight is at most `epsilon_high`."""
    ratio_BT = token_ratio(batch)
    stopped = (ratio_BT > batch.epsilon_high) & (batch.advantages_BT > 0)
    weights_BT = ratio_BT.detach().clamp(max=batch.epsilon_high)
    losses_BT = -weights_BT * batch.advantages_BT * batch.logps_BT
    metrics = {"clip_ratio": _mean(stopped, batch)}
    losses_BT, metrics = with_kl(losses_BT, metrics, ratio_BT, batch)
    return per_token(losses_BT, batch), metrics


def sapo(batch: Batch) -> tuple[Tensor, Metrics]:
    """A soft gate in place of the clip, sharper for bad answers (arXiv:2511.20347)."""
    heat = torch.where(batch.advantages_BT > 0, 1.0, 1.05)
    ratio_BT = token_ratio(batch)
    gate_BT = torch.sigmoid(heat * (ratio_BT - 1)) * 4 / heat
    losses_BT, metrics = with_kl(-gate_BT * batch.advantages_BT, {}, ratio_BT, batch)
    return per_row(losses_BT, batch), metrics


def vespo(batch: Batch) -> tuple[Tensor, Metrics]:
    """Weighs an answer's gradient by a gamma density of its ratio, 1 on policy
    (arXiv:2602.10693, with the shape TRL has as its default)."""
    moved_BT = (batch.logps_BT - batch.old_logps_BT).detach().clamp(-20, 20) * batch.mask_BT
    log_ratio_B1 = moved_BT.sum(1, keepdim=True).clamp(math.log(1e-8), 20)
    good = batch.advantages_BT >= 0
    power, decay = torch.where(good, 2.0, 3.0), torch.where(good, 3.0, 2.0)
    weight = (decay + power * log_ratio_B1 - decay * log_ratio_B1.exp()).exp()
    losses_BT = -weight * batch.advantages_BT * batch.logps_BT
    metrics = {"weight": _mean(weight, batch)}
    losses_BT, metrics = with_kl(losses_BT, metrics, token_ratio(batch), batch)
    return per_token(losses_BT, batch), metrics


def rloo(batch: Batch) -> tuple[Tensor, Metrics]:
    """REINFORCE on whole answers, each against the others (Ahmadian et al., 2024,
    arXiv:2402.14740); off-policy, PPO's clip on the answer's full ratio. A KL term is part of the
    loss, as everywhere here; the paper takes it off the reward."""
    moved_BT = (batch.logps_BT - batch.old_logps_BT) * batch.mask_BT
    losses_B1, metrics = clipped(moved_BT.sum(1, keepdim=True).exp(), batch)
    share_BT = batch.mask_BT / batch.mask_BT.sum(1, keepdim=True).clamp(min=1)
    losses_BT, metrics = with_kl(losses_B1 * share_BT, metrics, token_ratio(batch), batch)
    return summed(losses_BT, batch), metrics


def _clipped_with_kl(ratio: Tensor, batch: Batch) -> tuple[Tensor, Metrics]:
    return with_kl(*clipped(ratio, batch), ratio, batch)


@dataclass(frozen=True)
class Objective:
    """`skips` says that a row whose advantage is 0 adds nothing to the loss, so that it need not
    run forward (a KL term alone changes that, and the trainer knows)."""

    loss: Loss
    advantage: Advantage = group_normalized
    skips: bool = True


OBJECTIVES: Mapping[str, Objective] = {
    "grpo": Objective(grpo),
    "dr_grpo": Objective(dr_grpo, group_centered),
    "dapo": Objective(dapo),
    "bnpo": Objective(bnpo),
    "gspo": Objective(gspo),
    "luspo": Objective(luspo),
    "cispo": Objective(cispo),
    "sapo": Objective(sapo),
    "vespo": Objective(vespo),
    "rloo": Objective(rloo, leave_one_out),
}


def _mean(values: Tensor, batch: Batch) -> Tensor:
    """Over tokens, or over rows where there is one value a row."""
    values = values.detach().float()
    if values.shape[1] == 1:
        return values.mean()
    return (values * batch.mask_BT).sum() / batch.mask_BT.sum().clamp(min=1)
