"""The text that all rows of a batch begin with is computed once, forward and backward.

An instruction with its demos stands in front of every example, and in front of every rollout of a
group. Here the common prefix runs as one row, its key/value cache is expanded over the rows, and
only the rest of each row is padded. Padding goes between the cached prefix and the rest, where the
attention mask hides it; padding in front of a cached prefix would shift it silently.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

MIN_SHARED = 8  # tokens; below this a second forward costs more than it saves


def common_prefix(rows: Sequence[Sequence[int]]) -> int:
    """How many leading tokens all rows share, leaving at least one token to each row."""
    if len(rows) < 2:
        return 0
    first, shared = rows[0], min(map(len, rows)) - 1
    for row in rows[1:]:
        shared = next((i for i in range(shared) if first[i] != row[i]), shared)
    return shared if shared >= MIN_SHARED else 0


def can_share(model: Any) -> bool:
    """Whether the model's cache may be expanded over rows: full attention in every layer."""
    if model.training and getattr(model, "is_activation_checkpointing", False):
        return False  # checkpointing recomputes the forward and switches the cache off
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or ["full_attention"]
    windowed = getattr(config, "sliding_window", None) and not getattr(config, "layer_types", None)
    return not windowed and set(kinds) == {"full_attention"}


def prefix_cache(model: Any, ids: Sequence[int]) -> DynamicCache:
    """Keys and values of one row of tokens, batch size 1. Gradients flow through it."""
    cache = DynamicCache(config=model.config)
    tokens = torch.tensor([list(ids)], device=model.device)
    model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return cache


def left_pad(rows: Sequence[Sequence[int]], pad: int, device: Any) -> tuple[Tensor, Tensor]:
    """(B, S) token ids and mask, padded on the left."""
    width = max(map(len, rows))
    ids = [[pad] * (width - len(row)) + list(row) for row in rows]
    mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def with_prefix(mask_BS: Tensor, length: int) -> Tensor:
    """(B, length + S): the mask with a fully visible prefix in front."""
    return torch.cat([mask_BS.new_ones(mask_BS.shape[0], length), mask_BS], dim=1)


def positions(mask_BP: Tensor, last: int) -> Tensor:
    """(B, last) position ids of the last columns of a left-padded mask."""
    return (mask_BP.cumsum(dim=1) - 1).clamp_(min=0)[:, -last:]


def completion_logprobs(
    model: Any,
    prompt_ids: Sequence[Sequence[int]],
    completion_ids: Sequence[Sequence[int]],
    *,
    temperature: float = 1.0,
    with_entropy: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Log-probabilities in nats, and entropies, of completion tokens after their prompts.

    Two (B, T) fp32 tensors, T the longest completion, zero behind each completion's end (the
    second None unless `with_entropy`). Gradients flow, through the shared prefix too. Logits are
    divided by `temperature`, as TRL does. `model` is a causal LM of transformers, or peft's wrap.
    """
    width = max(map(len, completion_ids))
    shared = common_prefix(prompt_ids) if can_share(model) else 0
    cache = None
    if shared:
        cache = prefix_cache(model, prompt_ids[0][:shared])
        cache.batch_repeat_interleave(len(prompt_ids))
    rest, rest_mask = left_pad([ids[shared:] for ids in prompt_ids], 0, model.device)
    answer, answer_mask = _right_pad(completion_ids, width, model.device)
    mask = with_prefix(torch.cat([rest_mask, answer_mask], dim=1), shared)
    rows = torch.cat([rest, answer], dim=1)
    logits = model(
        input_ids=rows,
        attention_mask=mask,
        position_ids=positions(mask, rows.shape[1]),
        past_key_values=cache,
        use_cache=cache is not None,
        logits_to_keep=width + 1,
    ).logits[:, :-1]
    scaled = logits.float() / temperature
    chosen = scaled.gather(2, answer[:, :, None]).squeeze(2)
    logprobs = (chosen - scaled.logsumexp(dim=2)) * answer_mask
    entropy = _entropy(scaled.detach()) * answer_mask if with_entropy else None
    return logprobs, entropy


def _right_pad(rows: Sequence[Sequence[int]], width: int, device: Any) -> tuple[Tensor, Tensor]:
    ids = [list(row) + [0] * (width - len(row)) for row in rows]
    mask = [[1] * len(row) + [0] * (width - len(row)) for row in rows]
    return (
        torch.tensor(ids, dtype=torch.long, device=device),
        torch.tensor(mask, dtype=torch.long, device=device),
    )


def _entropy(logits_BTV: Tensor) -> Tensor:
    logprobs = logits_BTV.log_softmax(dim=2)
    return -(logprobs.exp() * logprobs).sum(dim=2)
