"""Keys and values of text that many prompts begin with, kept while the weights stay as they are.

A tree of runs of tokens, as in RadixAttention (Zheng et al., 2024, arXiv:2312.07104): 200 examples
behind one few-shot prompt compute it once, over as many calls as they come in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from lm.token_tree import shared_length

SHORTEST = 8  # tokens; a shorter run costs more to keep apart than to compute again


@dataclass(eq=False)
class Node:
    """Tokens `start:stop` of every prompt below; per layer their keys and values (K, L, D).

    Without keys it is a plan: the run is worth keeping and not yet computed.
    """

    tokens: tuple[int, ...]
    start: int
    children: dict[tuple[int, ...], Node] = field(default_factory=dict)
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    used: int = 0

    @property
    def stop(self) -> int:
        return self.start + len(self.tokens)


class PrefixCache:
    """The runs of one model. `tokens` counts those whose keys and values are in memory."""

    def __init__(self) -> None:
        self.root = Node((), 0)
        self.recent: deque[tuple[int, ...]] = deque(maxlen=4)  # prompts that earlier calls asked
        self._clock = 0
        self._weights: Any = None

    @property
    def tokens(self) -> int:
        return sum(len(node.tokens) for _, node in self._nodes() if node.keys)

    def sync(self, weights: Any) -> None:
        """Forget everything unless `weights`, a value that stands for them, is as it was."""
        if weights != self._weights:
            self.root = Node((), 0)
            self._weights = weights

    def plan(self, ids: Sequence[int], cuts: Sequence[int]) -> list[Node]:
        """The runs `ids` begins with, known and planned; at least its last token is left over.

        `cuts` are the lengths, ascending, at which the prompts at hand part. A known run that
        `ids` leaves half-way is split there.
        """
        self._clock += 1
        node, found = self.root, []
        for cut in [*cuts, len(ids) - 1]:
            while node.stop < cut:
                wanted = ids[node.stop : len(ids) - 1]
                key = tuple(wanted[:SHORTEST])
                child = node.children.get(key)
                if child is None:
                    if cut not in cuts or cut - node.stop < SHORTEST:
                        break
                    child = node.children[key] = Node(tuple(ids[node.stop : cut]), node.stop)
                shared = shared_length(child.tokens, wanted)
                if shared < len(child.tokens):
                    child = node.children[key] = _split(child, shared)
                child.used = self._clock
                found.append(child)
                node = child
        return found

    def trim(self, tokens: int, in_use: set[Node]) -> None:
        """Forget runs, the longest unused first, until at most `tokens` are kept.

        Runs in `in_use` stay, and so do those they follow.
        """
        kept = self.tokens
        while kept > tokens:
            ends = [
                (parent, node)
                for parent, node in self._nodes()
                if not node.children and node not in in_use
            ]
            if not ends:
                return
            parent, oldest = min(ends, key=lambda pair: pair[1].used)
            del parent.children[oldest.tokens[:SHORTEST]]
            kept -= len(oldest.tokens) if oldest.keys else 0

    def _nodes(self) -> Iterator[tuple[Node, Node]]:
        """Every node with its parent."""
        waiting = [self.root]
        while waiting:
            parent = waiting.pop()
            for node in parent.children.values():
                waiting.append(node)
                yield parent, node


def _split(node: Node, length: int) -> Node:
    """Two runs in place of one. `node` itself stays whole for rows that are reading it."""
    tail = Node(node.tokens[length:], node.start + length, node.children, used=node.used)
    first = Node(node.tokens[:length], node.start, used=node.used)
    if len(tail.tokens) >= SHORTEST:
        first.children[tail.tokens[:SHORTEST]] = tail
    first.keys, tail.keys = _cut(node.keys, length)
    first.values, tail.values = _cut(node.values, length)
    return first


def _cut(layers: list[Tensor], length: int) -> tuple[list[Tensor], list[Tensor]]:
    # copies: a view of one half would keep the other in memory
    return (
        [t[:, :length].clone() for t in layers],
        [t[:, length:].clone() for t in layers],
    )
