"""One PPO step against one GRPO step at equal rollouts, both ours.

A step is what the methods call one: sample, reward, look back, all updates. PPO trains with its
defaults (two passes over every row, a critic), GRPO with its own (one pass over the rows of groups
that teach). Under the task's reward some groups are dead, as in life, and cost GRPO no forward;
under a hash of the answer every group teaches.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from benchmarks.measure import OURS, Timed, conclude, options, peak_mb, print_setting, reset_peak
from benchmarks.workload import TASK, examples, few_shot, open_model
from evaluation.types import Context, Policy
from lm.ledger import Ledger
from lm.types import Sampling
from rl.config import GRPOConfig, PPOConfig
from rl.grpo import GRPO
from rl.journal import Journal
from rl.ppo import PPO
from rl.weight_method import Stage, WeightMethod, open_trainable
from tasks.types import Example, Score

CASES = {"task": TASK.score, "all_live": None}
MAX_TOKENS = 16


def main(argv: Sequence[str] | None = None) -> None:
    chosen = options(__doc__ or "", list(CASES), argv)
    print_setting(chosen)
    for case in chosen.only:
        score = CASES[case] or _hashed
        steps = 1 + chosen.repeats
        grpo = _timed(chosen, GRPO(GRPOConfig(steps=steps)), score)
        ppo = _timed(chosen, PPO(PPOConfig(steps=steps)), score)
        conclude(f"grpo_over_ppo_{case}", {"grpo": grpo, OURS: ppo})
        print(f"ratio ppo_over_grpo_{case} {ppo.median / grpo.median:.2f}", flush=True)


class _Stopwatch(TrainerCallback):
    """Seconds of every step of ours, from before its sampling to behind its last update."""

    def __init__(self, device: str, updates: int):
        self.device, self.updates = device, updates
        self.seconds: list[float] = []

    def on_step_begin(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
        if state.global_step % self.updates == 0:
            self.start = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
        if state.global_step % self.updates == 0:
            if self.device.startswith("cuda"):
                torch.cuda.synchronize()
            self.seconds.append(time.perf_counter() - self.start)


def _timed(chosen: Any, method: WeightMethod, score: Any) -> Timed:
    plain = open_model(chosen)
    prompt = few_shot(plain, 91)
    folder = Path(tempfile.mkdtemp(prefix="tasklift-bench-"))
    context = Context(
        score, lambda _: plain, Ledger(), folder, Sampling(MAX_TOKENS), 0, lambda *_, **__: None
    )
    policy = Policy("model", prompt)
    count = method.config.steps * method.config.prompts_per_step
    live = open_trainable(policy, method.config, context, method.name)
    asked = {e.id: e for e in examples(count, skip=len(prompt.demos))}
    train = list(asked.values())
    stage = Stage(policy, train, train[:1], context, Journal(folder), live)
    course = method.course(stage)
    course.trainer.args.save_strategy = "no"
    watch = _Stopwatch(chosen.device, course.updates)
    course.trainer.add_callback(watch)
    reset_peak(chosen.device)
    course.trainer.train()
    return Timed(watch.seconds[1:], peak_mb(chosen.device))  # the first step warms up


def _hashed(example: Example, text: str) -> Score:
    """No two different answers are worth the same: every group teaches."""
    digest = hashlib.sha256(f"{example.id}{text}".encode()).digest()
    return Score(digest[0] / 255, False)


if __name__ == "__main__":
    main()
