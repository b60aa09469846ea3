"""PPO's arithmetic against the definitions, written out with loops."""

from __future__ import annotations

import pytest
import torch

from rl.gae import explained_variance, gae, moments, token_rewards, value_losses, whitened


def brute_force(rewards, values, mask, gamma, lam):
    """Per row: keep the model's own tokens, sum (gamma lam)^k delta over those to come."""
    advantages = torch.zeros_like(values, dtype=torch.float64)
    returns = torch.zeros_like(advantages)
    for b in range(len(values)):
        own = [t for t in range(values.shape[1]) if mask[b, t]]
        v = [float(values[b, t]) for t in own] + [0.0]
        r = [float(rewards[b, t]) for t in own]
        delta = [r[i] + gamma * v[i + 1] - v[i] for i in range(len(own))]
        for i, t in enumerate(own):
            total = sum((gamma * lam) ** (j - i) * delta[j] for j in range(i, len(own)))
            advantages[b, t], returns[b, t] = total, total + v[i]
    return advantages, returns


def random_rows(seed: int, rows: int = 7, tokens: int = 11):
    """Rows padded on the right, some with a tool's answer in the middle, one without a token."""
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, tokens + 1, (rows, 1), generator=draw)
    mask = (torch.arange(tokens)[None] < lengths).long()
    mask[:3, 2:5] = 0  # a tool speaks
    mask[3, 0] = 0  # and here it begins
    mask[4] = 0
    values, rewards = (torch.randn(rows, tokens, generator=draw) for _ in range(2))
    return rewards, values, mask


@pytest.mark.parametrize("gamma, lam", [(1.0, 0.95), (0.9, 0.7), (1.0, 0.0), (0.99, 1.0)])
@pytest.mark.parametrize("seed", range(4))
def test_gae_is_its_definition(gamma, lam, seed):
    rewards, values, mask = random_rows(seed)
    found = gae(rewards, values, mask, gamma, lam)
    for table, expected in zip(found, brute_force(rewards, values, mask, gamma, lam), strict=True):
        assert (table - expected).abs().max() < 1e-6
        assert not table[mask == 0].any()


def test_what_stands_behind_the_mask_does_not_count():
    rewards, values, mask = random_rows(0)
    other = values + 100 * (1 - mask)
    priced = rewards + 100 * (1 - mask)
    for a, b in zip(
        gae(rewards, values, mask, 0.9, 0.9), gae(priced, other, mask, 0.9, 0.9), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_with_lambda_1_a_return_is_the_discounted_outcome():
    rewards = torch.tensor([[0.0, 0.0, 1.0]])
    values = torch.tensor([[0.3, -0.2, 0.9]])
    _, returns = gae(rewards, values, torch.ones(1, 3), 0.5, 1.0)
    torch.testing.assert_close(returns, torch.tensor([[0.25, 0.5, 1.0]]))


def test_the_reward_falls_to_the_last_token_of_the_model():
    mask = torch.tensor([[1, 1, 0, 1, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
    costs = torch.full((3, 5), 0.1)
    found = token_rewards(torch.tensor([1.0, 2.0, 3.0]), mask, costs)
    expected = [[-0.1, -0.1, 0, 0.9, 0], [1.9, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_whitening_sees_the_mask_alone():
    values, mask = torch.tensor([[1.0, 2.0, 99.0], [3.0, 99.0, 99.0]]), torch.tensor(
        [[1, 1, 0], [1, 0, 0]]
    )  # fmt: skip
    mean, variance = moments(values, mask)
    assert (mean, variance) == (2.0, 1.0)
    torch.testing.assert_close(whitened(values, mask), torch.tensor([[-1.0, 0, 0], [1.0, 0, 0]]))
    assert not whitened(torch.full((1, 3), 5.0), torch.ones(1, 3)).any()


def test_a_value_that_ran_ahead_is_held_by_the_clip():
    old, returns = torch.tensor([[0.0, 0.0, 0.0]]), torch.tensor([[1.0, 1.0, -1.0]])
    values = torch.tensor([[0.9, 0.1, 0.9]], requires_grad=True)
    losses = value_losses(values, old, returns, 0.2)
    torch.testing.assert_close(losses.detach(), torch.tensor([[0.32, 0.405, 1.805]]))
    (gradient,) = torch.autograd.grad(losses.sum(), values)
    torch.testing.assert_close(gradient, torch.tensor([[0.0, -0.9, 1.9]]))


def test_explained_variance():
    returns, mask = torch.tensor([[0.0, 1.0, 2.0, 50.0]]), torch.tensor([[1, 1, 1, 0]])
    assert explained_variance(returns, returns, mask) == 1
    assert explained_variance(torch.full((1, 4), 7.0), returns, mask) == 0
    assert explained_variance(returns, torch.ones(1, 4), mask).isnan()
