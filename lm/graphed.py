"""A decoding step as one launch: captured once as a CUDA graph, then replayed.

On a GPU a step of a small model takes as long as it takes to launch its kernels, some 2,600 of them
for 135M parameters with LoRA. A graph launches them all at once, and fixes shapes and addresses. So
rows stand in a frame that keeps its size while rows leave: lines without a row compute what nobody
reads, and who reads a shared run is written in place.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lm.packed_forward import causal_lm, head, hidden_states
from lm.prefix_cache import Node
from lm.row_cache import RowCache, read, readers_of

WIDER = 128  # tokens that rows may grow before a frame is too narrow
EMPTIER = 4  # a frame is left when a row in so many is alive
WORTH = 4  # tokens still to come; for fewer a capture costs more than it saves

Capture = Callable[[Callable[[], Tensor]], Callable[[], Tensor]]

_refused: weakref.WeakSet[Any] = weakref.WeakSet()


class Frame:
    """One step of up to `rows` rows, at fixed addresses; an `lm.packed_forward.Attention`.

    `chains` are the runs that each live row reads, `place` how many tokens its own line holds.
    """

    def __init__(
        self, model: Any, lines: RowCache, chains: Sequence[Sequence[Node]], place: Sequence[int]
    ):
        assert lines.spare > 0
        self.model, self.lines = model, lines
        self.rows = len(chains) + 1  # the last line is nobody's: what is written there is lost
        self.width = min(lines.room, max(place) + 1 + WIDER)
        self.fed = torch.zeros(3, self.rows, dtype=torch.long, device=lines.device)
        self._all: set[Node] = set()
        self._some: dict[Node, Tensor] = {}
        for node, readers in readers_of(chains).items():
            if len(readers) == len(chains):
                self._all.add(node)
            else:
                self._some[node] = torch.tensor(readers, device=lines.device)
        everyone = slice(0, self.rows)
        self._nodes = [*((n, everyone) for n in self._all), *self._some.items()]
        self._held = [(node.keys, node.values) for node, _ in self._nodes]  # a trim may drop them
        self._replay: Callable[[], Tensor] | None = None

    def fits(self, live: int, place: Sequence[int]) -> bool:
        """Whether the frame still does for that many rows whose lines hold `place` tokens."""
        return live * EMPTIER > self.rows and max(place) < self.width

    def share(self, chains: Sequence[Sequence[Node]]) -> bool:
        """Rows have left or moved; False when the runs they read are not those of the frame."""
        found = readers_of(chains)
        if found.keys() - self._all - self._some.keys():
            return False
        if any(len(found.get(node, ())) < len(chains) for node in self._all):
            return False
        for node, index in self._some.items():
            readers = found.get(node, [])
            if len(readers) > len(index):
                return False
            readers = [*readers, *[self.rows - 1] * (len(index) - len(readers))]
            index.copy_(torch.tensor(readers, device=index.device))
        return True

    def step(
        self,
        newest: Sequence[int],
        positions: Sequence[int],
        place: Sequence[int],
        capture: Capture | None = None,
    ) -> Tensor:
        """Logits (R, V) behind the newest token of each live row; they hold until the next step."""
        live = len(newest)
        fed = torch.tensor([[*newest], [*positions], [*place]])
        self.fed.zero_()  # a line without a row must not write behind the frame
        self.fed[:, :live] = fed.to(self.fed.device)
        if self._replay is None:
            self._replay = (capture or captured)(self._forward)
        return self._replay()[:live]

    def _forward(self) -> Tensor:
        self._steps: dict[Any, Any] = {}
        return head(self.model)(hidden_states(self.model, self.fed[0], self.fed[1], self))

    def __call__(
        self, layer: int, query_HRD: Tensor, key_KRD: Tensor, value_KRD: Tensor, scaling: float
    ) -> Tensor:
        lines = self.lines.layers[layer]
        groups = query_HRD.shape[0] // key_KRD.shape[0]
        heads = (key_KRD.shape[0], groups, key_KRD.shape[2])
        if heads not in self._steps:
            self._steps[heads] = lines.step(self.fed[2], groups, self.width)
        step = self._steps[heads]
        return read(layer, lines, step, self._nodes, query_HRD, key_KRD, value_KRD, scaling)


def can_graph(model: Any) -> bool:
    """Whether steps of `model` may be captured: it is on a GPU, and no capture has failed."""
    return model.device.type == "cuda" and causal_lm(model) not in _refused


def refuse(model: Any, error: Exception) -> None:
    """Capture no more steps of `model`; said once on stderr."""
    _refused.add(causal_lm(model))
    line = (str(error).splitlines() or [""])[0][:200]
    print(f"model: decoding step by step, without a CUDA graph: {line}", file=sys.stderr)


def captured(forward: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """What replays `forward`, whose tensors keep their addresses. Raises what the capture raises.

    As `torch.cuda.graph`, which besides collects garbage and empties the allocator's cache.
    """
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream), _without_cast_cache():
        graph.capture_begin(capture_error_mode="thread_local")
        try:
            out = forward()
        finally:
            graph.capture_end()
    torch.cuda.current_stream().wait_stream(stream)

    def replay() -> Tensor:
        graph.replay()
        return out

    return replay


def _without_cast_cache() -> Any:
    # a cast made while capturing would stay in autocast's cache, with nothing in it yet
    on = torch.is_autocast_enabled("cuda")
    dtype = torch.get_autocast_dtype("cuda")
    return torch.autocast("cuda", dtype=dtype, enabled=on, cache_enabled=False)
