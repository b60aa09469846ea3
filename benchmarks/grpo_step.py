"""One GRPO step: ours against stock `trl.GRPOTrainer`, which computes every row from its start.

A step is what TRL calls one: generate, reward, loss, backward, optimizer. Both sides train the
same adapter shape on the same prompts with the same arguments, stock TRL in smaller forwards so
that memory suffices. Rewards are the task's (many groups are dead, as in life) or a hash of the
answer, under which every group teaches.
"""

from __future__ import annotations

import copy
import hashlib
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback
from trl.trainer.grpo_trainer import GRPOTrainer

from benchmarks.measure import (
    OURS,
    Timed,
    conclude,
    options,
    peak_mb,
    print_setting,
    reset_peak,
    say,
)
from benchmarks.workload import TASK, examples, few_shot, open_model
from evaluation.types import Context
from lm.hf import HFModel
from lm.ledger import Ledger
from lm.types import Sampling
from reward_models.load import load_reward
from reward_models.task import TaskReward
from reward_models.types import RewardModel
from rl.config import GRPOConfig
from rl.grpo import trainer_arguments
from rl.objective_file import load_objective
from rl.rollouts import Rollouts
from rl.trl_seam import SeamTrainer
from rl.weights import with_adapter
from tasks.types import Example, Prompt, Score

CASES = {"few_shot": 91, "prefix_600": 600, "zero_shot": 0}  # shared tokens at least
MAX_TOKENS = 16
PARITY_PROMPTS = 2  # groups whose gradients are compared
PEER_TOKENS = 2_048  # about as many in one forward of stock TRL; more fill memory, no faster


def main(argv: Sequence[str] | None = None) -> None:
    chosen = options(__doc__ or "", list(CASES), argv)
    print_setting(chosen)
    for case in CASES:
        if case in chosen.only:
            _Case(chosen, case).run()


class StockLoss(SeamTrainer):
    """TRL's own forward and loss on our rollouts, for the comparison of gradients."""

    _compute_loss = GRPOTrainer._compute_loss
    _get_per_token_logps_and_entropies = GRPOTrainer._get_per_token_logps_and_entropies


class _Stopwatch(TrainerCallback):
    """Seconds and peak memory of every optimizer step, generation included."""

    def __init__(self, device: str):
        self.device = device
        self.seconds: list[float] = []
        self.peak = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        reset_peak(self.device)
        self.start = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self.start)
        self.peak = max(self.peak, peak_mb(self.device))
        say(f"  a step took {self.seconds[-1]:.2f} s")


