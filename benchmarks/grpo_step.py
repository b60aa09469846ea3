"""One GRPO step: ours against stock `trl.GRPOTrainer`, which computes every row from its start.

A step is what TRL calls one: generate, reward, loss, backward, optimizer. Both sides train the
same adapter shape on the same prompts with the same arguments; rewards are either the task's
own (many groups are dead, as in life) or a hash of the answer, under which all groups teach.
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

from benchmarks.measure import Timed, options, peak_mb, print_setting, reset_peak, say
from benchmarks.workload import TASK, examples, few_shot, open_model
from evaluation.types import Context
from lm.hf import HFModel
from lm.ledger import Ledger
from lm.types import Sampling
from reward_models.load import load_reward
from reward_models.task import TaskReward
from rl.adapter import with_adapter
from rl.config import GRPOConfig
from rl.grpo import trainer_arguments
from rl.rollouts import Rollouts
from rl.trl_seam import SeamTrainer
from tasks.types import Example, Prompt, Score

PREFIXES = {"few_shot": 91, "prefix_600": 600, "zero_shot": 0}  # shared tokens at least
CASES = [case + end for case in PREFIXES for end in ("", "_all_live")]
MAX_TOKENS = 16


def main(argv: Sequence[str] | None = None) -> None:
    chosen = options(__doc__ or "", CASES, argv)
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
    def __init__(self, chosen: Any, case: str):
        self.chosen, self.case = chosen, case
        self.all_live = case.endswith("_all_live")
        plain = open_model(chosen)
        self.prompt = _prompt(plain, PREFIXES[case.removesuffix("_all_live")])
        self.config = GRPOConfig(steps=1 + max(chosen.repeats, chosen.peer_repeats))
        count = self.config.steps * self.config.prompts_per_step
        self.asked = examples(count, skip=len(self.prompt.demos))
        self.live_groups: dict[str, list[bool]] = {"stock TRL": [], "ours": []}

    def run(self) -> None:
        results = {}
        for name, repeats in (
            ("stock TRL", self.chosen.peer_repeats),
            ("ours", self.chosen.repeats),
        ):
            say(f"{self.case}: {name}")
            trainer = (self.ours if name == "ours" else self.stock)(1 + repeats)
            watch = _Stopwatch(self.chosen.device)
            trainer.add_callback(watch)
            trainer.train()
            results[name] = Timed(watch.seconds[1:], watch.peak)  # the first step warms up
            if name == "ours":
                parity = _parity(trainer, self.asked, self.prompt, self.config)
        shared = len(open_model(self.chosen).encode(self.prompt.messages({"verb": ""})))
        print(f"\ngrpo_{self.case}: 8 prompts x 8 rollouts, about {shared} shared tokens, "
              f"answers of at most {MAX_TOKENS} tokens")  # fmt: skip
        for name, result in results.items():
            live = self.live_groups[name]
            print(f"  {name:<10}{result}  live groups {sum(live)}/{len(live)}")
        print(f"  on the same rollouts, {parity}")
        value = results["stock TRL"].median / results["ours"].median
        print(f"ratio grpo_{self.case} {value:.2f}", flush=True)

    def stock(self, steps: int) -> GRPOTrainer:
        live = self._live_model()
        by_id = {example.id: example for example in self.asked}
        reward = self._reward(by_id)

        def rewarded(prompts: Any, completions: Any, **columns: Any) -> Any:
            texts = [[{"role": "assistant", "content": c[0]["content"]}] for c in completions]
            return self._noted("stock TRL", reward(prompts, texts, **columns))

        trainer = GRPOTrainer(
            model=live.model,
            reward_funcs=rewarded,
            args=self._arguments(live, steps),
            train_dataset=self._dataset(steps),
            processing_class=copy.deepcopy(live.tokenizer),
        )
        trainer.remove_callback(PrinterCallback)
        return trainer

    def ours(self, steps: int) -> SeamTrainer:
        live = self._live_model()
        by_id = {example.id: example for example in self.asked}
        reward = self._reward(by_id)

        def noted(prompts: Any, completions: Any, **columns: Any) -> Any:
            return self._noted("ours", reward(prompts, completions, **columns))

        sampling = Sampling(MAX_TOKENS, self.config.temperature, n=self.config.group_size)
        task = TaskReward(TASK.score, self.prompt, by_id)
        return SeamTrainer(
            Rollouts(live, sampling, 0, noted, task),
            model=live.model,
            args=self._arguments(live, steps),
            train_dataset=self._dataset(steps),
            processing_class=live.tokenizer,
        )

    def _live_model(self) -> HFModel:
        opened = open_model(self.chosen)
        adapted = with_adapter(opened.model, self.config.lora, 0)
        return HFModel(adapted, opened.tokenizer, name="live")

    def _arguments(self, live: HFModel, steps: int) -> Any:
        context = Context(
            TASK.score, lambda _: live, Ledger(), Path(tempfile.mkdtemp(prefix="tasklift-bench-")),
            Sampling(MAX_TOKENS), 0, lambda *_, **__: None,
        )  # fmt: skip
        arguments = trainer_arguments(self.config, context, live)
        arguments.max_steps, arguments.save_strategy = steps, "no"
        return arguments

    def _dataset(self, steps: int) -> Dataset:
        asked = self.asked[: steps * self.config.prompts_per_step]
        return Dataset.from_list(
            [{"prompt": self.prompt.messages(e.inputs), "example_id": e.id} for e in asked]
        )

    def _reward(self, by_id: dict[str, Example]) -> Any:
        if self.all_live:
            return TaskReward(_hashed, self.prompt, by_id)
        return load_reward("contains", score=TASK.score, prompt=self.prompt, examples=by_id)

    def _noted(self, side: str, rewards: list[Any]) -> list[Any]:
        n = self.config.group_size
        groups = [set(rewards[i : i + n]) for i in range(0, len(rewards), n)]
        self.live_groups[side] += [len(group) > 1 for group in groups]
        return rewards


def _hashed(example: Example, text: str) -> Score:
    digest = hashlib.sha256(text.encode()).digest()
    return Score(int.from_bytes(digest[:4], "big") / 2**32, False)


def _prompt(model: HFModel, shared: int) -> Prompt:
    return few_shot(model, shared) if shared else Prompt.of(TASK)


def _parity(
    trainer: SeamTrainer, asked: Sequence[Example], prompt: Prompt, config: GRPOConfig
) -> str:
    """Loss and gradient of one batch of our rollouts, by our forward and by stock TRL's."""
    rows = [
        {"prompt": prompt.messages(example.inputs), "example_id": example.id}
        for example in asked[: config.prompts_per_step]
        for _ in range(config.group_size)
    ]
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    inputs = trainer._generate_and_score_completions(rows)
    if not inputs["advantages"].any():  # no group of this batch teaches: make them
        inputs["advantages"] = torch.linspace(-1, 1, len(rows), device=trainer.model.device)
    found = []
    for kind in (SeamTrainer, StockLoss):
        trainer.__class__ = kind
        trainer.model.zero_grad()
        loss = trainer._compute_loss(trainer.model, inputs)
        loss.backward()
        grads = [p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None]
        found.append((loss.item(), torch.cat(grads).double()))
    (loss, ours), (stock_loss, theirs) = found
    cosine = torch.cosine_similarity(ours, theirs, dim=0).item()
    error = ((ours - theirs).norm() / theirs.norm()).item()
    return (
        f"ours against stock: loss {loss:.6f} and {stock_loss:.6f}, gradient cosine "
        f"{cosine:.8f}, relative norm error {error:.1e}"
    )


if __name__ == "__main__":
    main()
