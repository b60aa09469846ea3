"""Attention while rows decode together: runs they share are read once, the rest row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lm.prefix_cache import Node
from lm.tree_attention import Block, attend, merge_into, partial


@dataclass
class RowCache:
    """Keys and values that belong to one row each, in memory allocated once.

    Row r owns line r of every layer's (rows, K, room, D) tensors, of which the first `lengths[r]`
    columns are written; live rows own the first lines. `nodes` says who also reads what.
    """

    rows: int
    room: int
    device: Any
    live: int = 0
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    nodes: list[tuple[Node, Tensor | slice]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lengths = torch.zeros(self.rows, dtype=torch.long, device=self.device)

    def share(self, chains: Sequence[Sequence[Node]]) -> None:
        """Say which runs each live row reads, from its first to its last."""
        readers: dict[Node, list[int]] = {}
        for row, chain in enumerate(chains):
            for node in chain:
                readers.setdefault(node, []).append(row)
        self.nodes = [
            (node, slice(0, len(chains)) if len(rows) == len(chains) else self._index(rows))
            for node, rows in readers.items()
        ]

    def step(self) -> RowCache:
        """Ready for one more token of every live row: an `lm.packed_forward.Attention`."""
        self._lines = torch.arange(self.live, device=self.device)
        self._place = self.lengths[: self.live].clone()
        self._width = int(self._place.max()) + 1
        columns = torch.arange(self._width, device=self.device)
        hidden = columns > self._place[:, None]
        bias = torch.zeros(hidden.shape, device=self.device).masked_fill_(hidden, -torch.inf)
        self._bias = bias[:, None, None]
        self.lengths[: self.live] += 1
        return self

    def __call__(
        self, layer: int, query_HRD: Tensor, key_KRD: Tensor, value_KRD: Tensor, scaling: float
    ) -> Tensor:
        for store, new in ((self.keys, key_KRD), (self.values, value_KRD)):
            store[layer][self._lines, :, self._place] = new.transpose(0, 1)
        keys = self.keys[layer][: self.live, :, : self._width]
        values = self.values[layer][: self.live, :, : self._width]
        grouped_KGRD = query_HRD.unflatten(0, (key_KRD.shape[0], -1))
        scores = (grouped_KGRD.permute(2, 0, 1, 3) @ keys.mT).float().mul_(scaling)
        top = scores.add_(self._bias).amax(-1, keepdim=True)
        total = scores.sub_(top).exp_().sum(-1, keepdim=True)
        out_RKGD = (scores.to(values.dtype) @ values).div_(total)
        lse_RKG = total.log_().add_(top).squeeze(-1)
        out, lse = out_RKGD.permute(1, 2, 0, 3).contiguous(), lse_RKG.permute(1, 2, 0).contiguous()
        for node, rows in self.nodes:
            found, weight = partial(
                grouped_KGRD[:, :, rows], node.keys[layer], node.values[layer], scaling, None
            )
            if isinstance(rows, slice):
                merge_into(out, lse, found, weight)
            else:
                part, part_lse = out[:, :, rows], lse[:, :, rows]
                merge_into(part, part_lse, found, weight)
                out[:, :, rows], lse[:, :, rows] = part, part_lse
        return out.flatten(0, 1)

    def write(self, layer: int, lines: slice, keys_RKTD: Tensor, values_RKTD: Tensor) -> None:
        """Put the first T columns of some rows in place; memory is made on first use.

        It starts as zeros: what is hidden still enters with weight 0, and 0 times NaN is NaN.
        """
        for store, new in ((self.keys, keys_RKTD), (self.values, values_RKTD)):
            if layer == len(store):
                _, heads, _, size = new.shape
                store.append(new.new_zeros(self.rows, heads, self.room, size))
            store[layer][lines, :, : new.shape[2]] = new

    def move(self, source: Sequence[int], target: Sequence[int]) -> None:
        """Put rows in the place of others."""
        if not source:
            return
        old, new = self._index(source), self._index(target)
        width = int(self.lengths[old].max())
        for tensor in (*self.keys, *self.values):
            tensor[new, :, :width] = tensor[old, :, :width]
        self.lengths[new] = self.lengths[old]

    def _index(self, rows: Sequence[int]) -> Tensor:
        return torch.tensor(list(rows), device=self.device)


@dataclass
class Prefill:
    """Attention over the new tokens of prompts, which fills `nodes` and lines of `cache`.

    `known` are runs computed before, with the packed tokens that read them. `tails` (P, T) are the
    indices of the packed tokens that belong to each prompt alone, and `prompt_of_line` says whose
    each of the lines `lines` is.
    """

    parts: Sequence[Block]
    known: Sequence[tuple[Node, slice]]
    nodes: Sequence[tuple[Node, Tensor]]
    cache: RowCache
    lines: slice
    tails: Tensor
    prompt_of_line: Tensor

    def __call__(
        self, layer: int, query_HND: Tensor, key_KND: Tensor, value_KND: Tensor, scaling: float
    ) -> Tensor:
        out_HND, lse_HN = attend(query_HND, key_KND, value_KND, self.parts, scaling)
        groups = (key_KND.shape[0], -1)
        query, out, lse = (t.unflatten(0, groups) for t in (query_HND, out_HND, lse_HN))
        for node, readers in self.known:
            found, weight = partial(
                query[:, :, readers], node.keys[layer], node.values[layer], scaling, None
            )
            merge_into(out[:, :, readers], lse[:, :, readers], found, weight)
        for node, index in self.nodes:
            node.keys.append(key_KND[:, index])
            node.values.append(value_KND[:, index])
        own = [t[:, self.tails].transpose(0, 1)[self.prompt_of_line] for t in (key_KND, value_KND)]
        self.cache.write(layer, self.lines, *own)
        return out_HND
