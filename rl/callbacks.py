"""What happens around a trainer's steps: evaluate, log, keep the best, seal checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import pyarrow as pa
from transformers import TrainerCallback
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK, TensorBoardCallback

from evaluation.types import Context
from lm.ranks import gathered
from rl.journal import Journal, Mark


class StepRecord(Protocol):
    """What a method knows of its newest step.

    `trained_tokens` counts the tokens that went through forward and backward since it was last set
    to 0; whoever counts them sets it.
    """

    trained_tokens: int

    def row(self, logs: dict[str, Any]) -> dict[str, Any]:
        """Columns for metrics.jsonl, some of them out of what the trainer logged."""
        ...

    def table(self) -> pa.Table | None:
        """The step's rollouts (`rl.rollouts.SCHEMA`), None for a method that draws none."""
        ...


class StageCallback(TrainerCallback):
    """Writes a stage's journal while a trainer trains.

    `evaluate()` gives the dev score of the live weights, `save(folder)` writes them, `tell` hands
    figures of ours to the trackers that the trainer reports to. The best step
    is chosen by dev score, the earlier of equals; step 0 is the incoming policy. A step of ours
    makes `updates` optimizer updates, after which the trainer logs.
    """

    def __init__(
        self,
        record: StepRecord,
        journal: Journal,
        context: Context,
        evaluate: Callable[[], float],
        save: Callable[[Path], None],
        *,
        eval_every: int,
        updates: int = 1,
        tell: Callable[[dict[str, float]], None] = lambda figures: None,
    ):
        self.record = record
        self.journal = journal
        self.context = context
        self.evaluate = evaluate
        self.save = save
        self.eval_every = eval_every
        self.updates = updates
        self.tell = tell
        self.best_step = 0
        self.best_score = 0.0
        self.dev_score: float | None = None
        self._seconds = 0.0

    def resume(self, mark: Mark) -> None:
        self.best_step, self.best_score = mark.best_step, mark.best_score

    def mark(self, update: int) -> Mark:
        step = update // self.updates
        return Mark(step, self.best_step, self.best_score, self.context.ledger.to_json())

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 0:
            self.measure(0)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._started = time.perf_counter()
        self._sampling_before = self._sampling_seconds()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        seconds = max(gathered(time.perf_counter() - self._started))
        self._seconds += seconds
        self.context.ledger.add_training(
            tokens=sum(gathered(self.record.trained_tokens)),
            steps=1,
            seconds=seconds - (self._sampling_seconds() - self._sampling_before),
        )
        self.record.trained_tokens = 0

    def on_log(self, args: Any, state: Any, control: Any, **shared: Any) -> None:
        logs = shared["logs"]
        if "loss" not in logs:
            return  # the trainer's summary at the end
        step, steps = state.global_step // self.updates, state.max_steps // self.updates
        row = {
            "step": step,
            "phase": "train",
            **self.record.row(logs),
            "rollouts": self.context.ledger.rollouts,
            "seconds": round(self._seconds, 3),
        }
        self._seconds = 0.0
        table = self.record.table()
        if table is not None:
            self.journal.keep_rollouts(step, table)
        self.journal.log(row)
        self.tell({f"tasklift/{name}": v for name, v in row.items() if isinstance(v, float | int)})
        if step % self.eval_every == 0 or step == steps:
            self.measure(step)
        shown = {name: row.get(name) for name in ("reward", "score", "loss", "seconds")}
        shown["dev"] = self.dev_score
        known = {name: value for name, value in shown.items() if value is not None}
        if "reward" in known:
            known.pop("loss", None)
        self.context.progress(step, steps, **known)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.journal.seal(self.mark(state.global_step), state.global_step)

    def close(self, update: int) -> None:
        """Measure what the last steps before the end of the budget have brought."""
        step = update // self.updates
        if step % self.eval_every:
            self.measure(step)

    def measure(self, step: int) -> None:
        """Score dev with the live weights, log it, and keep the weights when they are the best."""
        score = self.dev_score = self.evaluate()
        if step == 0:
            self.best_score = score
        elif score > self.best_score:
            self.journal.keep_best(self.save)
            self.best_step, self.best_score = step, score
        used = self.context.ledger
        row = {"step": step, "phase": "dev", "dev_score": score, "rollouts": used.rollouts}
        self.journal.log({**row, "spent": used.spent()})
        self.tell({"eval_dev_score": score})

    def _sampling_seconds(self) -> float:
        usage = self.context.ledger.usage.get("rollout")
        return usage.seconds if usage else 0.0


def tell_trackers(trainer: Any, figures: dict[str, float]) -> None:
    """Hand figures to the trackers that `trainer` reports to, at its present step.

    Not by `trainer.log`, with which TRL would give away what it collects for its own next line.
    """
    for callback in _trackers(trainer):
        state, control = trainer.state, trainer.control
        callback.on_log(trainer.args, state, control, model=trainer.model, logs=dict(figures))


def end_trackers(trainer: Any) -> None:
    """What the trainer does at its own end, for training that a budget has ended: they write out
    what they still hold."""
    for callback in _trackers(trainer):
        callback.on_train_end(trainer.args, trainer.state, trainer.control, model=trainer.model)


class FiguresOnly(TensorBoardCallback):
    """TensorBoard without the trainer's arguments and the model's config, which hold the user's
    paths: event files lie in the run folder, and that is passed on."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        told: Any = SimpleNamespace(output_dir=args.output_dir, to_json_string=lambda: "{}")
        super().on_train_begin(told, state, control)


def tell_figures_only(trainer: Any) -> None:
    """Before training: of TensorBoard's callback, if there is one, make a `FiguresOnly`."""
    if trainer.pop_callback(TensorBoardCallback) is not None:
        trainer.add_callback(FiguresOnly)


def _trackers(trainer: Any) -> list[TrainerCallback]:
    kinds = tuple(INTEGRATION_TO_CALLBACK[name] for name in trainer.args.report_to)
    return [c for c in trainer.callback_handler.callbacks if isinstance(c, kinds)]
