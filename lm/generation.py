"""Batched decoding for any causal LM of transformers, sharing whatever prompts share.

The prompts of a call form a tree whose every token is computed once, in packed forwards without
padding; long shared runs are also kept and read once (lm/prefix_cache.py). Rows leave as they
finish and waiting ones take their place, within a bound on memory. What is drawn does not depend
on how rows are put into batches, rounding aside. Greedy output equals `generate` (a test holds it).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lm.asked import Asked, asked_prompts
from lm.graphed import WORTH, Frame, can_graph, refuse
from lm.packed_forward import head, hidden_states, shares_prefixes
from lm.packed_weights import packed_weights
from lm.prefill import Prefill, new_tokens, padded, readers
from lm.prefix_cache import Node, PrefixCache
from lm.row_cache import RowCache
from lm.sampler import choose, uniforms
from lm.slow_path import generate_rows
from lm.token_tree import TokenTree
from lm.tree_attention import blocks
from lm.types import ModelError, Row, Sampling
from lm.weights_version import weights_version

TOKENS_IN_FLIGHT = 65_536  # bounds the rows' memory: about 3 GB at 135M parameters in fp32
TOKENS_KEPT = 8_192  # of shared runs, between calls and beside the rows
TOKENS_AT_ONCE = 4_096  # of prompts in one forward
ROWS_IN_FLIGHT = 160

Finished = Callable[[Row], bool]


@torch.no_grad()
def decode(
    model: Any,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    finished: Finished,
    cache: PrefixCache | None = None,
) -> list[Row]:
    """`sampling.n` rows for each prompt (token ids), prompt by prompt.

    `finished(row)` says whether a row ends with its newest token. A `cache` given again to a later
    call saves the runs both calls share; it notices when the weights have changed.
    """
    count = len(prompts) * sampling.n
    assert len(sampling.draws) in (0, count)
    rows = [Row(sampling.row(i), i // sampling.n) for i in range(count)]
    if not rows:
        return rows
    if not shares_prefixes(model):
        return generate_rows(model, prompts, rows, sampling, finished)
    cache = cache or PrefixCache()
    cache.sync(weights_version(model))
    with packed_weights(model):
        for asked in _classes(asked_prompts(prompts, rows, sampling, cache)):
            _Decoding(model, sampling, finished, cache, asked).run()
    cache.trim(TOKENS_KEPT, set())
    return rows


def _classes(asked: list[Asked]) -> list[list[Asked]]:
    """Prompts that decode together: all, or, if too few rows then fit, those of like length."""
    rows = min(ROWS_IN_FLIGHT // 2, sum(len(each.rows) for each in asked))
    if rows * max(each.room for each in asked) <= TOKENS_IN_FLIGHT:
        return [asked]
    classes: dict[int, list[Asked]] = {}
    for each in asked:
        classes.setdefault(each.room.bit_length(), []).append(each)
    return [classes[size] for size in sorted(classes)]


@dataclass
class _Live:
    """A row while it decodes: what it shares, and the position of its newest token."""

    row: Row
    chain: list[Node]
    position: int

    @property
    def start(self) -> int:
        """Where the row's own line starts."""
        return self.chain[-1].stop if self.chain else 0


