"""Decoding for models whose attention cannot be shared: transformers' own `generate`.

Sliding windows, state-space layers and other caches are its business. Prompts of one length go
together, so that no padding meets a layer that does not expect any; the draws are those of
`lm.sampler`, row by row the same as on the fast path.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, StoppingCriteria

from lm.sampler import choose, uniforms
from lm.types import ModelError, Row, Sampling

ROWS_AT_ONCE = 32


def generate_rows(
    model: Any,
    prompts: Sequence[Sequence[int]],
    rows: list[Row],
    sampling: Sampling,
    finished: Callable[[Row], bool],
) -> list[Row]:
    """`rows` with their tokens; `finished(row)` says whether one ends with its newest token."""

    def length(row: Row) -> int:
        return len(prompts[row.prompt])

    for _, alike in groupby(sorted(rows, key=length), key=length):
        some = list(alike)
        for start in range(0, len(some), ROWS_AT_ONCE):
            _generate(model, prompts, some[start : start + ROWS_AT_ONCE], sampling, finished)
    return rows


def _generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    rows: Sequence[Row],
    sampling: Sampling,
    finished: Callable[[Row], bool],
) -> None:
    ids = torch.tensor([list(prompts[row.prompt]) for row in rows], device=model.device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    sample(model, inputs, rows, sampling, finished)


def sample(
    model: Any,
    inputs: Mapping[str, Tensor],
    rows: Sequence[Row],
    sampling: Sampling,
    finished: Callable[[Row], bool],
) -> None:
    """Fill `rows` by `model.generate`, which gets `inputs`: prompts of one length, and whatever
    else belongs to them, a row each."""
    plain = GenerationConfig(
        max_new_tokens=sampling.max_tokens, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    own, model.generation_config = model.generation_config, plain  # a folder's sampling defaults
    try:
        model.generate(
            **inputs,
            generation_config=plain,
            logits_processor=[_Chooser(rows, sampling, finished)],
            stopping_criteria=[_Finished(rows)],
        )
    finally:
        model.generation_config = own


class _Chooser(LogitsProcessor):
    """Draws for every row and leaves `generate` a single token to take."""

    def __init__(self, rows: Sequence[Row], sampling: Sampling, finished: Callable[[Row], bool]):
        self.rows, self.sampling, self.finished = rows, sampling, finished
        self.step = 0
        self.uniform = uniforms(sampling.seed, [row.index for row in rows], sampling.max_tokens)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        seen = None
        if self.sampling.repetition_penalty != 1.0:
            seen = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, input_ids, True)
        uniform = self.uniform[:, self.step].to(scores.device)
        tokens, logprobs = choose(scores, self.sampling, uniform, seen)
        for row, token, logprob in zip(self.rows, tokens.tolist(), logprobs.tolist(), strict=True):
            if row.finished:
                continue
            if math.isnan(logprob):
                raise ModelError("model: its logits are not numbers; its weights have diverged")
            row.tokens.append(token)
            row.logprobs.append(logprob)
            row.finished = self.finished(row)
        self.step += 1
        return torch.full_like(scores, -torch.inf).scatter_(1, tokens[:, None], 0.0)


class _Finished(StoppingCriteria):
    def __init__(self, rows: Sequence[Row]):
        self.rows = rows

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        return torch.tensor([row.finished for row in self.rows], device=input_ids.device)