class _Case:
    """Stock TRL once, ours twice: with the task's reward, and with one under which no group is
    dead. Stock TRL computes every row either way."""

    def __init__(self, chosen: Any, case: str):
        self.chosen, self.case = chosen, case
        plain = open_model(chosen)
        self.prompt = few_shot(plain, CASES[case]) if CASES[case] else Prompt.of(TASK)
        self.shared = len(plain.encode(self.prompt.messages({"verb": ""})))
        self.config = GRPOConfig(steps=1 + max(chosen.repeats, chosen.peer_repeats))
        count = self.config.steps * self.config.prompts_per_step
        self.asked = examples(count, skip=len(self.prompt.demos))
        self.by_id = {example.id: example for example in self.asked}
        self.contains = load_reward(
            "contains", score=TASK.score, prompt=self.prompt, examples=self.by_id
        )
        self.groups: list[bool] = []  # of our steps: whether it teaches

    def run(self) -> None:
        say(f"{self.case}: stock TRL")
        peer = self._timed(self.stock(1 + self.chosen.peer_repeats))
        for name, reward in (
            (f"grpo_{self.case}", self.contains),
            (f"grpo_{self.case}_all_live", TaskReward(_hashed, self.prompt, self.by_id)),
        ):
            say(f"{name}: ours")
            self.groups = []
            trainer = self.ours(1 + self.chosen.repeats, reward)
            conclude(name, {"stock TRL": peer, OURS: self._timed(trainer)})
            print(
                f"  8 prompts x 8 rollouts, about {self.shared} shared tokens, answers of at most "
                f"{MAX_TOKENS} tokens; {sum(self.groups)} of our {len(self.groups)} groups teach"
            )
        print(f"  on the same rollouts, {_parity(trainer, self.asked, self.prompt)}", flush=True)

    def _timed(self, trainer: GRPOTrainer) -> Timed:
        watch = _Stopwatch(self.chosen.device)
        trainer.add_callback(watch)
        trainer.train()
        trainer.remove_callback(watch)
        return Timed(watch.seconds[1:], watch.peak)  # the first step warms up

    def stock(self, steps: int) -> GRPOTrainer:
        live = self._live_model()

        def rewarded(prompts: Any, completions: Any, **columns: Any) -> Any:
            texts = [[{"role": "assistant", "content": c[0]["content"]}] for c in completions]
            return self.contains(prompts, texts, **columns)

        room = PEER_TOKENS // (self.shared + MAX_TOKENS)
        rows = min(self.config.rows_per_forward, 1 << (room.bit_length() - 1))
        trainer = GRPOTrainer(
            model=live.model,
            reward_funcs=rewarded,
            args=self._arguments(live, steps, rows),
            train_dataset=self._dataset(steps),
            processing_class=copy.deepcopy(live.tokenizer),
        )
        trainer.remove_callback(PrinterCallback)
        return trainer

    def ours(self, steps: int, reward: RewardModel) -> SeamTrainer:
        live = self._live_model()

        def noted(prompts: Any, completions: Any, **columns: Any) -> list[float | None]:
            rewards, n = reward(prompts, completions, **columns), self.config.group_size
            self.groups += [len(set(rewards[i : i + n])) > 1 for i in range(0, len(rewards), n)]
            return rewards

        sampling = Sampling(MAX_TOKENS, self.config.temperature, n=self.config.group_size)
        task = TaskReward(TASK.score, self.prompt, self.by_id)
        return SeamTrainer(
            Rollouts(live, sampling, 0, noted, task),
            load_objective(self.config.objective),
            self.config.clip(),
            model=live.model,
            args=self._arguments(live, steps, self.config.rows_per_forward),
            train_dataset=self._dataset(steps),
            processing_class=live.tokenizer,
        )

    def _live_model(self) -> HFModel:
        opened = open_model(self.chosen)
        adapted = with_adapter(opened.model, self.config.lora, 0)
        return HFModel(adapted, opened.tokenizer, name="live")

    def _arguments(self, live: HFModel, steps: int, rows_per_forward: int) -> Any:
        context = Context(
            TASK.score, lambda _: live, Ledger(), Path(tempfile.mkdtemp(prefix="tasklift-bench-")),
            Sampling(MAX_TOKENS), 0, lambda *_, **__: None,
        )  # fmt: skip
        changes = {"rows_per_forward": rows_per_forward}
        arguments = trainer_arguments(self.config.model_copy(update=changes), context, live)
        arguments.max_steps, arguments.save_strategy = steps, "no"
        return arguments

    def _dataset(self, steps: int) -> Dataset:
        asked = self.asked[: steps * self.config.prompts_per_step]
        return Dataset.from_list(
            [{"prompt": self.prompt.messages(e.inputs), "example_id": e.id} for e in asked]
        )


def _hashed(example: Example, text: str) -> Score:
    digest = hashlib.sha256(text.encode()).digest()
    return Score(int.from_bytes(digest[:4], "big") / 2**32, False)


def _parity(trainer: SeamTrainer, asked: Sequence[Example], prompt: Prompt) -> str:
    """Loss and gradient of some of our rollouts, by our forward and by stock TRL's.

    The loss is a sum over rows divided by the tokens of all, so stock TRL may take them in parts.
    """
    rows = [
        {"prompt": prompt.messages(example.inputs), "example_id": example.id}
        for example in asked[:PARITY_PROMPTS]
        for _ in range(GRPOConfig().group_size)
    ]
    model: Any = trainer.model
    model.train()
    assert trainer.loss_type == GRPOConfig().objective
    trainer.current_gradient_accumulation_steps = 1
    inputs = trainer._generate_and_score_completions(rows)
    found = []
    for kind, size in ((SeamTrainer, len(rows)), (StockLoss, len(rows) // 4)):
        trainer.__class__ = kind
        model.zero_grad()
        total = 0.0
        for start in range(0, len(rows), size):
            loss = trainer._compute_loss(model, _some_rows(inputs, start, start + size))
            loss.backward()
            total += loss.item()
        grads = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        found.append((total, torch.cat(grads).double()))
    (loss, ours), (stock_loss, theirs) = found
    cosine = torch.cosine_similarity(ours, theirs, dim=0).item()
    error = ((ours - theirs).norm() / theirs.norm()).item()
    return (
        f"ours against stock: loss {loss:.6f} and {stock_loss:.6f}, gradient cosine "
        f"{cosine:.8f}, relative norm error {error:.1e}"
    )


def _some_rows(inputs: dict[str, Any], start: int, stop: int) -> dict[str, Any]:
    """Those rows of whatever has rows; what counts for all of them stays."""
    return {
        name: value[start:stop] if isinstance(value, torch.Tensor) and value.dim() else value
        for name, value in inputs.items()
    }


if __name__ == "__main__":
    main()
