"""What a stage asks itself while it trains; the answers go to audits.json, whatever they are.

Before the first step the reward is offered answers that deserve nothing, and the model a few
questions that have nothing to do with the task. Each checkpoint is read back. A step that a resume
takes a second time is compared with the first. At the end the metrics are gone over, and the best
weights asked the same questions again. None of it picks a checkpoint or stops a run.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from lm.hf import HFModel
from lm.ledger import Ledger
from rl.audits import health, parity
from rl.checkpoint_audit import checkpoint_matches, logged_step, same_step
from rl.findings import read_findings, write_findings
from rl.forgetting import Panel, ask_panel, forgetting
from rl.journal import Journal, Mark
from rl.reward_probe import probe_reward
from rl.rollouts import Rollouts
from rl.tripwires import reward_up_score_down
from rl.weights import load_weights

PANEL_FILE = "forgetting.json"


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

    def look_ahead(self, rollouts: Rollouts | None) -> None:
        """Before the first step, and once: the reward is probed, the panel asked."""
        probed = any(finding.name.startswith("reward:") for finding in read_findings(self.folder))
        if rollouts is not None and not probed:
            task = rollouts.task
            examples = list(task.examples.values())
            found = probe_reward(rollouts.reward, task, task.prompt, examples)
            write_findings(self.folder, found)
        if not (self.folder / PANEL_FILE).exists():
            self._keep({"before": self._panel().to_json()})

    def look_back(self, mark: Mark) -> None:
        """After the last step; the live weights become the best ones on the way."""
        rows = self.journal.rows()
        dtype = "bfloat16" if self.live.device.type == "cuda" else str(self.live.model.dtype)
        quantized = getattr(self.live.model, "is_loaded_in_4bit", False)
        found = [
            *parity(rows, dtype, quantized=quantized),
            *health(rows),
            *reward_up_score_down(rows, self.n_dev),
        ]
        kept = json.loads((self.folder / PANEL_FILE).read_text("utf-8"))
        if mark.best_step and self.journal.best.exists():
            load_weights(self.live, self.journal.best)
            after = self._panel()
            found += forgetting(Panel.from_json(kept["before"]), after)
            self._keep({**kept, "after": after.to_json()})
        write_findings(self.folder, found)

    def on_save(self, args: Any, state: Any, control: Any, **shared: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        found = checkpoint_matches(
            folder,
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
        again = logged_step(self.journal.metrics, self.known["step"])
        if again is not None:
            exact = self.live.device.type == "cpu"
            write_findings(self.folder, [same_step(self.known, again, exact=exact)])
            self.known = None

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
