"""One layer's keys and values of rows that decode together, and how their newest tokens read them.

A decoding step multiplies one query of each row with that row's own keys: many products too small
for a matrix library, which reach a quarter of what the memory delivers. On a CPU the same sums are
bags of an embedding table (`torch.nn.functional.embedding_bag`, whose fp32 kernel reaches half of
it and more): an output is the sum of V's rows weighted by probabilities, and the scores of a block
of keys are the sum of the transposed block's rows weighted by the query. Bags differ in size, so a
row is read to its own length. On two cores twice as fast as batched products or flash attention.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from lm.tree_attention import attend_rows

BLOCK = 32  # keys whose scores are summed up together


def new_lines(rows: int, room: int, key_RKTD: Tensor) -> Lines:
    """Empty lines for `rows` rows of up to `room` tokens, with heads as `key_RKTD` has them."""
    in_bags = key_RKTD.device.type == "cpu" and key_RKTD.dtype == torch.float32
    return (Bags if in_bags else Lines)(rows, room, key_RKTD)


class Lines:
    """Row r owns line r of (rows, K, room, D) tensors.

    Memory starts as zeros: what is hidden still enters with weight 0, and 0 times NaN is NaN.
    """

    def __init__(self, rows: int, room: int, key_RKTD: Tensor):
        _, heads, _, size = key_RKTD.shape
        self.keys, self.values = (key_RKTD.new_zeros(rows, heads, room, size) for _ in range(2))

    def write(self, lines: slice, keys_RKTD: Tensor, values_RKTD: Tensor) -> None:
        """Put the first T tokens of some rows in place."""
        for store, new in ((self.keys, keys_RKTD), (self.values, values_RKTD)):
            store[lines, :, : new.shape[2]] = new

    def step(self, place_R: Tensor, groups: int, width: int | None = None) -> Any:
        """What the methods below need to know, in all layers, when the next tokens are `place_R`.

        `groups` query heads share a key head. Rows are read up to `width` tokens, by default as
        many as the longest has.
        """
        width = int(place_R.max()) + 1 if width is None else width
        lines = torch.arange(len(place_R), device=place_R.device)
        hidden = torch.arange(width, device=place_R.device) > place_R[:, None]
        bias = torch.zeros(hidden.shape, dtype=self.keys.dtype, device=place_R.device)
        return lines, place_R, bias.masked_fill_(hidden, -torch.inf)

    def append(self, step: Any, key_RKD: Tensor, value_RKD: Tensor) -> None:
        """Put one token of each of the first R rows in its place."""
        lines, place, _ = step
        self.keys[lines, :, place], self.values[lines, :, place] = key_RKD, value_RKD

    def attend(
        self, step: Any, query_RKGD: Tensor, scaling: float, with_lse: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Outputs (R, K, G, D) of the first R rows and, if asked for, log-sum-exp (R, K, G)."""
        bias = step[2]
        rows, width = bias.shape
        keys, values = (t[:rows, :, :width] for t in (self.keys, self.values))
        return attend_rows(query_RKGD, keys, values, scaling, bias)

    def move(self, source: Tensor, target: Tensor, width: int) -> None:
        """Copy the first `width` tokens of lines to others, all at once."""
        for store in (self.keys, self.values):
            store[target, :, :width] = store[source, :, :width]


@dataclass(frozen=True)
class _Step:
    """Where new tokens go, and which table rows make up each bag; a row has up to N blocks.

    Bags of keys stand in the order row, block, key head, query head, those of values in the order
    row, key head, query head. `owner` is the row of each block, `seen` the place of each weight of
    a value among the padded (R, K, G, N * BLOCK) scores.
    """

    place: tuple[Tensor, Tensor, Tensor]  # line, block, place in the block
    keys: Tensor
    key_bags: Tensor
    owner: Tensor
    values: Tensor
    value_bags: Tensor
    seen: Tensor
    bias: Tensor  # (R, 1, 1, N, BLOCK): -inf where nothing is written yet


