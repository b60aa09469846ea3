"""Rows begin: the tokens of their prompts that nobody has computed yet, in one packed forward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from lm.prefix_cache import Node
from lm.row_cache import RowCache
from lm.token_tree import Tokens, TokenTree, token_tree
from lm.tree_attention import Block, attend, merge_into, partial


@dataclass
class Prefill:
    """Attention over the new tokens of prompts, which fills `nodes` and lines of `cache`.

    Runs in `nodes` have their keys and values once `keep` is called, after the forward: one that
    was interrupted leaves them as they were. `known` are runs computed before, with the packed
    tokens that read them. `tails` (R, T) are the
    indices of the packed tokens that each of the lines `lines` starts with.
    """

    parts: Sequence[Block]
    known: Sequence[tuple[Node, slice]]
    nodes: Sequence[tuple[Node, Tensor]]
    cache: RowCache
    lines: slice
    tails: Tensor
    _found: list[list[tuple[Tensor, Tensor]]] = field(default_factory=list)  # by layer, by node

    def keep(self) -> None:
        for (node, _), layers in zip(self.nodes, zip(*self._found, strict=True), strict=True):
            node.keys = [key for key, _ in layers]
            node.values = [value for _, value in layers]

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
        self._found.append([(key_KND[:, index], value_KND[:, index]) for _, index in self.nodes])
        own = [t[:, self.tails].transpose(0, 1) for t in (key_KND, value_KND)]
        self.cache.write(layer, self.lines, *own)
        return out_HND


def new_tokens(
    prompts: Sequence[Tokens], chains: Sequence[Sequence[Node]], known: Sequence[int]
) -> tuple[TokenTree, np.ndarray]:
    """What is left of the prompts behind the runs already known, and the tokens' positions.

    Only prompts behind the same run may share a token, so a mark of the run stands in front while
    the tree is built; marks ascend with the prompts, which keeps what shares a run together.
    """
    marks: dict[Node | None, int] = {}
    rows = []
    for ids, chain, start in zip(prompts, chains, known, strict=True):
        behind = next((n for n in reversed(chain) if n.keys), None)
        mark = marks.setdefault(behind, len(marks) - len(prompts))
        rows.append([mark, *ids[start:]])
    tree = token_tree(rows).without([1] * len(rows))
    positions = np.zeros(len(tree), dtype=np.int64)
    for path, start in zip(tree.paths, known, strict=True):
        positions[path] = np.arange(start, start + len(path))
    return tree, positions


def readers(tree: TokenTree, chains: Sequence[Sequence[Node]]) -> list[tuple[Node, slice]]:
    """For each run already known the new tokens that read it, which stand side by side."""
    spans: dict[Node, tuple[int, int]] = {}
    for path, chain in zip(tree.paths, chains, strict=True):
        for node in chain:
            if node.keys:
                first, last = spans.get(node, (len(tree), 0))
                spans[node] = min(first, int(path[0])), max(last, int(tree.end[path[0]]))
    return [(node, slice(*span)) for node, span in spans.items()]


def padded(rows: Sequence[np.ndarray]) -> np.ndarray:
    width = max(map(len, rows))
    return np.stack([np.pad(row, (0, width - len(row))) for row in rows])