class _Decoding:
    """Prompts in a queue, rows in flight."""

    def __init__(
        self,
        model: Any,
        sampling: Sampling,
        finished: Finished,
        cache: PrefixCache,
        asked: list[Asked],
    ):
        self.model, self.sampling, self.finished, self.cache = model, sampling, finished, cache
        self.waiting = deque(asked)
        self.live: list[_Live] = []
        room = max(each.room for each in asked)
        wanted = sum(len(each.rows) for each in asked)
        count = min(ROWS_IN_FLIGHT, wanted, max(1, TOKENS_IN_FLIGHT // room))
        self.frame: Frame | None = None
        self.eager = 0  # steps since rows were last admitted
        self.lines = RowCache(count, room, model.device, spare=int(can_graph(model)))
        self.uniform = torch.zeros(count, sampling.max_tokens, dtype=torch.float64)
        self.seen: Tensor | None = None

    def run(self) -> None:
        while self.waiting or self.live:
            free = self.lines.rows - len(self.live)
            wanted = min(self.lines.rows // 4, sum(len(each.rows) for each in self.waiting))
            due = self.waiting and (not self.live or free >= max(1, wanted))
            if not (due and self._admit(free)):
                self._step()

    def _step(self) -> None:
        logits = self._in_frame() if self.lines.spare and can_graph(self.model) else None
        if logits is None:
            newest = self._tensor([each.row.tokens[-1] for each in self.live])
            positions = self._tensor([each.position for each in self.live])
            hidden = hidden_states(self.model, newest, positions, self.lines.step())
            logits = head(self.model)(hidden)
        self._draw(0, logits)

    def _in_frame(self) -> Tensor | None:
        """The step's logits by a graph; None where one is not to be had or not worth it."""
        place = [each.position - each.start for each in self.live]
        if self.frame is None or not self.frame.fits(len(self.live), place):
            longest = self.sampling.max_tokens - min(len(each.row.tokens) for each in self.live)
            self.eager += 1
            if self.eager == 1 or longest < WORTH:  # the first warms up what a capture must not
                return None
            self.frame = Frame(self.model, self.lines, [each.chain for each in self.live], place)
        newest = [each.row.tokens[-1] for each in self.live]
        try:
            logits = self.frame.step(newest, [each.position for each in self.live], place)
        except Exception as error:  # whatever a foreign model does not bear
            self.frame = None
            refuse(self.model, error)
            return None
        self.lines.lengths[: len(self.live)] += 1
        return logits

    def _admit(self, free: int) -> bool:
        """Start as many waiting rows as fit; False when none does before others have left."""
        chosen = self._choose(free)
        if not chosen:
            return False
        first, self.frame, self.eager = len(self.live), None, 0
        chains = self._plan(chosen)
        known = [max((n.stop for n in chain if n.keys), default=0) for chain in chains]
        assert all(
            n.keys for c, stop in zip(chains, known, strict=True) for n in c if n.start < stop
        )
        tree, positions = new_tokens([each.ids for each in chosen], chains, known)
        own = [
            path[chain[-1].stop - start if chain else 0 :]
            for path, chain, start in zip(tree.paths, chains, known, strict=True)
        ]
        for each, chain in zip(chosen, chains, strict=True):
            self.live += [_Live(row, chain, len(each.ids) - 1) for row in each.rows]
        prompt_of_line = np.repeat(range(len(chosen)), [len(each.rows) for each in chosen])
        lines = slice(first, len(self.live))
        self.lines.lengths[lines] = self._tensor(np.array(list(map(len, own)))[prompt_of_line])
        attention = Prefill(
            parts=blocks(tree, self.model.device),
            known=readers(tree, chains),
            nodes=self._to_fill(tree, chains, known),
            cache=self.lines,
            lines=lines,
            tails=self._tensor(padded(own)[prompt_of_line]),
        )
        hidden = hidden_states(
            self.model, self._tensor(tree.tokens), self._tensor(positions), attention
        )
        attention.keep()
        ends = self._tensor(np.array([path[-1] for path in tree.paths])[prompt_of_line])
        rows = [each.row for each in self.live[first:]]
        self.uniform[lines] = uniforms(
            self.sampling.seed, [row.index for row in rows], self.sampling.max_tokens
        )
        logits = head(self.model)(hidden[ends])
        if self.sampling.repetition_penalty != 1.0:
            self._note_prompts(lines, chosen, prompt_of_line, logits.shape[1])
        self._reshare()
        self._draw(first, logits)
        self.cache.trim(TOKENS_KEPT, self._in_use())
        return True

    def _plan(self, chosen: Sequence[Asked]) -> list[list[Node]]:
        """The runs of each prompt, when no prompt's plan splits another's any more."""
        before: list[list[Node]] = []
        while True:
            chains = [self.cache.plan(each.ids, each.cuts) for each in chosen]
            if chains == before:
                return chains
            before = chains

    def _choose(self, free: int) -> list[Asked]:
        """Takes from the queue what one forward may compute and memory may hold."""
        chosen: list[Asked] = []
        planned: set[Node] = set()
        in_use, tokens = self._in_use(), 0
        while self.waiting and free:
            each = self.waiting[0]
            chain = self.cache.plan(each.ids, each.cuts)
            there = sum(len(n.tokens) for n in chain if n.keys or n in planned)
            held = sum(len(n.tokens) for n in in_use.union(chain))
            if chosen and tokens + len(each.ids) - there > TOKENS_AT_ONCE:
                break
            if (chosen or self.live) and held > TOKENS_KEPT and not in_use.issuperset(chain):
                break
            self.waiting.popleft()
            if len(each.rows) > free:
                self.waiting.appendleft(replace(each, rows=each.rows[free:]))
                each = replace(each, rows=each.rows[:free])
            chosen.append(each)
            free -= len(each.rows)
            tokens += len(each.ids) - there
            planned.update(chain)
            in_use.update(chain)
        return chosen

    def _to_fill(
        self, tree: TokenTree, chains: Sequence[Sequence[Node]], known: Sequence[int]
    ) -> list[tuple[Node, Tensor]]:
        return [
            (node, self._tensor(index))
            for node, index in {
                node: path[node.start - start : node.stop - start]
                for path, chain, start in zip(tree.paths, chains, known, strict=True)
                for node in chain
                if not node.keys
            }.items()
        ]

    def _note_prompts(
        self, lines: slice, chosen: Sequence[Asked], prompt_of_line: np.ndarray, vocabulary: int
    ) -> None:
        if self.seen is None:
            self.seen = torch.zeros(
                self.lines.rows, vocabulary, dtype=torch.bool, device=self.model.device
            )
        self.seen[lines] = False
        for line, prompt in enumerate(prompt_of_line.tolist(), start=lines.start):
            self.seen[line, self._tensor(list(chosen[prompt].ids))] = True

    def _draw(self, first: int, logits_BV: Tensor) -> None:
        """Draw a token for the rows from line `first` on, and let those go that are finished."""
        rows = [each.row for each in self.live[first:]]
        lines = torch.arange(first, len(self.live))
        uniform = self.uniform[lines, [len(row.tokens) for row in rows]].to(logits_BV.device)
        seen = None if self.seen is None else self.seen[first : len(self.live)]
        tokens, logprobs = choose(logits_BV, self.sampling, uniform, seen)
        if seen is not None:
            seen.scatter_(1, tokens[:, None], True)
        drawn = zip(self.live[first:], tokens.tolist(), logprobs.tolist(), strict=True)
        for each, token, logprob in drawn:
            if not math.isfinite(logprob):
                raise ModelError("model: its logits are not numbers; its weights have diverged")
            each.row.tokens.append(token)
            each.row.logprobs.append(logprob)
            each.row.finished = self.finished(each.row)
            each.position += 1
        self._release()

    def _release(self) -> None:
        limit = self.sampling.max_tokens
        stay = [
            line
            for line, each in enumerate(self.live)
            if not each.row.finished and len(each.row.tokens) < limit
        ]
        if len(stay) == len(self.live):
            return
        holes = sorted(set(range(len(stay))) - set(stay))
        self._move(stay[len(stay) - len(holes) :], holes)
        del self.live[len(stay) :]
        self.lines.live = len(stay)
        self._reshare()

    def _move(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Put rows on other lines, all at once."""
        self.lines.move(sources, targets)
        targets = list(targets)
        self.uniform[targets] = self.uniform[sources]
        if self.seen is not None:
            self.seen[targets] = self.seen[sources]
        moved = [self.live[source] for source in sources]
        for target, each in zip(targets, moved, strict=True):
            self.live[target] = each

    def _reshare(self) -> None:
        self.lines.live = len(self.live)
        chains = [each.chain for each in self.live]
        self.lines.share(chains)
        if self.frame is not None and not self.frame.share(chains):
            self.frame = None

    def _in_use(self) -> set[Node]:
        return {node for each in self.live for node in each.chain}

    def _tensor(self, values: Sequence[int] | np.ndarray) -> Tensor:
        return torch.as_tensor(values, dtype=torch.long, device=self.model.device)
