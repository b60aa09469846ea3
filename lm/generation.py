"""Batched decoding for any causal LM of transformers.

Against `transformers.generate` it computes the text all prompts share once, computes a prompt once
for all its samples, and lets finished rows leave the batch. What it draws does not depend on how
rows are put into batches, rounding aside. Greedy output equals `generate` (a test holds it).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from lm.sampler import choose, uniforms
from lm.shared_prefix import (
    can_share,
    common_prefix,
    left_pad,
    positions,
    prefix_cache,
    with_prefix,
)
from lm.types import ModelError, Sampling

TOKENS_IN_FLIGHT = 32_768  # bounds the cache of one batch: about 1.5 GB at 135M parameters in fp32
ROWS_IN_FLIGHT = 128


@dataclass
class Row:
    """One answer in the making. `index` numbers the rows of a call and picks its random draws."""

    index: int
    prompt: int
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finished: bool = False


Finished = Callable[[list[int]], bool]


@torch.no_grad()
def decode(
    model: Any, prompts: Sequence[Sequence[int]], sampling: Sampling, finished: Finished
) -> list[Row]:
    """`sampling.n` rows for each prompt (token ids), prompt by prompt.

    `finished(tokens)` says whether a row ends with its newest token.
    """
    shared = common_prefix(prompts) if can_share(model) else 0
    prefix = prefix_cache(model, prompts[0][:shared]) if shared else None
    rows: dict[int, Row] = {}
    for batch in _batches(prompts, sampling, shared):
        suffixes = [prompts[p][shared:] for p in batch]
        for row in _Batch(model, sampling, batch).run(prefix, shared, suffixes, finished):
            rows[row.index] = row
    return [rows[i] for i in range(len(prompts) * sampling.n)]


def _batches(
    prompts: Sequence[Sequence[int]], sampling: Sampling, shared: int
) -> Iterator[list[int]]:
    """Prompt numbers in batches of similar length, each within the bounds on tokens and rows."""
    batch: list[int] = []
    for number in sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i)):
        row_tokens = len(prompts[number]) + sampling.max_tokens
        rows = (len(batch) + 1) * sampling.n
        if batch and (rows > ROWS_IN_FLIGHT or rows * row_tokens > TOKENS_IN_FLIGHT):
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


class _Batch:
    """Rows that decode together."""

    def __init__(self, model: Any, sampling: Sampling, prompts: Sequence[int]):
        n = sampling.n
        self.model = model
        self.sampling = sampling
        self.rows = [Row(p * n + i, p) for p in prompts for i in range(n)]
        self.uniform: Tensor | None = None
        if sampling.temperature > 0:
            indices = [row.index for row in self.rows]
            self.uniform = uniforms(sampling.seed, indices, sampling.max_tokens)

    def run(
        self,
        prefix: DynamicCache | None,
        shared: int,
        suffixes: Sequence[Sequence[int]],
        finished: Finished,
    ) -> list[Row]:
        logits, cache, mask = self._prefill(prefix, shared, suffixes)
        live = list(range(len(self.rows)))  # which row each line of the cache belongs to
        for step in range(self.sampling.max_tokens):
            tokens = self._append(live, step, logits, finished)
            keep = [line for line, i in enumerate(live) if not self.rows[i].finished]
            if not keep or step + 1 == self.sampling.max_tokens:
                break
            if len(keep) < len(live):
                index = torch.tensor(keep, device=mask.device)
                cache.batch_select_indices(index)
                mask, tokens = mask[index], tokens[index]
                live = [live[line] for line in keep]
            mask = torch.cat([mask, mask.new_ones(len(live), 1)], dim=1)
            logits = self._forward(tokens[:, None], mask, cache)
        return self.rows

    def _prefill(
        self, prefix: DynamicCache | None, shared: int, suffixes: Sequence[Sequence[int]]
    ) -> tuple[Tensor, DynamicCache, Tensor]:
        """Logits (rows, V) after the prompts, their cache and mask; each prompt runs once."""
        ids, mask = left_pad(suffixes, 0, self.model.device)
        if prefix is None:
            cache = DynamicCache(config=self.model.config)
        else:
            cache = copy.deepcopy(prefix)
            cache.batch_repeat_interleave(len(suffixes))
        mask = with_prefix(mask, shared)
        logits = self._forward(ids, mask, cache)
        n = self.sampling.n
        if n > 1:
            cache.batch_repeat_interleave(n)
        return logits.repeat_interleave(n, dim=0), cache, mask.repeat_interleave(n, dim=0)

    def _forward(self, ids_BS: Tensor, mask_BP: Tensor, cache: DynamicCache) -> Tensor:
        return self.model(
            input_ids=ids_BS,
            attention_mask=mask_BP,
            position_ids=positions(mask_BP, ids_BS.shape[1]),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]

    def _append(
        self, live: Sequence[int], step: int, logits_BV: Tensor, finished: Finished
    ) -> Tensor:
        """Draw a token for each live row and note it with its logprob; returns the tokens (B,)."""
        logits_BV = logits_BV.float()
        draw = None if self.uniform is None else self.uniform[live, step].to(logits_BV.device)
        tokens = choose(logits_BV, self.sampling, draw)
        chosen = logits_BV.gather(1, tokens[:, None]).squeeze(1)
        logprobs = (chosen - logits_BV.logsumexp(dim=1)).tolist()
        for i, token, logprob in zip(live, tokens.tolist(), logprobs, strict=True):
            row = self.rows[i]
            if math.isnan(logprob):
                raise ModelError("model: its logits are not numbers; its weights have diverged")
            row.tokens.append(token)
            row.logprobs.append(logprob)
            row.finished = finished(row.tokens)
        return tokens
