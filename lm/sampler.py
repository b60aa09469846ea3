"""Choosing the next token for a batch of rows, reproducibly and without a full multinomial.

`torch.multinomial` over 64 rows of a 49k vocabulary costs 92 ms a step on two cores; the inverse of
the cumulative distribution, taken in two levels, a tenth of that. It also lets every row bring its
own uniform number, so that a draw depends on (seed, row, step) and, rounding aside, not on which
rows share a batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from lm.types import Sampling

BLOCK = 256  # vocabulary entries summed up at once
COLDEST = 1e-30  # as good as greedy, and still a number in fp32
NUCLEUS = 256  # likeliest tokens looked at first for top-p


def uniforms(seed: int, rows: Sequence[int], steps: int) -> Tensor:
    """(len(rows), steps) numbers in [0, 1), each a function of (seed, row, step) only."""
    draws = np.empty((len(rows), steps), dtype=np.float64)
    for i, row in enumerate(rows):
        key = np.array([seed % 2**64, row], dtype=np.uint64)
        draws[i] = np.random.Generator(np.random.Philox(key=key)).random(steps)
    return torch.from_numpy(draws)


def choose(
    logits_BV: Tensor, sampling: Sampling, uniform_B: Tensor | None, seen_BV: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Token ids (B,), and their log-probabilities (B,) in nats under the plain softmax.

    At temperature 0 the argmax, otherwise the draw that `uniform_B` stands for. `seen_BV` marks
    the tokens a repetition penalty acts on. As in `transformers`, the penalty comes first, then
    temperature, top-k, top-p and min-p. Logits that are NaN give log-probabilities that are.
    """
    logits_BV = logits_BV.float()
    if sampling.repetition_penalty == 1.0:
        scores_BV = logits_BV
    else:
        assert seen_BV is not None
        penalty = sampling.repetition_penalty
        penalized = torch.where(logits_BV < 0, logits_BV * penalty, logits_BV / penalty)
        scores_BV = torch.where(seen_BV, penalized, logits_BV)
    if sampling.temperature == 0.0:
        tokens = scores_BV.argmax(dim=-1)
        lse_B = logits_BV.logsumexp(dim=1)
    else:
        assert uniform_B is not None
        if scores_BV is logits_BV and sampling.temperature == 1.0:
            probs_BV = logits_BV.softmax(dim=1)
            tokens = _draw(probs_BV, sampling, uniform_B)
            return tokens, probs_BV.gather(1, tokens[:, None]).squeeze(1).log_()
        scores_BV = scores_BV - scores_BV.amax(dim=1, keepdim=True)  # lest a division overflow
        probs_BV = (scores_BV / max(sampling.temperature, COLDEST)).softmax(dim=1)
        tokens = _draw(probs_BV, sampling, uniform_B)
        lse_B = logits_BV.logsumexp(dim=1)
    return tokens, logits_BV.gather(1, tokens[:, None]).squeeze(1) - lse_B


def _draw(probs_BV: Tensor, sampling: Sampling, uniform_B: Tensor) -> Tensor:
    if sampling.top_k <= 0 and sampling.top_p >= 1.0:
        if sampling.min_p > 0:
            least_B1 = sampling.min_p * probs_BV.amax(dim=1, keepdim=True)
            probs_BV = probs_BV.masked_fill(probs_BV < least_B1, 0.0)
        return _invert(probs_BV, uniform_B)
    if sampling.top_k > 0:
        k = min(sampling.top_k, probs_BV.shape[1])
        probs_BK, ids_BK = probs_BV.topk(k, dim=1)
        before_BK = _mass_before(probs_BK, probs_BK)
    else:  # the likeliest tokens nearly always suffice: a full sort costs ten times as much
        k = NUCLEUS
        while True:
            probs_BK, ids_BK = probs_BV.topk(min(k, probs_BV.shape[1]), dim=1)
            before_BK = _mass_before(probs_BK, probs_BV)
            if k >= probs_BV.shape[1] or bool((before_BK[:, -1:] >= sampling.top_p).all()):
                break
            k *= 8
    if sampling.top_p < 1.0:  # the likeliest token always stays
        probs_BK = probs_BK.masked_fill(before_BK >= sampling.top_p, 0.0)
    probs_BK = probs_BK.masked_fill(probs_BK < sampling.min_p * probs_BK[:, :1], 0.0)
    return ids_BK.gather(1, _invert(probs_BK, uniform_B)[:, None]).squeeze(1)


def _mass_before(sorted_BK: Tensor, all_BV: Tensor) -> Tensor:
    """The share of all weight that stands ahead of each of the likeliest tokens."""
    weights_BK = sorted_BK.double()
    return (weights_BK.cumsum(dim=1) - weights_BK) / all_BV.sum(dim=1, keepdim=True).double()


def _invert(weights_BK: Tensor, uniform_B: Tensor) -> Tensor:
    """Index (B,) where the cumulative sum of `weights_BK`, over their sum, passes `uniform_B`.

    First the block in which that happens, then the place within it, so that only a few numbers a
    row are summed up in fp64.
    """
    width = weights_BK.shape[1]
    block = math.gcd(width, BLOCK)
    if block < BLOCK // 4:
        block = BLOCK if width > BLOCK else width
        weights_BK = pad(weights_BK, (0, -width % block))
    blocks_BNK = weights_BK.unflatten(1, (-1, block))
    sums_BN = blocks_BNK.sum(dim=2)
    until_BN = sums_BN.double().cumsum(dim=1)
    wanted_B1 = uniform_B.to(until_BN)[:, None] * until_BN[:, -1:]
    found_B1 = torch.searchsorted(until_BN, wanted_B1, right=True)
    found_B1 = torch.minimum(found_B1, _last_positive(sums_BN))
    before_B1 = pad(until_BN, (1, 0)).gather(1, found_B1)
    inside_BK = blocks_BNK[torch.arange(len(found_B1), device=found_B1.device), found_B1[:, 0]]
    until_BK = inside_BK.double().cumsum(dim=1)
    place_B1 = torch.searchsorted(until_BK, wanted_B1 - before_B1, right=True)
    place_B1 = torch.minimum(place_B1, _last_positive(inside_BK))
    return (found_B1 * block + place_B1).squeeze(1).clamp_(max=width - 1)  # NaN would pass it


def _last_positive(weights_BK: Tensor) -> Tensor:
    """(B, 1): rounding must not carry a draw behind the last token that can be drawn."""
    width = weights_BK.shape[1]
    return width - 1 - (weights_BK > 0).flip(1).byte().argmax(dim=1, keepdim=True)
