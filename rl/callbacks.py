"""What happens around TRL's optimizer steps: evaluate, log, keep the best, seal checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from evaluation.types import Context
from rl.journal import Journal, Mark
from rl.rollouts import Rollouts


class StageCallback(TrainerCallback):
    """Writes a stage's journal while TRL trains.

    `evaluate()` gives the dev score of the live weights, `save(folder)` writes their adapter. The
    best step is chosen by dev score, the earlier of equals; step 0 is the incoming policy.
    """

    def __init__(
        self,
        rollouts: Rollouts,
        journal: Journal,
        context: Context,
        evaluate: Callable[[], float],
        save: Callable[[Path], None],
        *,
        eval_every: int,
    ):
        self.rollouts = rollouts
        self.journal = journal
        self.context = context
        self.evaluate = evaluate
        self.save = save
        self.eval_every = eval_every
        self.best_step = 0
        self.best_score = 0.0
        self.dev_score: float | None = None

    def resume(self, mark: Mark) -> None:
        self.best_step, self.best_score = mark.best_step, mark.best_score

    def mark(self, step: int) -> Mark:
        return Mark(step, self.best_step, self.best_score, self.context.ledger.to_json())

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 0:
            self.measure(0)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._started = time.perf_counter()
        self._sampling_before = self._sampling_seconds()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._seconds = time.perf_counter() - self._started
        self.context.ledger.add_training(
            tokens=self.rollouts.trained_tokens,
            steps=1,
            seconds=self._seconds - (self._sampling_seconds() - self._sampling_before),
        )

    def on_log(self, args: Any, state: Any, control: Any, **shared: Any) -> None:
        logs = shared["logs"]
        if "loss" not in logs:
            return  # TRL's summary at the end
        step = state.global_step
        row = self._row(step, logs)
        self.journal.keep_rollouts(step, self.rollouts.table())
        self.journal.log(row)
        if step % self.eval_every == 0 or step == state.max_steps:
            self.measure(step)
        shown = {name: row[name] for name in ("reward", "score", "seconds")} | {
            "dev": self.dev_score
        }
        known = {name: value for name, value in shown.items() if value is not None}
        self.context.progress(step, state.max_steps, **known)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.journal.seal(self.mark(state.global_step))

    def close(self, step: int) -> None:
        """Measure what the last steps before the end of the budget have brought."""
        if step % self.eval_every:
            self.measure(step)

    def measure(self, step: int) -> None:
        """Score dev with the live weights, log it, and keep the adapter when it is the best."""
        score = self.dev_score = self.evaluate()
        if step == 0:
            self.best_score = score
        elif score > self.best_score:
            self.journal.keep_best(self.save)
            self.best_step, self.best_score = step, score
        used = self.context.ledger.rollouts
        self.journal.log({"step": step, "phase": "dev", "dev_score": score, "rollouts": used})

    def _row(self, step: int, logs: dict[str, Any]) -> dict[str, Any]:
        figures = self.rollouts.figures()
        row = {
            "step": step,
            "phase": "train",
            "reward": figures.pop("reward"),
            "reward_std": logs["reward_std"],
            "score": figures.pop("score"),
            "loss": logs["loss"],
            "entropy": logs["entropy"],
            "grad_norm": logs["grad_norm"],
            **figures,
            "logprob_gap": self.rollouts.logprob_gap,
            "rollouts": self.context.ledger.rollouts,
            "seconds": round(self._seconds, 3),
        }
        return row | {k: v for k, v in logs.items() if k == "kl" or k.startswith("objective/")}

    def _sampling_seconds(self) -> float:
        usage = self.context.ledger.usage.get("rollout")
        return usage.seconds if usage else 0.0
