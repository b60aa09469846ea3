"""Rows of tokens as a tree: what rows begin with in common stands once.

An instruction with its demos stands in front of every example, a prompt in front of every rollout
of its group, and rollouts themselves often begin alike. Packed in depth-first order, the tree is
one row without padding, and a single number per token says who attends to whom: token k is visible
to token q exactly when `k <= q < end[k]`, that is, when q is k or descends from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Tokens = Sequence[int]
Indices = np.ndarray  # of int64


@dataclass(frozen=True)
class TokenTree:
    """N distinct tokens of some rows, in depth-first order; every array but `paths` has shape (N,).

    `depth` is a token's place in its row, from 0. The descendants of token k are the tokens from
    k + 1 up to `end[k]`. `paths[i]` holds the indices of row i's tokens, from first to last.
    """

    tokens: Indices
    depth: Indices
    end: Indices
    paths: list[Indices]

    def __len__(self) -> int:
        return len(self.tokens)

    def without(self, known: Sequence[int]) -> TokenTree:
        """The tree less the first `known[i]` tokens of each row i; `paths` lose them as well.

        Rows that share a token must agree on whether it is known.
        """
        left = np.ones(len(self), dtype=bool)
        for path, count in zip(self.paths, known, strict=True):
            left[path[:count]] = False
        before = np.concatenate([[0], np.cumsum(left)])  # how many are left ahead of each token
        return TokenTree(
            self.tokens[left],
            self.depth[left],
            before[self.end[left]],
            [before[path[count:]] for path, count in zip(self.paths, known, strict=True)],
        )


def token_tree(rows: Sequence[Tokens]) -> TokenTree:
    """The tree of `rows` (token ids). Equal rows share all of their tokens."""
    tokens: list[int] = []
    depth: list[int] = []
    end: list[int] = []
    paths: list[Indices] = [np.empty(0, dtype=np.int64)] * len(rows)
    path: list[int] = []
    last: Tokens = ()
    for number in sorted(range(len(rows)), key=lambda i: tuple(rows[i])):
        row = rows[number]
        shared = shared_length(last, row)
        for index in path[shared:]:
            end[index] = len(tokens)
        path = path[:shared] + list(range(len(tokens), len(tokens) + len(row) - shared))
        tokens += row[shared:]
        depth += range(shared, len(row))
        end += [0] * (len(row) - shared)
        paths[number] = np.array(path, dtype=np.int64)
        last = row
    for index in path:
        end[index] = len(tokens)
    return TokenTree(_array(tokens), _array(depth), _array(end), paths)


def shared_length(a: Tokens, b: Tokens) -> int:
    """How many tokens `a` and `b` begin with in common."""
    low, high = 0, min(len(a), len(b))
    while low < high:  # comparing slices is much faster than comparing tokens one by one
        middle = (low + high + 1) // 2
        if tuple(a[low:middle]) == tuple(b[low:middle]):
            low = middle
        else:
            high = middle - 1
    return low


def _array(values: list[int]) -> Indices:
    return np.array(values, dtype=np.int64)
