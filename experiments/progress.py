"""Progress as plain lines, so that a terminal, a log file and CI all show the same."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from lm.ledger import Ledger
from lm.memory import peak_bytes, peak_gpu_bytes, reset_peaks


@dataclass
class Lines:
    """A `Progress` that prints `[stage 2/3 prompt+grpo · grpo] 12/25  reward 0.61  ETA 0:55`.

    It also keeps the stage's wall clock in the ledger, and in the file `clock`, from which a later
    process takes up the time that a killed one had spent; and the peak of its memory.
    """

    label: str
    ledger: Ledger | None = None
    clock: Path | None = None
    _start: float = field(default_factory=time.perf_counter)
    _last: float = field(default_factory=time.perf_counter)
    _first: int | None = None  # steps done before this process took over

    def __post_init__(self) -> None:
        reset_peaks()
        if self.ledger is not None and self.clock is not None and self.clock.exists():
            self.ledger.wall_seconds = float(self.clock.read_text() or 0)

    def __call__(self, step: int, total: int, **figures: float | str) -> None:
        self.tick()
        if self._first is None:
            self._first = step
            self._start = self._last
        shown = "  ".join(f"{name} {_figure(value)}" for name, value in figures.items())
        count = f"{step}/{total}" if total else str(step)
        print(f"[{self.label}] {count}  {shown}{self._eta(step, total)}".rstrip(), flush=True)

    def tick(self) -> None:
        """Add the time since the last call to the ledger's wall clock, and note the peak memory."""
        now = time.perf_counter()
        if self.ledger is not None:
            self.ledger.wall_seconds += now - self._last
            self.ledger.peak_bytes = max(self.ledger.peak_bytes, peak_bytes())
            self.ledger.peak_gpu_bytes = max(self.ledger.peak_gpu_bytes, peak_gpu_bytes())
            if self.clock is not None:
                self.clock.write_text(f"{self.ledger.wall_seconds:.3f}")
        self._last = now

    def _eta(self, step: int, total: int) -> str:
        done = step - (self._first or 0)
        if done <= 0 or step >= total:
            return ""
        seconds = round((self._last - self._start) / done * (total - step))
        return f"  ETA {seconds // 60}:{seconds % 60:02d}"


class Silence:
    """The `Progress` of a process that is not the first."""

    def __call__(self, step: int, total: int, **figures: float | str) -> None: ...

    def tick(self) -> None: ...


def _figure(value: float | str) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)
