"""Draws follow the distribution they claim to follow, and nothing but seed, row and step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from lm.sampler import choose, uniforms
from lm.types import Sampling

DRAWS = 40_000
LOGITS = torch.tensor([0.3, 2.0, -1.0, 1.1, 0.0, -3.0, 1.7, 0.9])


WIDE = torch.randn(1037, generator=torch.Generator().manual_seed(0)) * 3
SEEN = [1, 3, 6]


def _wanted(sampling, logits=LOGITS):
    """What transformers would draw from."""
    seen = torch.tensor([SEEN])
    scores = logits[None]
    if sampling.repetition_penalty != 1:
        scores = RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)(seen, scores)
    scores = TemperatureLogitsWarper(sampling.temperature)(seen, scores)
    if sampling.top_k:
        scores = TopKLogitsWarper(sampling.top_k)(seen, scores)
    if sampling.top_p < 1:
        scores = TopPLogitsWarper(sampling.top_p)(seen, scores)
    if sampling.min_p:
        scores = MinPLogitsWarper(sampling.min_p)(seen, scores)
    return scores.softmax(-1)[0].double().numpy()


def _tokens(logits, sampling, uniform):
    count = len(uniform)
    seen = torch.zeros(count, len(logits), dtype=torch.bool)
    seen[:, SEEN] = True
    tokens, logprobs = choose(logits.expand(count, -1), sampling, uniform, seen)
    torch.testing.assert_close(logprobs, logits.log_softmax(-1)[tokens], atol=1e-5, rtol=0)
    return tokens


CUTS = [
    {},
    {"top_k": 3},
    {"top_p": 0.8},
    {"min_p": 0.2},
    {"top_k": 5, "top_p": 0.7},
    {"top_k": 99},
    {"top_p": 0.9, "min_p": 0.3},
    {"top_k": 6, "top_p": 0.95, "min_p": 0.1},
    {"repetition_penalty": 1.7},
    {"repetition_penalty": 0.5, "top_p": 0.8},
]


@pytest.mark.parametrize("logits", [LOGITS, WIDE], ids=["8", "1037"])
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_distribution(cut, temperature, logits):
    sampling = Sampling(temperature=temperature, **cut)
    uniform = uniforms(0, [3], DRAWS)[0]
    size = len(logits)
    counts = torch.zeros(size, dtype=torch.long)
    for part in uniform.split(4000):
        counts += _tokens(logits, sampling, part).bincount(minlength=size)
    wanted, counts = _wanted(sampling, logits), counts.numpy()
    assert counts[wanted == 0].sum() == 0
    often = wanted * DRAWS >= 5  # the rest goes into one class, as chi-square needs
    observed = [*counts[often], counts[~often].sum()]
    expected = [*wanted[often], wanted[~often].sum()]
    if expected[-1] * DRAWS < 5:
        observed, expected = observed[:-1], expected[:-1]
    expected = np.array(expected) / sum(expected) * sum(observed)
    assert len(observed) == 1 or chisquare(observed, expected).pvalue > 1e-4


@pytest.mark.parametrize("logits", [LOGITS, WIDE], ids=["8", "1037"])
@pytest.mark.parametrize("cut", [*CUTS, {"top_k": 1}, {"top_p": 1e-9}, {"min_p": 1.0}])
def test_the_ends_of_the_unit_interval_stay_inside(cut, logits):
    sampling = Sampling(temperature=1.0, **cut)
    edge = torch.tensor([0.0, 5e-324, 1e-300, 1 - 2**-53], dtype=torch.float64)
    allowed = set(np.flatnonzero(_wanted(sampling, logits)).tolist())
    assert set(_tokens(logits, sampling, edge).tolist()) <= allowed


@pytest.mark.parametrize("width", [5, 300, 1024, 1037])
def test_impossible_tokens_are_never_drawn_at_the_ends(width):
    logits = torch.full((1, width), -torch.inf)
    logits[0, [1, width // 2 + 1]] = 1.0
    edge = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    tokens, _ = choose(logits.expand(2, -1), Sampling(temperature=1.0), edge)
    assert tokens.tolist() == [1, width // 2 + 1]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    width=st.sampled_from([2, 255, 256, 257, 512, 1037, 4096]),
    spread=st.sampled_from([0.1, 3.0, 30.0]),
)
def test_a_draw_is_the_plain_inverse_of_the_cumulative_distribution(seed, width, spread):
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(1, width, generator=draw) * spread
    uniform = torch.rand(1, dtype=torch.float64, generator=draw)
    token, _ = choose(logits, Sampling(temperature=1.0), uniform)
    until = logits.double().softmax(-1).cumsum(-1)[0]
    before = 0.0 if token == 0 else until[token - 1].item()
    assert before - 1e-6 <= uniform.item() <= until[token].item() + 1e-6


@pytest.mark.parametrize("cut", CUTS)
def test_a_draw_does_not_depend_on_its_neighbours(cut):
    """Not even on one whose nucleus is so wide that more candidates must be looked at."""
    sampling = Sampling(temperature=1.0, **cut)
    rows = torch.randn(6, 5000, generator=torch.Generator().manual_seed(1)) * 3
    rows[3] = 0.0
    uniform, seen = uniforms(0, range(6), 1)[:, 0], rows > 2
    together, logprobs = choose(rows, sampling, uniform, seen)
    for i in range(6):
        one = slice(i, i + 1)
        token, logprob = choose(rows[one], sampling, uniform[one], seen[one])
        assert token == together[i]
        assert logprob.item() == pytest.approx(logprobs[i].item(), abs=1e-5)


def test_the_penalty_acts_at_temperature_zero():
    logits, seen = torch.tensor([[2.0, 1.9, -1.0]]), torch.tensor([[True, False, False]])
    assert choose(logits, Sampling(), None, seen)[0].item() == 0
    assert choose(logits, Sampling(repetition_penalty=1.2), None, seen)[0].item() == 1


@pytest.mark.parametrize("cut", CUTS)
def test_logits_that_are_no_numbers_show(cut):
    rows = torch.randn(3, 600)
    rows[1] = torch.nan
    sampling = Sampling(temperature=1.0, **cut)
    _, logprobs = choose(rows, sampling, uniforms(0, range(3), 1)[:, 0], rows > 1)
    assert logprobs.isnan().tolist() == [False, True, False]
    assert choose(rows, Sampling(), None)[1].isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_full(dtype):
    rows = torch.randn(4, 700, generator=torch.Generator().manual_seed(2)).to(dtype)
    uniform = uniforms(0, range(4), 1)[:, 0]
    half, full = (choose(r, Sampling(temperature=1.0), uniform) for r in (rows, rows.float()))
    assert half[0].tolist() == full[0].tolist() and half[1].dtype == torch.float32


def test_temperature_zero_is_the_argmax():
    assert choose(LOGITS[None], Sampling(), None)[0].tolist() == [1]
    barely = Sampling(temperature=1e-3)
    assert set(_tokens(LOGITS, barely, uniforms(0, [0], 100)[0]).tolist()) == {1}


def test_numbers_depend_on_seed_row_and_step_only():
    whole = uniforms(7, range(50), 20)
    assert whole.shape == (50, 20)
    assert torch.equal(uniforms(7, [31, 2], 5), whole[[31, 2], :5])
    assert torch.equal(uniforms(7, range(50), 20), whole)
    assert not torch.equal(uniforms(8, range(50), 20), whole)
    assert len(set(whole.flatten().tolist())) == whole.numel()
    assert uniforms(-1, [0], 3).shape == (1, 3)  # any integer is a seed
    assert whole.min() >= 0 and whole.max() < 1


@pytest.mark.parametrize("temperature", [1e-5, 1e-37, 1e-39, 1e-50])
def test_near_temperature_0_the_likeliest_is_drawn(temperature):
    tokens = _tokens(WIDE * 10, Sampling(8, temperature=temperature), torch.rand(50).double())
    assert set(tokens.tolist()) == {int(WIDE.argmax())}
