"""The arithmetic of PPO with a critic: pure functions over rows of tokens.

In names B counts rows, T tokens of an answer. `mask_BT` is 1 where the model wrote a token; what
stands elsewhere, padding or the answer of a tool, is stepped over: the state after a token is the
one before the model's next token, however much text lies between.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def token_rewards(rewards_B: Tensor, mask_BT: Tensor, costs_BT: Tensor | None = None) -> Tensor:
    """(B, T): an answer's reward at the last token of its own, less what each token costs."""
    places_BT = torch.arange(mask_BT.shape[1], device=mask_BT.device).expand_as(mask_BT)
    last_B = places_BT.masked_fill(mask_BT == 0, -1).amax(1)
    at_last_BT = (places_BT == last_B[:, None]) & (mask_BT != 0)
    rewards_BT = rewards_B[:, None] * at_last_BT
    return rewards_BT if costs_BT is None else rewards_BT - costs_BT * mask_BT


def gae(
    rewards_BT: Tensor, values_BT: Tensor, mask_BT: Tensor, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Advantages and returns (B, T), 0 where the mask is 0.

    Generalized advantage estimation (Schulman et al., 2015, arXiv:1506.02438): with
    delta_t = r_t + gamma V_{t+1} - V_t the advantage is the sum of (gamma lam)^k delta_{t+k} over
    the model's own tokens to come; the text is over behind the last of them, so V is 0 there. The
    return is the advantage plus V_t, the target of the critic; with lam = 1 it is the sum of the
    rewards to come, discounted by gamma a token.
    """
    advantages_BT = torch.zeros_like(values_BT)
    ahead_B = torch.zeros_like(values_BT[:, 0])  # the advantage at the model's next token
    value_B = torch.zeros_like(ahead_B)  # and the value there
    for t in range(values_BT.shape[1] - 1, -1, -1):
        own_B = mask_BT[:, t] != 0
        delta_B = rewards_BT[:, t] + gamma * value_B - values_BT[:, t]
        ahead_B = torch.where(own_B, delta_B + gamma * lam * ahead_B, ahead_B)
        value_B = torch.where(own_B, values_BT[:, t], value_B)
        advantages_BT[:, t] = torch.where(own_B, ahead_B, 0.0)
    return advantages_BT, (advantages_BT + values_BT) * (mask_BT != 0)


Total = Callable[[Tensor], Tensor]  # of a sum over these rows that over all rows there are


def these(total: Tensor) -> Tensor:
    """There are no other rows."""
    return total


def whitened(values_BT: Tensor, mask_BT: Tensor, total: Total = these) -> Tensor:
    """Shifted and scaled to mean 0 and variance 1 over all tokens of the mask, 0 elsewhere."""
    mean, variance = moments(values_BT, mask_BT, total)
    return (values_BT - mean) * (variance + 1e-8).rsqrt() * mask_BT


def moments(values_BT: Tensor, mask_BT: Tensor, total: Total = these) -> tuple[Tensor, Tensor]:
    """Mean and variance (unbiased) over the tokens of the mask."""
    count = total(mask_BT.sum())
    mean = total((values_BT * mask_BT).sum()) / count.clamp(min=1)
    squares = total(((values_BT - mean).square() * mask_BT).sum())
    return mean, squares / (count - 1).clamp(min=1)


def value_losses(values_BT: Tensor, old_BT: Tensor, returns_BT: Tensor, epsilon: float) -> Tensor:
    """(B, T) squared errors, halved; of the value as it is and as it is when held within `epsilon`
    of its old one the worse counts, as PPO's reference implementation has it (Schulman et al.,
    2017; Engstrom et al., 2020, arXiv:2005.12729)."""
    near_BT = old_BT + (values_BT - old_BT).clamp(-epsilon, epsilon)
    return 0.5 * torch.max(
        (values_BT - returns_BT).square(),
        (near_BT - returns_BT).square(),
    )


def explained_variance(
    values_BT: Tensor, returns_BT: Tensor, mask_BT: Tensor, total: Total = these
) -> Tensor:
    """1 for a critic that foresees every return, 0 for one no better than a constant; NaN when the
    returns are equal but for rounding."""
    _, error = moments(returns_BT - values_BT, mask_BT, total)
    _, variance = moments(returns_BT, mask_BT, total)
    return torch.where(variance > 1e-8, 1 - error / variance, torch.nan)
