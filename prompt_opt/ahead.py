"""Asking before DSPy's threads do, which ask in any order.

They then read answers from memory, and each batch, its rounding and the number of calls are the
same in every run. A program of several steps is run once more for it, side by side with the others
(prompt_opt/together.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dspy
from dspy.teleprompt import simba
from dspy.utils.callback import BaseCallback

from prompt_opt.bench import Bench


class AskAhead(BaseCallback):
    """A whole evaluation's questions before it starts, and what has come of it at its end."""

    def __init__(self, bench: Bench):
        self._bench = bench

    def on_evaluate_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        program, devset = inputs["program"], inputs.get("devset") or instance.devset
        self._bench.foresee(program, devset)

    def on_evaluate_end(self, call_id: str, outputs: Any, exception: Any = None) -> None:
        if exception is None:
            self._bench.report()

    def on_adapter_parse_end(
        self, call_id: str, outputs: Any, exception: BaseException | None = None
    ) -> None:
        if exception is not None:
            self._bench.unread += 1


@contextmanager
def simba_asks_ahead(bench: Bench) -> Iterator[None]:
    """SIMBA runs (program, example) pairs through `dspy.Parallel`, which calls no one back."""
    wrap, parallel = simba.wrap_program, dspy.Parallel

    def wrapped(program: Any, metric: Any) -> Any:
        run: Any = wrap(program, metric)
        run.program = program
        return run

    class Parallel(parallel):
        def forward(self, exec_pairs: list[Any], num_threads: int | None = None) -> list[Any]:
            bench.ask_ahead([(run.program, case) for run, case in exec_pairs])
            return super().forward(exec_pairs, num_threads)

    simba.wrap_program, dspy.Parallel = wrapped, Parallel  # type: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        simba.wrap_program, dspy.Parallel = wrap, parallel  # type: ignore[reportAttributeAccessIssue]
