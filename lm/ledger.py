"""One ledger for everything that costs, whoever spends it, counted by purpose.

Prompt optimizers and RL are compared on what they spent, so both must pass through here. A cap
raises `BudgetExhausted`, a `BaseException`: DSPy turns ordinary exceptions into score 0.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Literal, get_args

Purpose = Literal["rollout", "metric", "proposal", "reflection", "judge", "reward", "eval"]
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)


class BudgetExhausted(BaseException):
    """A cap of the ledger was reached. Carries one line that names the cap."""


class Paused(BaseException):
    """A ledger's `pause` was reached: called again with a later one, a method goes on from here."""


@dataclass
class Usage:
    """What one purpose used. `calls` are generate calls, `completions` the answers drawn."""

    calls: int = 0
    completions: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Caps:
    """Hard limits on one stage; None means none. Evaluation calls never count against a cap."""

    rollouts: int | None = None
    tokens: int | None = None
    seconds: float | None = None

    def within(self, other: Caps) -> Caps:
        """The smaller of the two, limit by limit."""
        return Caps(
            **{
                name: min((c for c in (mine, getattr(other, name)) if c is not None), default=None)
                for name, mine in asdict(self).items()
            }
        )

    def less(self, spent: Iterable[Ledger]) -> Caps:
        """What is left of them when `spent` has been paid, 0 at least."""
        paid = list(spent)
        return Caps(
            **{
                name: None if cap is None else max(0, cap - sum(getattr(p, name) for p in paid))
                for name, cap in asdict(self).items()
            }
        )


@dataclass
class Ledger:
    """Counts by purpose, plus what training itself took. Safe to share between threads."""

    caps: Caps = field(default_factory=Caps)
    pause: Caps = field(default_factory=Caps)  # as a kill there would, it leaves work to be resumed
    usage: dict[Purpose, Usage] = field(default_factory=dict)
    drawn: int = 0  # rollouts of this process, also those a checkpoint takes back
    train_tokens: int = 0
    optimizer_steps: int = 0
    train_seconds: float = 0.0
    wall_seconds: float = 0.0  # of the whole stage, over all its restarts
    peak_bytes: int = 0  # the most memory held, of the last of its restarts
    peak_gpu_bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def check(self, purpose: Purpose | None = None) -> None:
        """Raise `BudgetExhausted` when a cap is reached, `Paused` at a pause. Call before spending.

        Evaluation passes: what a method spent must not keep its result from being measured. The
        call that crosses a cap is still made, so a cap is overshot by less than one call.
        """
        if purpose != "eval":
            self._check("rollouts", "tokens", "seconds")

    def check_time(self) -> None:
        """As `check`, of the cap on seconds alone: all that training itself spends."""
        self._check("seconds")

    def _check(self, *limits: str) -> None:
        for caps, stop in ((self.caps, BudgetExhausted), (self.pause, Paused)):
            for name in limits:
                cap, used = getattr(caps, name), getattr(self, name)
                if cap is not None and used >= cap:
                    raise stop(f"budget of {cap} {name} used up ({used:g})")

    def add(
        self,
        purpose: Purpose,
        *,
        completions: int,
        prompt_tokens: int,
        completion_tokens: int,
        seconds: float,
        again: bool = False,
        kept: int = 0,
        calls: int = 1,
    ) -> None:
        """Count one generate call; `again`: it was paid for before, and then taken back. So many
        as `kept` of its completions were at hand already. The later turns of answers that are
        counted already are no call of their own."""
        with self._lock:
            self.drawn += 0 if again or purpose == "eval" else completions - kept
            usage = self.usage.setdefault(purpose, Usage())
            usage.calls += calls
            usage.completions += completions
            usage.prompt_tokens += prompt_tokens
            usage.completion_tokens += completion_tokens
            usage.seconds += seconds

    def add_training(self, *, tokens: int, steps: int, seconds: float) -> None:
        """Count optimizer work: tokens that went through forward and backward, and steps."""
        with self._lock:
            self.train_tokens += tokens
            self.optimizer_steps += steps
            self.train_seconds += seconds

    def _spent(self) -> Iterable[Usage]:
        return [usage for purpose, usage in tuple(self.usage.items()) if purpose != "eval"]

    @property
    def rollouts(self) -> int:
        """Completions drawn to improve a policy: everything but evaluation."""
        return sum(usage.completions for usage in self._spent())

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens spent to improve a policy."""
        return sum(u.prompt_tokens + u.completion_tokens for u in self._spent())

    @property
    def completion_tokens(self) -> int:
        return sum(usage.completion_tokens for usage in self._spent())

    @property
    def seconds(self) -> float:
        """Seconds of sampling and training; the stage's wall time is `wall_seconds`."""
        return sum(usage.seconds for usage in self._spent()) + self.train_seconds

    def spent(self) -> dict[str, float]:
        """What has been spent so far to improve a policy, as metrics.jsonl keeps it by point."""
        names = ("rollouts", "tokens", "completion_tokens", "train_tokens", "seconds")
        return {name: getattr(self, name) for name in names}

    def to_json(self) -> str:
        usage = {purpose: asdict(row) for purpose, row in sorted(self.usage.items())}
        return json.dumps(
            {
                "usage": usage,
                "train_tokens": self.train_tokens,
                "optimizer_steps": self.optimizer_steps,
                "train_seconds": self.train_seconds,
                "wall_seconds": self.wall_seconds,
                "peak_bytes": self.peak_bytes,
                "peak_gpu_bytes": self.peak_gpu_bytes,
            },
            indent=1,
        )

    @classmethod
    def from_json(cls, text: str, caps: Caps | None = None) -> Ledger:
        """Inverse of `to_json`; caps are not stored with the counts."""
        raw = json.loads(text)
        usage = {purpose: Usage(**row) for purpose, row in raw.pop("usage").items()}
        return cls(caps=caps or Caps(), usage=usage, **raw)


class Stopwatch:
    """`with Stopwatch() as watch: ...`, then `watch.seconds`."""

    seconds: float = 0.0

    def __enter__(self) -> Stopwatch:
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._start
