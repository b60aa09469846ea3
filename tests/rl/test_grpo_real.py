"""GRPO on the real 135M model, and a real kill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation.types import Context, Policy
from lm.hf import load_model
from lm.ledger import Ledger
from lm.types import Sampling
from rl.config import GRPOConfig
from rl.grpo import GRPO
from tasks.load import load_task
from tasks.types import Demo, Prompt

ROOT = Path(__file__).parents[2]
STAGE = """
import os, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from evaluation.types import Context, Policy
from lm.hf import load_model
from lm.ledger import Ledger
from lm.types import Sampling
from rl.config import GRPOConfig, LoraConfig
from rl.grpo import GRPO
from rl.journal import Journal
from tasks.types import Example, Prompt, Score

folder, kill_at = Path(sys.argv[1]), int(sys.argv[2])
seal = Journal.seal
Journal.seal = (
    lambda self, mark, *a: os._exit(9) if mark.step == kill_at else seal(self, mark, *a)
)
examples = [Example(f"e{i}", {"input": "w" * i}, "m") for i in range(8)]
score = lambda e, t: Score(min(1.0, sum(c.isalpha() for c in t) / 6), False)
ledger = Ledger()
config = GRPOConfig(
    steps=6, prompts_per_step=2, group_size=4, learning_rate=1e-2, lora=LoraConfig(r=4),
    eval_every=1, checkpoint_every=2,
)
GRPO(config).improve(
    Policy("tiny-random", Prompt("Answer in letters.")), examples, examples[:4],
    Context(score, lambda p: load_model(p.model, ledger=ledger), ledger, folder,
            Sampling(max_tokens=6), 3, lambda *_, **__: None),
)
"""


def run_stage(folder: Path, kill_at: int, cache: Path) -> int:
    done = subprocess.run(
        [sys.executable, "-c", STAGE, str(folder), str(kill_at)],
        cwd=ROOT,
        env={**os.environ, "TASKLIFT_CACHE": str(cache)},
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, 9), done.stderr[-2000:]
    return done.returncode


@pytest.mark.slow
def test_processes_that_die_while_saving_leave_no_trace(tmp_path):
    assert run_stage(tmp_path / "whole", 0, tmp_path) == 0
    assert run_stage(tmp_path / "killed", 2, tmp_path) == 9
    assert run_stage(tmp_path / "killed", 6, tmp_path) == 9
    assert run_stage(tmp_path / "killed", 0, tmp_path) == 0
    files = {p.relative_to(tmp_path / "whole") for p in (tmp_path / "whole").rglob("*")}
    assert files == {p.relative_to(tmp_path / "killed") for p in (tmp_path / "killed").rglob("*")}
    for name in ("best/adapter_model.safetensors", "best/adapter_config.json", "rollouts.parquet"):
        whole, killed = ((tmp_path / run / name).read_bytes() for run in ("whole", "killed"))
        assert whole == killed, name


@pytest.mark.slow
def test_three_steps_on_the_real_model(tmp_path):
    task = load_task("inflection")
    train = list(task.split("train"))
    demos = [Demo(example.inputs, example.answer) for example in train[:4]]
    policy = Policy("smollm2-135m", Prompt.of(task).with_demos(demos))
    ledger = Ledger()
    context = Context(
        score=task.score,
        open=lambda p: load_model(p.model, adapter=p.adapter, ledger=ledger),
        ledger=ledger,
        folder=tmp_path,
        sampling=Sampling(max_tokens=16),
        seed=0,
        progress=lambda step, total, **figures: print(step, total, figures),
    )
    config = GRPOConfig(steps=3, eval_every=3, checkpoint_every=3)
    GRPO(config).improve(policy, train[4:], list(task.split("dev"))[:16], context)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    steps = [row for row in map(json.loads, lines) if row["phase"] == "train"]
    print([row["seconds"] for row in steps], "seconds a step")
    assert [row["step"] for row in steps] == [1, 2, 3]
    assert max(row["logprob_gap"] for row in steps) <= 1e-4
    assert 0 < steps[0]["score"] < 1 and steps[0]["grad_norm"] > 0
