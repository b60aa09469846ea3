"""Attention while rows decode together: runs they share are read once, the rest row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lm.prefix_cache import Node
from lm.row_lines import Lines, new_lines
from lm.tree_attention import merge_into, partial


@dataclass
class RowCache:
    """Keys and values that belong to one row each, in memory allocated once.

    Row r owns line r of each of `layers`, of which the first `lengths[r]` tokens are written; live
    rows own the first lines, and nobody the `spare` ones behind all. `nodes` says who also reads
    what.
    """

    rows: int
    room: int
    device: Any
    spare: int = 0
    live: int = 0
    layers: list[Lines] = field(default_factory=list)
    nodes: list[tuple[Node, Tensor | slice]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lengths = torch.zeros(self.rows, dtype=torch.long, device=self.device)

    def share(self, chains: Sequence[Sequence[Node]]) -> None:
        """Say which runs each live row reads, from its first to its last."""
        self.nodes = [
            (node, slice(0, len(chains)) if len(rows) == len(chains) else self._index(rows))
            for node, rows in readers_of(chains).items()
        ]

    def step(self) -> RowCache:
        """Ready for one more token of every live row: an `lm.packed_forward.Attention`."""
        self._place = self.lengths[: self.live].clone()
        self._steps: dict[tuple[int, ...], Any] = {}
        self.lengths[: self.live] += 1
        return self

    def __call__(
        self, layer: int, query_HRD: Tensor, key_KRD: Tensor, value_KRD: Tensor, scaling: float
    ) -> Tensor:
        lines = self.layers[layer]
        groups = query_HRD.shape[0] // key_KRD.shape[0]
        heads = (key_KRD.shape[0], groups, key_KRD.shape[2])  # layers may differ in them
        if heads not in self._steps:
            self._steps[heads] = lines.step(self._place, groups)
        return read(
            layer, lines, self._steps[heads], self.nodes, query_HRD, key_KRD, value_KRD, scaling
        )

    def write(self, layer: int, lines: slice, keys_RKTD: Tensor, values_RKTD: Tensor) -> None:
        """Put the first T tokens of some rows in place; memory is made on first use."""
        if layer == len(self.layers):
            self.layers.append(new_lines(self.rows + self.spare, self.room, keys_RKTD))
        self.layers[layer].write(lines, keys_RKTD, values_RKTD)

    def move(self, source: Sequence[int], target: Sequence[int]) -> None:
        """Put rows in the place of others."""
        if not source:
            return
        old, new = self._index(source), self._index(target)
        width = int(self.lengths[old].max())
        for lines in self.layers:
            lines.move(old, new, width)
        self.lengths[new] = self.lengths[old]

    def _index(self, rows: Sequence[int]) -> Tensor:
        return torch.tensor(list(rows), device=self.device)


def readers_of(chains: Sequence[Sequence[Node]]) -> dict[Node, list[int]]:
    """By run the rows that read it, when row i reads the runs `chains[i]`."""
    found: dict[Node, list[int]] = {}
    for row, chain in enumerate(chains):
        for node in chain:
            found.setdefault(node, []).append(row)
    return found


def read(
    layer: int,
    lines: Lines,
    step: Any,
    nodes: Sequence[tuple[Node, Tensor | slice]],
    query_HRD: Tensor,
    key_KRD: Tensor,
    value_KRD: Tensor,
    scaling: float,
) -> Tensor:
    """Put one token of each row in its line, and let it attend to its line and to its `nodes`.

    `step` is what `lines.step` said of the tokens; returns (H, R, D).
    """
    key, value = (t.transpose(0, 1) for t in (key_KRD, value_KRD))
    grouped_KGRD = query_HRD.unflatten(0, (key_KRD.shape[0], -1))
    lines.append(step, key, value)
    query_RKGD, merging = grouped_KGRD.permute(2, 0, 1, 3), bool(nodes)
    found, weight = lines.attend(step, query_RKGD, scaling, merging)
    out = found.permute(1, 2, 0, 3)
    lse = None if weight is None else weight.permute(1, 2, 0)
    for node, rows in nodes:
        assert lse is not None
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
