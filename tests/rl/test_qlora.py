"""Training an adapter on weights in 4 bits: they are, it learns, and it reads back the same."""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn.modules import Linear4bit, Params4bit
from peft import PeftModel
from safetensors.torch import load_file

import rl.weight_method
from evaluation.types import Context, Policy
from lm.hf import HFModel, load_model
from lm.ledger import Ledger
from lm.merging import logits
from lm.tiny import write_tiny_model
from lm.types import Sampling
from rl.config import GRPOConfig
from rl.config_supervised import SFTConfig
from rl.grpo import GRPO
from rl.sft import SFT
from rl.weight_method import WeightMethod
from tasks.load import load_task
from tasks.types import Demo, Prompt

ROOT = Path(__file__).parents[2]

# What a process knows that has only the policy: it loads it as the evaluator does.
ANOTHER = """
import json, sys, torch
from pathlib import Path
from lm.hf import load_model
from lm.merging import logits
source, adapter, ids, out = json.loads(sys.argv[1])
model = load_model(source, adapter=Path(adapter), quantization="nf4")
torch.save(logits(model, ids), out)
"""


@dataclass
class Trained:
    """A stage of 5 steps and what its live weights answered each time they were saved."""

    policy: Policy
    rows: list[dict[str, Any]]
    ids: list[int]
    live: list[torch.Tensor] = field(default_factory=list)


def train(model: str, method: WeightMethod, folder: Path) -> Trained:
    """Five steps of grpo, each taken for better than the one before, so that each is saved."""
    task = load_task("inflection")
    train, dev = list(task.split("train")), list(task.split("dev"))[:2]
    prompt = Prompt.of(task).with_demos([Demo(e.inputs, e.answer) for e in train[:4]])
    ledger = Ledger()

    def open_counted(policy: Policy) -> HFModel:
        return load_model(policy.source, ledger=ledger, quantization=policy.quantization)

    context = Context(
        score=task.score,
        open=open_counted,
        ledger=ledger,
        folder=folder,
        sampling=Sampling(max_tokens=6),
        seed=0,
        progress=lambda *_, **__: None,
    )
    ids = load_model(model).encode(prompt.messages(train[5].inputs))
    seen: list[torch.Tensor] = []
    save, scores = rl.weight_method.save_weights, (n / 100 for n in itertools.count())

    def save_and_answer(live: HFModel, place: Path) -> None:
        save(live, place)
        check_held_in_4_bits(live.model)
        live.model.eval()
        seen.append(logits(live, ids))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rl.weight_method, "save_weights", save_and_answer)
        patch.setattr(rl.weight_method, "dev_score", lambda stage: float(next(scores)))
        policy = method.improve(Policy(model, prompt), train[8:40], dev, context)
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return Trained(policy, [row for row in lines if row["phase"] == "train"], ids, seen)


def check_held_in_4_bits(model: PeftModel) -> None:
    """Every linear layer but the head is nf4, frozen, half a byte a weight, and as it was loaded.

    The head stays as it is because it is tied to the embeddings.
    """
    causal: Any = model.get_base_model()
    layers = {name: m for name, m in causal.named_modules() if isinstance(m, Linear4bit)}
    assert len(layers) == 7 * causal.config.num_hidden_layers
    for layer in layers.values():
        weight = layer.weight
        assert isinstance(weight, Params4bit) and not weight.requires_grad
        assert weight.quant_type == "nf4" and weight.dtype == torch.uint8
        assert weight.numel() == layer.in_features * layer.out_features // 2
        assert not getattr(weight.quant_state, "packing_format_for_cpu", False)
    plain = [m for m in causal.modules() if type(m) is torch.nn.Linear]
    trained = {id(p) for n, p in model.named_parameters() if "lora_" in n and p.requires_grad}
    assert all(id(m.weight) in trained or m is causal.lm_head for m in plain)
    moving = [p for p in model.parameters() if p.requires_grad]
    assert len(moving) == 2 * len(layers) and {id(p) for p in moving} == trained
    assert all(p.dtype == torch.float32 for p in moving)


def check_trained(trained: Trained) -> None:
    rows = trained.rows
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    assert all(math.isfinite(row["loss"]) and math.isfinite(row["grad_norm"]) for row in rows)
    assert sum(row["grad_norm"] > 0 for row in rows) >= 3  # a step of dead groups has none
    assert trained.policy.adapter is not None and trained.policy.quantization == "nf4"
    saved = load_file(trained.policy.adapter / "adapter_model.safetensors")
    moved = [bool(weight.any()) for name, weight in saved.items() if "lora_B" in name]
    assert moved and all(moved)  # zero in a new adapter
    assert len(trained.live) == 5
    assert (trained.live[-1] - trained.live[0]).abs().max() > 1e-3  # and so did what it says


def check_reads_back(trained: Trained, folder: Path) -> None:
    """To the bit, here and in a process of its own, which has the policy alone."""
    policy = trained.policy
    here = load_model(policy.source, adapter=policy.adapter, quantization=policy.quantization)
    assert (logits(here, trained.ids) - trained.live[-1]).abs().max() == 0
    there = folder / "there.pt"
    told = json.dumps([policy.source, str(policy.adapter), trained.ids, str(there)])
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-c", ANOTHER, told]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (torch.load(there, weights_only=True) - trained.live[-1]).abs().max() == 0


def grpo(rate: float, reward: str) -> GRPO:
    common = {"prompts_per_step": 2, "group_size": 4, "checkpoint_every": 5, "eval_every": 1}
    config = GRPOConfig(weights="qlora", steps=5, learning_rate=rate, reward=reward, **common)
    return GRPO(config)


def sft(rate: float) -> SFT:
    common = {"rows_per_step": 4, "checkpoint_every": 5, "eval_every": 1}
    return SFT(SFTConfig(weights="qlora", steps=5, learning_rate=rate, **common))


def check_gaps(trained: Trained) -> None:
    """Sampler and trainer see the same numbers, nf4's, and multiply in float32: what is between
    them is the order of sums, as it is without 4 bits (tests/rl/test_grpo_real.py has the same
    bound). In bf16, which bitsandbytes and TRL would choose, it would be about 1e-3 and more."""
    gaps = [row["logprob_gap"] for row in trained.rows if row["logprob_gap"] is not None]
    assert len(gaps) >= 3 and 0 < max(gaps) < 1e-4


def test_five_steps_on_the_tiny_model(tmp_path: Path) -> None:
    trained = train(str(write_tiny_model(tmp_path / "tiny")), grpo(1e-2, "closeness"), tmp_path)
    check_trained(trained)
    check_gaps(trained)
    check_reads_back(trained, tmp_path)


def test_five_steps_of_sft_on_the_tiny_model(tmp_path: Path) -> None:
    trained = train(str(write_tiny_model(tmp_path / "tiny")), sft(1e-2), tmp_path)
    check_trained(trained)
    check_reads_back(trained, tmp_path)


@pytest.mark.slow
def test_five_steps_on_the_real_model(tmp_path: Path) -> None:
    trained = train("smollm2-135m", grpo(1e-3, "closeness"), tmp_path)
    check_trained(trained)
    check_gaps(trained)
    check_reads_back(trained, tmp_path)


@pytest.mark.slow
def test_five_steps_of_sft_on_the_real_model(tmp_path: Path) -> None:
    trained = train("smollm2-135m", sft(1e-3), tmp_path)
    check_trained(trained)
    check_reads_back(trained, tmp_path)
    losses = [row["loss"] for row in trained.rows]
    assert losses[-1] < losses[0]
