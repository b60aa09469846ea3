"""Objectives against numbers worked out by hand; test_trl_seam.py holds them against TRL's."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from rl.config import OBJECTIVES as CLIPS
from rl.config import GRPOConfig
from rl.objectives import (
    OBJECTIVES,
    Batch,
    group_centered,
    group_normalized,
    kl_to_reference,
    leave_one_out,
    token_ratio,
    with_kl,
)

NAN = math.nan
LOGPS = torch.tensor([[-1.0, -2.0, -0.5], [-1.0, -3.0, -9.0]])
RATIOS = torch.tensor([[1.5, 0.5, 1.0], [1.1, 0.7, 5.0]])  # the last token is padding
BATCH = Batch(
    logps_BT=LOGPS,
    old_logps_BT=LOGPS - RATIOS.log(),
    ref_logps_BT=None,
    mask_BT=torch.tensor([[1, 1, 1], [1, 1, 0]]),
    advantages_BT=torch.tensor([[1.0], [-2.0]]),
    rows=2,
    tokens=5,
    longest=4,
)

# Clipped at 0.8 and 1.2, the five tokens lose -1.2, -0.5, -1 and 2.2, 1.6. Whole answers moved by
# 0.75 and 0.77, by 0.75^(1/3) = 0.908560 and 0.77^(1/2) = 0.877496 a token.
BY_HAND = {
    "grpo": (-2.7 / 3 + 3.8 / 2) / 2,
    "dr_grpo": 1.1 / (2 * 4),
    "dapo": 1.1 / 5,
    "bnpo": 1.1 / 5,
    "gspo": (-0.908560 + 2 * 0.877496) / 2,
    "luspo": (-0.908560 * 3 + 2 * 0.877496 * 2) / 2,
    "cispo": (1.2 + 1.0 + 0.5 - 2.2 - 4.2) / 5,
    "sapo": (-2.0 + 3.611890) / 2,  # gates 2.489837, 1.510163, 2 and 2.004670, 1.607220
    "vespo": (1.190813 * 3.5 - 0.723182 * 8) / 5,
    "rloo": (-0.75 + 1.6) / 2,
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_losses_worked_out_by_hand(name):
    batch = replace(BATCH, epsilon_high=1.2) if name == "cispo" else BATCH
    loss, _ = OBJECTIVES[name].loss(batch)
    assert loss.item() == pytest.approx(BY_HAND[name], abs=1e-5)


def test_every_objective_is_worked_out_and_has_a_clip():
    assert BY_HAND.keys() == OBJECTIVES.keys() == CLIPS.keys()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_on_policy_a_gradient_is_the_advantage_times_what_a_token_counts(name):
    """At ratio 1 all are policy gradients; they differ in how much a token of each row weighs."""
    logps = LOGPS.clone().requires_grad_()
    low, high = GRPOConfig(objective=name).clip()
    batch = replace(BATCH, logps_BT=logps, old_logps_BT=LOGPS, epsilon=low, epsilon_high=high)
    OBJECTIVES[name].loss(batch)[0].backward()
    share = {"grpo": (1 / 6, 1 / 4), "dr_grpo": (1 / 8, 1 / 8), "luspo": (1 / 2, 1 / 2)}
    share |= {"gspo": share["grpo"], "sapo": share["grpo"], "rloo": (1 / 2, 1 / 2)}
    first, second = share.get(name, (1 / 5, 1 / 5))
    wanted = torch.tensor([[-first] * 3, [2 * second, 2 * second, 0.0]])
    torch.testing.assert_close(logps.grad, wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_forwards_of_a_step_add_up(name):
    whole, _ = OBJECTIVES[name].loss(BATCH)
    rows = ("logps_BT", "old_logps_BT", "mask_BT", "advantages_BT")
    parts = [
        replace(BATCH, **{field: getattr(BATCH, field)[i : i + 1] for field in rows})
        for i in range(2)
    ]
    total = sum(OBJECTIVES[name].loss(part)[0] for part in parts)
    if name == "bnpo":  # by definition not
        assert total.item() == pytest.approx((-2.7 / 3 + 3.8 / 2) / 2)
    else:
        assert total.item() == pytest.approx(whole.item(), abs=1e-6)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_padding_and_rows_without_advantage_change_nothing(name):
    batch = replace(
        BATCH,
        logps_BT=torch.cat([LOGPS, torch.tensor([[-1.0, -4.0, -2.0]])]).requires_grad_(),
        old_logps_BT=torch.cat([BATCH.old_logps_BT, torch.tensor([[-9.0, -0.1, -2.0]])]),
        mask_BT=torch.cat([BATCH.mask_BT, torch.ones(1, 3, dtype=torch.long)]),
        advantages_BT=torch.tensor([[1.0], [-2.0], [0.0]]),
    )
    loss, _ = OBJECTIVES[name].loss(batch)
    loss.backward()
    grad = batch.logps_BT.grad
    assert grad is not None and not grad[2].any() and grad[1, 2] == 0
    if name != "bnpo":  # whose forward has more tokens now
        alone, _ = OBJECTIVES[name].loss(BATCH)
        assert loss.item() == pytest.approx(alone.item(), abs=1e-6)


def test_the_kl_term():
    half = LOGPS - math.log(2)  # the reference gives half the probability
    kl = 0.5 + math.log(2) - 1
    torch.testing.assert_close(kl_to_reference(LOGPS, half), torch.full((2, 3), kl))
    loss, metrics = OBJECTIVES["grpo"].loss(replace(BATCH, ref_logps_BT=half, beta=0.1))
    moved = (3.0 / 3 + 1.8 / 2) / 2  # the mean ratio
    assert loss.item() == pytest.approx(BY_HAND["grpo"] + 0.1 * kl * moved, abs=1e-6)
    assert metrics["kl"].item() == pytest.approx(kl * 4.8 / 5)


def test_the_gradient_of_the_kl_term_is_that_of_the_divergence():
    """Over all tokens of a small vocabulary, weighed by their probabilities."""
    torch.manual_seed(0)
    logits, reference = torch.randn(5, requires_grad=True), torch.randn(5).log_softmax(0)
    divergence = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=logits),
        torch.distributions.Categorical(logits=reference),
    )
    (wanted,) = torch.autograd.grad(divergence, logits)
    logps = logits.log_softmax(0)[:, None]  # each token once, as a row of its own
    batch = Batch(
        logps, logps.detach(), reference[:, None], torch.ones(5, 1), torch.zeros(5, 1),
        rows=1, tokens=1, longest=1, beta=1.0,
    )  # fmt: skip
    losses, _ = with_kl(torch.zeros(5, 1), {}, token_ratio(batch), batch)
    (found,) = torch.autograd.grad((losses * logps.detach().exp()).sum(), logits)
    torch.testing.assert_close(found, wanted)


def test_the_share_of_clipped_tokens():
    _, metrics = OBJECTIVES["grpo"].loss(BATCH)
    assert metrics["clip_ratio"].item() == pytest.approx(2 / 5)  # 1.5 going up, 0.7 going down
    assert "kl" not in metrics


REWARDS = torch.tensor([[1.0, 0.0, 0.0, 1.0], [1.0, 0.0, NAN, 0.0], [2.0, 2.0, 2.0, 2.0]])


def test_advantages_worked_out_by_hand():
    close = torch.testing.assert_close
    centered = [[0.5, -0.5, -0.5, 0.5], [2 / 3, -1 / 3, NAN, -1 / 3], [0.0] * 4]
    close(group_centered(REWARDS), torch.tensor(centered), equal_nan=True)
    std = [math.sqrt(1 / 3), math.sqrt((4 / 9 + 2 / 9) / 2)]
    scaled = [[a / (s + 1e-4) for a in row] for row, s in zip(centered, std, strict=False)]
    close(group_normalized(REWARDS), torch.tensor([*scaled, [0.0] * 4]), equal_nan=True)
    others = [[2 / 3, -2 / 3, -2 / 3, 2 / 3], [1.0, -0.5, NAN, -0.5], [0.0] * 4]
    close(leave_one_out(REWARDS), torch.tensor(others), equal_nan=True)


@pytest.mark.parametrize("advantage", [group_centered, group_normalized, leave_one_out])
def test_a_dead_group_has_no_advantage_at_all(advantage):
    odd = torch.tensor([[0.1] * 7, [1 / 3] * 7])
    assert (odd.mean(1, keepdim=True) != odd).any()  # rounding alone would wake it
    assert not advantage(odd).any()


def test_a_group_of_which_one_answer_has_a_reward_teaches_nothing():
    lonely = torch.tensor([[0.7, NAN, NAN]])
    for advantage in (group_centered, group_normalized, leave_one_out):
        assert not advantage(lonely).nan_to_num(nan=0.0).any()


@pytest.mark.parametrize(
    "written, clip",
    [
        ({}, (0.2, 0.28)),
        ({"epsilon": 0.1}, (0.1, 0.1)),
        ({"epsilon_high": 0.3}, (0.2, 0.3)),
        ({"objective": "grpo"}, (0.2, 0.2)),
        ({"objective": "gspo"}, (3e-4, 4e-4)),
        ({"objective": "cispo", "epsilon": 0.1}, (0.1, 5.0)),
        ({"objective": "mine.py:loss"}, (0.2, 0.2)),
    ],
)
def test_clips_are_the_objectives_own_unless_written(written, clip):
    assert GRPOConfig(**written).clip() == clip


def test_an_unknown_objective_is_refused():
    with pytest.raises(
        ValueError, match=r"unknown 'gsop' \(did you mean \"gspo\"\?\).*path.py:function"
    ):
        GRPOConfig(objective="gsop")


@pytest.mark.parametrize(
    "odd",
    [{"epsilon": 1.0}, {"epsilon_high": math.inf}, {"objective": "cispo", "epsilon_high": 0.28}],
)
def test_clips_that_make_no_sense_are_refused(odd):
    with pytest.raises(ValueError, match="epsilon"):
        GRPOConfig(**odd)
