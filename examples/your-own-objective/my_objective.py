"""An objective of your own. This one is DAPO, as `objective: dapo` has it: change what you like.

`loss` gets the rows of one forward (fields of `rl.objectives.Batch`; B rows, T tokens) and returns
a number to minimize, with a gradient through `batch.logps_BT`, and what to log. `advantage` gets
the rewards of G prompts with N answers each, NaN where there is none; leave it out to keep GRPO's.
"""

import torch

from rl.objectives import group_centered, with_kl


def advantage(rewards_GN):
    centered_GN = group_centered(rewards_GN)
    answers_G1 = rewards_GN.isfinite().sum(1, keepdim=True)
    variance_G1 = centered_GN.square().nansum(1, keepdim=True) / (answers_G1 - 1)
    return centered_GN / (variance_G1.sqrt() + 1e-4)


def loss(batch):
    ratio_BT = (batch.logps_BT - batch.old_logps_BT).exp()
    low, high = 1 - batch.epsilon, 1 + batch.epsilon_high
    losses_BT = -torch.min(
        ratio_BT * batch.advantages_BT,
        ratio_BT.clamp(low, high) * batch.advantages_BT,
    )
    up, down = batch.advantages_BT > 0, batch.advantages_BT < 0
    clipped_BT = ((ratio_BT > high) & up) | ((ratio_BT < low) & down)
    clip_ratio = (clipped_BT * batch.mask_BT).sum() / batch.mask_BT.sum()
    metrics = {"clip_ratio": clip_ratio}
    losses_BT, metrics = with_kl(losses_BT, metrics, ratio_BT, batch)  # with beta in the spec
    return (losses_BT * batch.mask_BT).sum() / batch.tokens, metrics
