"""One forward of a transformers model over packed tokens, with attention of our own choosing.

Embeddings, norms and projections do not care which row a token belongs to; only attention does,
and it learns its place from `position_ids`. So tokens of many rows run as one row without padding,
and in place of the model's attention stands a function that knows who may see whom. This fits
every decoder with standard attention; `shares_prefixes` finds out on the model itself.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from lm.token_tree import TokenTree, token_tree
from lm.tree_attention import attend, blocks
from lm.types import ModelError

_NAME = "tasklift_packed"
_NOT_STANDARD = ("sliding_window", "softcap", "s_aux", "position_bias")
_DROPOUT = ("attention_dropout", "attn_pdrop", "attention_probs_dropout_prob")


class Attention(Protocol):
    """Attention over packed tokens.

    Called once per layer with the layer's index (from 0), the queries (H, N, D), keys and values
    (K, N, D) and the factor on the scores; returns (H, N, D).
    """

    def __call__(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, /
    ) -> Tensor: ...


class _Running(threading.local):
    attention: Attention | None = None
    config: Any = None


_running = _Running()
_switching = threading.RLock()


def hidden_states(model: Any, ids_N: Tensor, positions_N: Tensor, attention: Attention) -> Tensor:
    """(N, D) hidden states, ready for `head(model)`, of N packed tokens at their positions.

    `model` is a causal LM of transformers, or a classifier on the trunk of one, or peft's wrap of
    either; gradients flow.
    """
    causal = causal_lm(model)
    decoder = getattr(causal, causal.base_model_prefix)
    with _attending(causal.config, attention):
        out = decoder(input_ids=ids_N[None], position_ids=positions_N[None], use_cache=False)
    return out[0][0]


def packed_hidden(model: Any, tree: TokenTree) -> Tensor:
    """(N, D) hidden states of a tree's tokens, of which each sees those before it in its rows."""
    parts = blocks(tree, model.device)
    ids, depth = (torch.from_numpy(a).to(model.device) for a in (tree.tokens, tree.depth))
    return hidden_states(
        model, ids, depth, lambda _, q, k, v, scaling: attend(q, k, v, parts, scaling)[0]
    )


def head(model: Any) -> Any:
    """The module that turns hidden states (..., D) into logits (..., V)."""
    return causal_lm(model).get_output_embeddings()


def causal_lm(model: Any) -> Any:
    """The transformers model inside peft's wrap, if there is one; adapters stay in place.

    Raises ModelError for adapters that put tokens in front of the prompt instead.
    """
    if getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False):
        raise ModelError(
            f"adapter: {model.active_peft_config.peft_type} is not supported; use LoRA"
        )
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@contextmanager
def _attending(config: Any, attention: Attention) -> Iterator[None]:
    with _switching:  # the choice of attention is the configuration's, so all threads see it
        before = config._attn_implementation
        config._attn_implementation = _NAME
        _running.attention, _running.config = attention, config
        try:
            yield
        finally:
            config._attn_implementation = before
            _running.attention = _running.config = None


_checkpointed: weakref.WeakSet[Any] = weakref.WeakSet()


def allow_checkpointing(model: Any) -> None:
    """Have training keep each layer's input alone and compute the layer again on the way back.

    Less memory for a third more time (Chen et al., 2016, arXiv:1604.06174). A packed forward finds
    its attention again on the way back, which checkpointing switched on elsewhere would not.
    """
    causal = causal_lm(model)
    causal.activation_checkpointing_enable({"use_reentrant": False, "context_fn": _and_again})
    _checkpointed.add(causal)


def allows_checkpointing(model: Any) -> bool:
    """Whether `allow_checkpointing` was called for this model."""
    return causal_lm(model) in _checkpointed


def _and_again() -> tuple[Any, Any]:
    """Contexts of a layer's forward and of its repetition."""
    if _running.attention is None:
        return nullcontext(), nullcontext()
    return nullcontext(), _attending(_running.config, _running.attention)


