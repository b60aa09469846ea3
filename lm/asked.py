"""What a call of decode asks: its distinct prompts, and where they part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lm.prefix_cache import SHORTEST, PrefixCache
from lm.token_tree import TokenTree, token_tree
from lm.types import Row, Sampling

WORTH_KEEPING = 512  # tokens read that a run saves a step; below, each row has its own copy


@dataclass(frozen=True)
class Asked:
    """A prompt and rows that answer it.

    `cuts` are the lengths at which it parts from other prompts; `room` bounds the columns its rows
    need beside the runs they share (these may stop SHORTEST tokens short of the last cut).
    """

    ids: tuple[int, ...]
    rows: tuple[Row, ...]
    cuts: tuple[int, ...]
    room: int


def asked_prompts(
    prompts: Sequence[Sequence[int]], rows: Sequence[Row], sampling: Sampling, cache: PrefixCache
) -> list[Asked]:
    """The distinct prompts in the order of their tokens, so that neighbours share the most."""
    rows_of: dict[tuple[int, ...], list[Row]] = {}
    for row in rows:
        rows_of.setdefault(tuple(prompts[row.prompt]), []).append(row)
    distinct = sorted(rows_of)
    earlier = [ids for ids in cache.recent if ids not in rows_of]
    cache.recent.extend([distinct[0], distinct[-1]][: len(distinct)])
    tree = token_tree([*distinct, *earlier])
    counts = [len(rows_of[ids]) for ids in distinct] + [WORTH_KEEPING] * len(earlier)
    asked = []
    for ids, cuts in zip(distinct, _cuts(tree, counts), strict=False):
        room = len(ids) - (cuts[-1] if cuts else 0) + sampling.max_tokens
        asked.append(Asked(ids, tuple(rows_of[ids]), cuts, room + SHORTEST))
    return asked


def _cuts(tree: TokenTree, counts: Sequence[int]) -> list[tuple[int, ...]]:
    """For each path of `tree`, the lengths at which a run worth keeping stops."""
    readers = np.zeros(len(tree) + 1, dtype=np.int64)
    for path, count in zip(tree.paths, counts, strict=True):
        readers[path[-1]] += count
    below = np.concatenate([[0], np.cumsum(readers)])
    rows_through = below[tree.end] - below[np.arange(len(tree))]  # in each token's subtree
    result = []
    for path in tree.paths:
        through = rows_through[path[:-1]]
        stops = np.flatnonzero(np.diff(np.append(through, 0))) + 1  # where readers part
        kept, start = [], 0
        for stop in stops.tolist():
            length, others = stop - start, int(through[stop - 1]) - 1
            if length >= SHORTEST and length * others >= WORTH_KEEPING:
                kept.append(stop)
                start = stop
        result.append(tuple(kept))
    return result
