"""Exact attention over a packed token tree, forward and backward, block by block.

A dense mask over N packed tokens would cost N^2; nearly all of it is empty. So attention is cut
into blocks: one for each part of the tree small enough to mask, and, for a long node, one unmasked
block of all its descendants against it. Partial results are merged through their log-sum-exp, as
flash attention merges its tiles (Dao et al., 2022, arXiv:2205.14135); so is the backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lm.token_tree import TokenTree

# What `scaled_dot_product_attention` runs on a CPU, with the log-sum-exp it keeps to itself.
_cpu_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_cpu_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward

SMALL = 128  # tokens; a part of the tree up to this size is one masked block
# on a GPU a block costs its launches, and what a mask hides costs nearly nothing
SMALL_ON_GPU = 1024
SCORES = 1 << 19  # query-key pairs of one head in one block, which bounds its memory


@dataclass(frozen=True)
class Block:
    """Queries `first:last` attend to keys `start:stop`, where `mask` (Q, K) lets them."""

    first: int
    last: int
    start: int
    stop: int
    mask: Tensor | None = None


def blocks(tree: TokenTree, device: Any = "cpu") -> list[Block]:
    """Blocks that cover every visible pair of `tree` once, and no other pair."""
    small = SMALL if torch.device(device).type == "cpu" else SMALL_ON_GPU
    cuts: list[tuple[int, int, int, int, bool]] = []  # the fields of a Block, then: masked
    start, size = 0, len(tree)
    while start < size:
        stop = int(tree.end[start])
        if stop - start > small:
            node_stop = _node_stop(tree, start)
            step = max(small, SCORES // (node_stop - start))
            for first in range(start, node_stop, step):
                last = min(first + step, node_stop)
                if first > start:
                    cuts.append((first, last, start, first, False))
                cuts.append((first, last, first, last, True))
            for first in range(node_stop, stop, step):
                cuts.append((first, min(first + step, stop), start, node_stop, False))
            start = node_stop
            continue
        if cuts and cuts[-1][4] and cuts[-1][0] == cuts[-1][2] and cuts[-1][1] == start:
            first = cuts[-1][0]
            if stop - first <= small:  # neighbours of which neither sees the other
                cuts.pop()
                cuts.append((first, stop, first, stop, True))
                start = stop
                continue
        cuts.append((start, stop, start, stop, True))
        start = stop
    return [
        Block(a, b, c, d, _mask(tree, a, b, c, d).to(device) if masked else None)
        for a, b, c, d, masked in cuts
    ]


def _node_stop(tree: TokenTree, start: int) -> int:
    """Where the run of tokens from `start` on, each the only child of the one before, stops."""
    stop = start + 1
    while stop < len(tree) and tree.end[stop] == tree.end[start]:
        stop += 1
    return stop


def _mask(tree: TokenTree, first: int, last: int, start: int, stop: int) -> Tensor:
    queries, keys = np.arange(first, last)[:, None], np.arange(start, stop)[None]
    return torch.from_numpy((keys <= queries) & (queries < tree.end[None, start:stop]))


def attend(
    query_HND: Tensor, key_KND: Tensor, value_KND: Tensor, parts: Sequence[Block], scaling: float
) -> tuple[Tensor, Tensor]:
    """Attention outputs (H, N, D) and log-sum-exp of the scores (H, N), fp32, over `parts`.

    H query heads share K key/value heads in equal groups. Differentiable in the outputs.
    """
    apply: Any = _TreeAttention.apply  # its type in torch says nothing
    return apply(query_HND, key_KND, value_KND, parts, scaling)


class _TreeAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, parts: Any, scaling: float):
        grouped = _grouped(query, key.shape[0])
        out = torch.zeros_like(grouped)
        lse = torch.full(grouped.shape[:-1], -torch.inf, device=query.device)
        written = 0  # parts stand in the order of the tree: what is ahead of this has been seen
        for part in parts:
            rows, columns = slice(part.first, part.last), slice(part.start, part.stop)
            found, weight = partial(
                grouped[:, :, rows], key[:, columns], value[:, columns], scaling, part.mask
            )
            if part.first >= written:
                out[:, :, rows], lse[:, :, rows] = found, weight
            else:
                merge_into(out[:, :, rows], lse[:, :, rows], found, weight)
            written = max(written, part.last)
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.parts, ctx.scaling = parts, scaling
        flat = lse.flatten(0, 1)
        ctx.mark_non_differentiable(flat)
        return out.flatten(0, 1), flat

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor):  # type: ignore[override]
        query, key, value, out, lse = ctx.saved_tensors
        grouped, grad = _grouped(query, key.shape[0]), _grouped(grads[0], key.shape[0])
        d_query, d_key, d_value = (torch.zeros_like(t) for t in (grouped, key, value))
        for part in ctx.parts:
            rows, columns = slice(part.first, part.last), slice(part.start, part.stop)
            q, g, o, total = (_folded(t[:, :, rows]) for t in (grouped, grad, out, lse))
            k, v = key[:, columns], value[:, columns]
            d_q, d_k, d_v = _backward(q, g, o, total, k, v, ctx.scaling, part.mask)
            d_query[:, :, rows] += d_q.view_as(d_query[:, :, rows])
            d_key[:, columns] += d_k
            d_value[:, columns] += d_v
        return d_query.flatten(0, 1), d_key, d_value, None, None


def partial(
    query_KGQD: Tensor, key_KSD: Tensor, value_KSD: Tensor, scaling: float, mask_QS: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Attention of grouped queries to some keys alone: outputs (K, G, Q, D) and log-sum-exp."""
    if mask_QS is not None and _on_cpu(query_KGQD):  # one bias serves all groups
        shape = (-1, query_KGQD.shape[1], -1, -1)
        key, value = (t[:, None].expand(shape) for t in (key_KSD, value_KSD))
        bias = _bias(mask_QS, query_KGQD.dtype)[None, None]
        return _cpu_flash(query_KGQD, key, value, attn_mask=bias, scale=scaling)
    query = _folded(query_KGQD)
    if _on_cpu(query):
        one_row = (t[None] for t in (query, key_KSD, value_KSD))
        out, lse = _cpu_flash(*one_row, scale=scaling)
    else:
        scores = _scores(query, key_KSD, scaling, mask_QS)
        lse = scores.logsumexp(-1, keepdim=True)
        out = (scores - lse).exp_().to(value_KSD.dtype) @ value_KSD
    return out.reshape(query_KGQD.shape), lse.reshape(query_KGQD.shape[:-1])


