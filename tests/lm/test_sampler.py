"""Draws follow the distribution they claim to follow, and nothing but seed, row and step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from lm.sampler import choose, uniforms
from lm.types import Sampling

DRAWS = 40_000
LOGITS = torch.tensor([0.3, 2.0, -1.0, 1.1, 0.0, -3.0, 1.7, 0.9])


def _wanted(sampling):
    """What transformers would draw from."""
    scores = LOGITS[None]
    scores = TemperatureLogitsWarper(sampling.temperature)(None, scores)
    if sampling.top_k:
        scores = TopKLogitsWarper(sampling.top_k)(None, scores)
    if sampling.top_p < 1:
        scores = TopPLogitsWarper(sampling.top_p)(None, scores)
    return scores.softmax(-1)[0].double().numpy()


@pytest.mark.parametrize(
    "cut", [{}, {"top_k": 3}, {"top_p": 0.8}, {"top_k": 5, "top_p": 0.7}, {"top_k": 99}]
)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_distribution(cut, temperature):
    sampling = Sampling(temperature=temperature, **cut)
    uniform = uniforms(0, [3], DRAWS)[0]
    counts = choose(LOGITS.expand(DRAWS, -1), sampling, uniform).bincount(minlength=8).numpy()
    wanted = _wanted(sampling)
    kept = wanted > 0
    assert counts[~kept].sum() == 0
    assert chisquare(counts[kept], wanted[kept] / wanted[kept].sum() * DRAWS).pvalue > 1e-3


@pytest.mark.parametrize("cut", [{}, {"top_k": 3}, {"top_p": 0.8}, {"top_k": 1}, {"top_p": 1e-9}])
def test_the_ends_of_the_unit_interval_stay_inside(cut):
    sampling = Sampling(temperature=1.0, **cut)
    edge = torch.tensor([0.0, 5e-324, 1e-300, 1 - 2**-53], dtype=torch.float64)
    tokens = choose(LOGITS.expand(4, -1), sampling, edge)
    allowed = set(np.flatnonzero(_wanted(sampling)).tolist())
    assert set(tokens.tolist()) <= allowed


def test_impossible_tokens_are_never_drawn_at_the_ends():
    logits = torch.tensor([[-torch.inf, 1.0, -torch.inf, 1.0, -torch.inf]])
    edge = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    assert choose(logits.expand(2, -1), Sampling(temperature=1.0), edge).tolist() == [1, 3]


def test_bfloat16_logits_follow_the_distribution_too():
    uniform = uniforms(1, [0], DRAWS)[0]
    rounded = LOGITS.bfloat16()
    counts = choose(rounded.expand(DRAWS, -1), Sampling(temperature=1.0), uniform).bincount()
    wanted = rounded.double().softmax(-1).numpy() * DRAWS
    assert chisquare(counts.numpy(), wanted).pvalue > 1e-3


def test_temperature_zero_is_the_argmax():
    assert choose(LOGITS[None], Sampling(), None).tolist() == [1]
    barely = Sampling(temperature=1e-3)
    assert set(choose(LOGITS.expand(100, -1), barely, uniforms(0, [0], 100)[0]).tolist()) == {1}


def test_numbers_depend_on_seed_row_and_step_only():
    whole = uniforms(7, range(50), 20)
    assert whole.shape == (50, 20)
    assert torch.equal(uniforms(7, [31, 2], 5), whole[[31, 2], :5])
    assert torch.equal(uniforms(7, range(50), 20), whole)
    assert not torch.equal(uniforms(8, range(50), 20), whole)
    assert len(set(whole.flatten().tolist())) == whole.numel()
    assert uniforms(-1, [0], 3).shape == (1, 3)  # any integer is a seed
    assert whole.min() >= 0 and whole.max() < 1
