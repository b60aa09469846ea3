"""What a stage asks itself while it trains; the answers go to audits.json, whatever they are.

Before the first step the reward is offered answers that deserve nothing, and the model a few
questions that have nothing to do with the task. Each checkpoint is read back. A step that a resume
takes a second time is compared with the first. At the end the metrics are gone over, and the best
weights asked the same questions again. None of it picks a checkpoint or stops a run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from transformers import TrainerCallback

from lm.hf import HFModel
from lm.ledger import Ledger
from reward_models.checked import Checked
from reward_models.compose import absolute
from reward_models.task import TaskReward
from reward_models.types import RewardModel
from rl.audits import health, parity
from rl.checkpoint_audit import checkpoint_matches, logged_step, same_step
from rl.findings import Finding, read_findings, write_findings
from rl.forgetting import Panel, ask_panel, forgetting
from rl.journal import Journal, Mark
from rl.reward_probe import probe_reward
from rl.tripwires import reward_up_score_down
from rl.weights import load_weights
from tasks.text import shorten

PANEL_FILE = "forgetting.json"


class Rewarded(Protocol):
    """What knows the reward that is trained on, and the task's own score to hold it against."""

    reward: RewardModel
    task: TaskReward


class SelfAudit(TrainerCallback):
    """Add it behind the callback that writes the journal, whose rows it reads.

    `updates` is the trainer's optimizer updates in one step of ours, `known` the row of the step
    after the checkpoint as a killed run had logged it.
    """

    def __init__(self, live: HFModel, journal: Journal, n_dev: int, updates: int):
        self.live, self.journal, self.n_dev, self.updates = live, journal, n_dev, updates
        self.folder = journal.metrics.parent
        self.critic: Any = None
        self.known: dict[str, Any] | None = None

    def look_ahead(self, rewarded: Rewarded | None) -> None:
        """Before the first step, and once: the reward is probed, the panel asked."""
        with self._harmless("reward"):
            known = read_findings(self.folder)
            if rewarded is not None and not any(f.name.startswith("reward:") for f in known):
                write_findings(self.folder, _probed(rewarded))
        with self._harmless("forgetting"):
            if not (self.folder / PANEL_FILE).exists():
                self._keep({"before": self._panel().to_json()})

    def look_back(self, mark: Mark) -> None:
        """After the last step; the live weights become the best ones on the way."""
        with self._harmless("metrics"):
            rows = self.journal.rows()
            dtype = "bfloat16" if self.live.device.type == "cuda" else str(self.live.model.dtype)
            quantized = getattr(self.live.model, "is_loaded_in_4bit", False)
            found = [*parity(rows, dtype, quantized=quantized), *health(rows)]
            write_findings(self.folder, [*found, *reward_up_score_down(rows, self.n_dev)])
        panels = self.folder / PANEL_FILE
        if mark.best_step and self.journal.best.exists() and panels.exists():
            with self._harmless("forgetting"):
                kept = json.loads(panels.read_text("utf-8"))
                load_weights(self.live, self.journal.best)
                after = self._panel()
                write_findings(self.folder, forgetting(Panel.from_json(kept["before"]), after))
                self._keep({**kept, "after": after.to_json()})

    def on_save(self, args: Any, state: Any, control: Any, **shared: Any) -> None:
        with self._harmless("checkpoint"):
            found = checkpoint_matches(
                Path(args.output_dir) / f"checkpoint-{state.global_step}",
                state.global_step // self.updates,
                model=self.live.model,
                optimizer=shared["optimizer"],
                scheduler=shared["lr_scheduler"],
                critic=self.critic,
            )
            write_findings(self.folder, [found])

    def on_log(self, args: Any, state: Any, control: Any, **shared: Any) -> None:
        if self.known is None:
            return
        with self._harmless("resumed step"):
            again = logged_step(self.journal.metrics, self.known["step"])
            if again is not None:
                exact = self.live.device.type == "cpu"
                write_findings(self.folder, [same_step(self.known, again, exact=exact)])
                self.known = None

    @contextmanager
    def _harmless(self, what: str) -> Iterator[None]:
        """An audit that fails is a note, not the end of a stage."""
        try:
            yield
        except Exception as error:
            said = shorten(" ".join(f"{type(error).__name__}: {error}".split()))
            with suppress(OSError, ValueError):
                note = Finding(f"audit of {what}", "note", None, f"could not be made: {said}")
                write_findings(self.folder, [note])

    def _panel(self) -> Panel:
        training = self.live.model.training
        try:  # counted apart: it is neither training nor the evaluation of the task
            live = self.live
            return ask_panel(HFModel(live.model, live.tokenizer, name=live.name, ledger=Ledger()))
        finally:
            self.live.model.train(training)

    def _keep(self, panels: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / f".{PANEL_FILE}.draft"
        draft.write_text(json.dumps(panels), encoding="utf-8")
        os.replace(draft, self.folder / PANEL_FILE)


def _probed(rewarded: Rewarded) -> list[Finding]:
    """What the probe finds. A judge is not asked: an audit must not spend a stage's budget."""
    reward, task = absolute(rewarded.reward), rewarded.task
    if isinstance(reward, Checked) and reward.asks:
        said = "a judge is asked, which costs; tasklift reward-check does it"
        return [Finding("reward: not probed", "note", None, said)]
    return probe_reward(reward, task, task.prompt, list(task.examples.values()))