class Bags(Lines):
    """In tables: keys (rows, blocks, K, D, BLOCK), values (rows, K, room, D); fp32 on a CPU."""

    def __init__(self, rows: int, room: int, key_RKTD: Tensor):
        _, heads, _, size = key_RKTD.shape
        shapes = (rows, -(-room // BLOCK), heads, size, BLOCK), (rows, heads, room, size)
        self.keys, self.values = map(key_RKTD.new_zeros, shapes)

    def write(self, lines: slice, keys_RKTD: Tensor, values_RKTD: Tensor) -> None:
        tokens = keys_RKTD.shape[2]
        for block, start in enumerate(range(0, tokens, BLOCK)):
            part = keys_RKTD[:, :, start : start + BLOCK].mT
            self.keys[lines, block, :, :, : part.shape[-1]] = part
        self.values[lines, :, :tokens] = values_RKTD

    def step(self, place_R: Tensor, groups: int, width: int | None = None) -> _Step:
        _, blocks, heads, size, _ = self.keys.shape
        line_R, head_K, block_R = torch.arange(len(place_R)), torch.arange(heads), place_R // BLOCK
        room, most = self.values.shape[2], int(block_R.max()) + 1
        there_RN = torch.arange(most) <= block_R[:, None]
        owner, block = there_RN.nonzero(as_tuple=True)
        table = ((owner * blocks + block)[:, None] * heads + head_K)[..., None, None] * size
        keys = (table + torch.arange(size)).expand(-1, -1, groups, -1)
        shape = (-1, -1, heads, groups)
        key_bags = _starts((there_RN * size)[..., None, None].expand(shape))

        token_T = torch.arange(most * BLOCK)
        seen_RT = token_T <= place_R[:, None]
        seen = seen_RT[:, None, None].expand(-1, heads, groups, -1)
        bias = torch.zeros(seen_RT.shape).masked_fill_(~seen_RT, -torch.inf)
        first = (line_R[:, None] * heads + head_K)[..., None, None] * room
        return _Step(
            place=(line_R, block_R, place_R % BLOCK),
            keys=keys.flatten().int(),
            key_bags=key_bags,
            owner=owner,
            values=(first + token_T).expand(seen.shape)[seen].int(),
            value_bags=_starts((place_R + 1)[:, None, None].expand(shape[1:])),
            seen=seen.flatten().nonzero().squeeze(1),
            bias=bias.view(-1, 1, 1, most, BLOCK),
        )

    def append(self, step: _Step, key_RKD: Tensor, value_RKD: Tensor) -> None:
        line, block, place = step.place
        self.keys[line, block, :, :, place] = key_RKD
        self.values[line, :, block * BLOCK + place] = value_RKD

    def attend(
        self, step: _Step, query_RKGD: Tensor, scaling: float, with_lse: bool
    ) -> tuple[Tensor, Tensor | None]:
        rows, heads, groups, size = query_RKGD.shape
        query = (query_RKGD * scaling).index_select(0, step.owner)
        table = self.keys.view(-1, BLOCK)
        found = _sums(table, step.keys, step.key_bags, query.flatten())
        found = found.view(rows, -1, heads, groups, BLOCK).permute(0, 2, 3, 1, 4)
        scores = found.new_empty(found.shape)
        scores = torch.add(found, step.bias, out=scores).flatten(3)
        weights = scores.softmax(-1)
        lse = scores.amax(-1) - weights.amax(-1).log_() if with_lse else None
        table = self.values.view(-1, size)
        seen = weights.view(-1).index_select(0, step.seen)
        out = _sums(table, step.values, step.value_bags, seen)
        return out.view(query_RKGD.shape), lse

    def move(self, source: Tensor, target: Tensor, width: int) -> None:
        blocks = -(-width // BLOCK)
        self.keys[target, :blocks] = self.keys[source, :blocks]
        self.values[target, :, :width] = self.values[source, :, :width]


def _sums(table: Tensor, index: Tensor, bags: Tensor, weights: Tensor) -> Tensor:
    return embedding_bag(
        index, table, bags, mode="sum", per_sample_weights=weights, include_last_offset=True
    )


def _starts(sizes: Tensor) -> Tensor:
    """Where bags of these sizes start, and where the last one stops."""
    return torch.nn.functional.pad(sizes.flatten().cumsum(0), (1, 0)).int()
