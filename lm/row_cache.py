"""Attention while rows decode together: runs they share are read once, the rest row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lm.prefix_cache import Node
from lm.tree_attention import attend_rows, merge_into, partial

NEIGHBOURS = 16  # rows that are read to the same width in any case
DISORDER = 1.2  # times as much reading as need be is worth a copy of all rows
WASTE = 512  # columns read in vain, over the rows of a part, that cost less than a part more


@dataclass
class RowCache:
    """Keys and values that belong to one row each, in memory allocated once.

    Row r owns line r of every layer's (rows, K, room, D) tensors, of which the first `lengths[r]`
    columns are written; live rows own the first lines. `nodes` says who also reads what. Lines next
    to each other should be of like length: they are read to the length of the longest.
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
        self._parts = _parts(self._place, self.keys[0].dtype)
        self.lengths[: self.live] += 1
        return self

    def __call__(
        self, layer: int, query_HRD: Tensor, key_KRD: Tensor, value_KRD: Tensor, scaling: float
    ) -> Tensor:
        for store, new in ((self.keys, key_KRD), (self.values, value_KRD)):
            store[layer][self._lines, :, self._place] = new.transpose(0, 1)
        grouped_KGRD = query_HRD.unflatten(0, (key_KRD.shape[0], -1))
        query_RKGD = grouped_KGRD.permute(2, 0, 1, 3)
        out = torch.empty_like(grouped_KGRD, memory_format=torch.contiguous_format)
        lse = torch.empty(out.shape[:-1], device=self.device)
        for part in self._parts:
            lines, width = part.lines, part.bias.shape[1]
            keys, values = (t[layer][lines, :, :width] for t in (self.keys, self.values))
            found, weight = attend_rows(query_RKGD[lines], keys, values, scaling, part.bias)
            out[:, :, lines] = found.permute(1, 2, 0, 3)
            lse[:, :, lines] = weight.permute(1, 2, 0)
        for node, rows in self.nodes:
            found, weight = partial(
                grouped_KGRD[:, :, rows], node.keys[layer], node.values[layer], scaling, None
            )
            if isinstance(rows, slice):
                merge_into(out, lse, found, weight)
            else:
                part_out, part_lse = out[:, :, rows], lse[:, :, rows]
                merge_into(part_out, part_lse, found, weight)
                out[:, :, rows], lse[:, :, rows] = part_out, part_lse
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

    def better_order(self) -> list[int] | None:
        """The live lines from the longest to the shortest, when standing so saves much reading."""
        if torch.device(self.device).type != "cpu":  # see _parts
            return None
        lengths = self.lengths[: self.live].tolist()
        order = sorted(range(len(lengths)), key=lambda line: -lengths[line])
        read, least = (_columns(_cuts(each)) for each in (lengths, [lengths[i] for i in order]))
        return order if read > DISORDER * least else None

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


@dataclass(frozen=True)
class _Part:
    """Lines that are read to one width; `bias` (R, width) is -inf where nothing is written yet."""

    lines: slice
    bias: Tensor


def _parts(place_R: Tensor, dtype: torch.dtype) -> list[_Part]:
    """Neighbouring lines in parts of like length; `place_R` are the lines' newest columns."""
    if place_R.device.type != "cpu":  # there a kernel more costs more than reading in vain
        return [_part(place_R, dtype, 0, len(place_R), int(place_R.max()) + 1)]
    cuts = _cuts([place + 1 for place in place_R.tolist()])
    return [_part(place_R, dtype, *cut) for cut in cuts]


def _cuts(widths: Sequence[int]) -> list[tuple[int, int, int]]:
    """The parts of lines so wide: first line, behind the last, width of the widest."""
    cuts: list[tuple[int, int, int]] = []
    for first in range(0, len(widths), NEIGHBOURS):
        last = min(first + NEIGHBOURS, len(widths))
        width = max(widths[first:last])
        if cuts:
            start, _, before = cuts[-1]
            wider = max(width, before)
            if (wider - before) * (first - start) + (wider - width) * (last - first) <= WASTE:
                cuts[-1] = (start, last, wider)
                continue
        cuts.append((first, last, width))
    return cuts


def _columns(cuts: Sequence[tuple[int, int, int]]) -> int:
    return sum((last - first) * width for first, last, width in cuts)


def _part(place_R: Tensor, dtype: torch.dtype, first: int, last: int, width: int) -> _Part:
    hidden = torch.arange(width, device=place_R.device) > place_R[first:last, None]
    bias = torch.zeros(hidden.shape, dtype=dtype, device=place_R.device)
    return _Part(slice(first, last), bias.masked_fill_(hidden, -torch.inf))
