"""Progress as plain lines, so that a terminal, a log file and CI all show the same."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lm.ledger import Ledger
from lm.memory import peak_bytes, peak_gpu_bytes, reset_peaks


@dataclass
class Lines:
    """A `Progress` that prints a line for each report:

        [2/3 prompt+grpo · grpo] 12/25  reward 0.61  dev 0.55  rollouts 768/5,000  ETA 0:55

    What the ledger has counted is shown beside the most it may reach, where there is a cap.
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
        seconds = self._left(step, total)
        print(line(self.label, step, total, {**figures, **self._used()}, seconds), flush=True)

    def _used(self) -> dict[str, str]:
        """Rollouts so far, and whatever else the budget limits, out of how many."""
        if self.ledger is None:
            return {}
        caps = asdict(self.ledger.caps)
        used = {name: getattr(self.ledger, name) for name in caps}
        return {
            name: of_budget(used[name], cap)
            for name, cap in caps.items()
            if cap is not None or (name == "rollouts" and used[name])
        }

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

    def _left(self, step: int, total: int) -> float | None:
        done = step - (self._first or 0)
        if done <= 0 or step >= total:
            return None
        return (self._last - self._start) / done * (total - step)


class Silence:
    """The `Progress` of a process that is not the first."""

    def __call__(self, step: int, total: int, **figures: float | str) -> None: ...

    def tick(self) -> None: ...


def line(
    label: str,
    step: int,
    total: int,
    figures: Mapping[str, float | str],
    seconds_left: float | None = None,
) -> str:
    """How a step of anything that takes long is told; `total` is 0 where nobody knows it."""
    shown = "  ".join(f"{name} {figure(value)}" for name, value in figures.items())
    count = f"{step}/{total}" if total else str(step)
    eta = "" if seconds_left is None else f"  ETA {clock(seconds_left)}"
    return f"[{label}] {count}  {shown}{eta}".rstrip()


def of_budget(used: float, cap: float | None) -> str:
    """`768/5,000`, or what was used alone."""
    return f"{used:,.0f}" if cap is None else f"{used:,.0f}/{cap:,.0f}"


def clock(seconds: float) -> str:
    """`0:55`, `12:03`, `3:07:09`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def figure(value: float | str) -> str:
    """Three digits of a fraction, all those of a count."""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)