def _packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    odd = [name for name in _NOT_STANDARD if options.get(name) is not None]
    odd += ["dropout"] if options.get("dropout") else []
    if odd or _running.attention is None:
        raise NotImplementedError(f"attention with {odd}")
    factor = query.shape[-1] ** -0.5 if scaling is None else scaling
    # under autocast rotary embeddings leave queries and keys in fp32
    query, key = query.to(value.dtype), key.to(value.dtype)
    out = _running.attention(module.layer_idx, query[0], key[0], value[0], factor)
    return out.transpose(0, 1)[None], None


AttentionInterface.register(_NAME, _packed_attention)

_known: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()


def shares_prefixes(model: Any) -> bool:
    """Whether packed forwards are right for `model`; the first no is announced on stderr.

    Sliding windows, state-space layers, position biases and the like are not; neither is a model
    under attention dropout, or activation checkpointing switched on elsewhere, while it trains.
    """
    causal = causal_lm(model)
    if causal not in _known:
        with _switching:  # another thread's packed forward must not meet the plain ones here
            _known[causal] = _why_not(causal)
        if _known[causal]:
            print(
                f"model: {type(causal).__name__} runs through transformers alone, slower, because "
                f"{_known[causal]}",
                file=sys.stderr,
            )
    if model.training:
        foreign = causal not in _checkpointed
        if has_attention_dropout(model) or (
            foreign and getattr(model, "is_activation_checkpointing", False)
        ):
            return False
    return not _known[causal]


def has_attention_dropout(model: Any) -> bool:
    """Whether attention drops some of its weights while the model trains."""
    config = causal_lm(model).config.get_text_config()
    return any(getattr(config, name, None) for name in _DROPOUT)


def _why_not(causal: Any) -> str:
    """The reason why packed forwards do not fit this model, "" when they do."""
    config = causal.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"}:
        return f"it has {', '.join(sorted(kinds - {'full_attention'}))} layers"
    if getattr(config, "sliding_window", None) and not getattr(config, "layer_types", None):
        return f"it has a sliding window of {config.sliding_window} tokens"
    modes = [(module, module.training) for module in causal.modules()]
    causal.eval()
    try:
        with torch.autocast(causal.device.type, enabled=False):
            return "" if _agrees(causal) else "its attention is not the standard one"
    except Exception:  # whatever a foreign model does not bear is a reason
        return "its attention cannot be replaced"
    finally:
        for module, training in modes:
            module.training = training


@torch.no_grad()
def _agrees(causal: Any) -> bool:
    """Whether two short rows that begin alike get the logits a plain forward gives them."""
    size = causal.config.get_text_config().vocab_size
    rows = [[(7 * i + 3) % size for i in range(length)] for length in (9, 6)]
    rows[1][5] = (rows[1][5] + 1) % size
    tree = token_tree(rows)
    found = packed_hidden(causal, tree)
    ids = torch.from_numpy(tree.tokens).to(causal.device)
    decoder, to_logits = getattr(causal, causal.base_model_prefix), head(causal)
    if to_logits is None:  # a classifier, which says one thing of a whole row

        def forward(_: Any, input_ids: Tensor) -> Any:
            return SimpleNamespace(logits=decoder(input_ids=input_ids, use_cache=False)[0])

        to_logits = nn.Identity()
    else:
        forward = type(causal).forward  # a trainer may have put another in its place
    logits = to_logits(found).float()
    least = 2e-4 if causal.dtype == torch.float32 else 0.1
    for row, path in zip(rows, tree.paths, strict=True):
        longer = [*row, *row][: len(tree)]  # as many tokens as the packed forward ran
        plain, again = (
            forward(causal, input_ids=ids.new_tensor([part])).logits[0, : len(row)].float()
            for part in (row, longer)
        )
        scale = plain.abs().max()
        alone = to_logits(decoder(input_ids=ids.new_tensor([row]), use_cache=False)[0][0]).float()
        if (alone - plain).abs().max() > 1e-3 * scale:  # capped or scaled behind the head
            return False
        rounding = (plain - again).abs().max() / scale  # much, where weights are quantized
        tolerance = min(max(least, 4 * float(rounding)), 0.1)
        gap = (logits[torch.from_numpy(path).to(ids.device)] - plain).abs().max()
        if gap > tolerance * scale:  # false, too, when weights have diverged to NaN
            return False
    return True