def attend_rows(
    query_RKGD: Tensor,
    key_RKTD: Tensor,
    value_RKTD: Tensor,
    scaling: float,
    bias_RT: Tensor,
) -> tuple[Tensor, Tensor]:
    """Attention of one token a row to the row's own keys: (R, K, G, D) and log-sum-exp (R, K, G).

    `bias_RT` is added to the scores: -inf where a row has no key.
    """
    bias = bias_RT[:, None, None]
    if _on_cpu(query_RKGD):
        every = bias.expand(-1, -1, query_RKGD.shape[2], -1)
        return _cpu_flash(query_RKGD, key_RKTD, value_RKTD, attn_mask=every, scale=scaling)
    scores = (query_RKGD @ key_RKTD.mT).float().mul_(scaling).add_(bias)
    lse = scores.logsumexp(-1)
    return (scores - lse[..., None]).exp_().to(value_RKTD.dtype) @ value_RKTD, lse


def _backward(
    query: Tensor,
    grad: Tensor,
    out: Tensor,
    lse: Tensor,
    key: Tensor,
    value: Tensor,
    scaling: float,
    mask_QS: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value through one block.

    `out` and `lse` are those over all blocks: with them the probabilities of a block come out as
    they are in the whole, so the gradients of blocks add up.
    """
    if _on_cpu(query):
        one_row = (t[None] for t in (grad, query, key, value, out, lse))
        bias = None
        if mask_QS is not None:
            repeats = query.shape[1] // len(mask_QS)
            bias = _bias(mask_QS, query.dtype).repeat(repeats, 1)[None, None]
        found = _cpu_flash_backward(*one_row, 0.0, False, attn_mask=bias, scale=scaling)
        return tuple(t[0] for t in found)  # type: ignore[return-value]
    p = (_scores(query, key, scaling, mask_QS) - lse[..., None]).exp_()
    delta = (grad.float() * out.float()).sum(-1, keepdim=True)
    d_scores = (p * ((grad @ value.mT).float() - delta) * scaling).to(query.dtype)
    return d_scores @ key, d_scores.mT @ query, p.to(query.dtype).mT @ grad


def merge_into(out: Tensor, lse: Tensor, found: Tensor, weight: Tensor) -> None:
    """Merge the partial result (`found`, `weight`) into (`out`, `lse`), in place.

    Where nothing has been merged yet `out` is 0 and `lse` -inf.
    """
    total = torch.logaddexp(lse, weight)
    out.mul_((lse - total).exp_()[..., None].to(out.dtype))
    out.addcmul_(found, (weight - total).exp_()[..., None].to(out.dtype))
    lse.copy_(total)


def _scores(query_KRD: Tensor, key_KSD: Tensor, scaling: float, mask_QS: Tensor | None) -> Tensor:
    scores = (query_KRD @ key_KSD.mT).float().mul_(scaling)
    if mask_QS is not None:
        grouped = scores.view(scores.shape[0], -1, *mask_QS.shape)
        grouped.masked_fill_(~mask_QS, -torch.inf)
    return scores


def _on_cpu(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu"


def _bias(mask_QS: Tensor, dtype: torch.dtype) -> Tensor:
    """The mask as the CPU kernel wants it: added to the scores."""
    return torch.zeros(mask_QS.shape, dtype=dtype).masked_fill_(~mask_QS, -torch.inf)


def _grouped(heads_HND: Tensor, groups: int) -> Tensor:
    return heads_HND.unflatten(0, (groups, -1))


def _folded(grouped_KGQD: Tensor) -> Tensor:
    return grouped_KGQD.flatten(1, 2)
