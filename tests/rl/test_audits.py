"""Each audit finds the fault planted for it and leaves a clean stage alone."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import Trainer, TrainerCallback, TrainingArguments

from lm.hf import HFModel, load_model
from lm.tiny import write_tiny_model
from lm.types import Sampling
from rl.audits import health, parity, tolerance
from rl.checkpoint_audit import checkpoint_matches, logged_step, same_step
from rl.findings import Finding


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


def gaps(*values: float | None) -> list[dict[str, Any]]:
    return [
        {"step": i, "phase": "train", "logprob_gap": gap} for i, gap in enumerate(values, start=1)
    ] + [{"step": 0, "phase": "dev", "dev_score": 0.5}]


def gap_of(sampler: HFModel, trainer: HFModel) -> float:
    chats = [[{"role": "user", "content": f"say {i}"}] for i in range(4)]
    answers = [row[0] for row in sampler.generate(chats, Sampling(temperature=1.0), "rollout")]
    found = trainer.logprobs(chats, [answer.token_ids for answer in answers])
    return max(
        abs(a - b)
        for row, answer in zip(found, answers, strict=True)
        for a, b in zip(row, answer.logprobs, strict=True)
    )


def test_stale_rollout_weights_are_found_and_the_step_is_named(folder: Path) -> None:
    stale, live = load_model(str(folder)), load_model(str(folder))
    clean = gap_of(stale, live)
    with torch.no_grad():
        for weight in live.model.parameters():
            weight += 1e-3 * torch.ones_like(weight)  # one small optimizer step
    [found] = parity(gaps(clean, None, gap_of(stale, live), clean), "float32")
    assert (found.level, found.step) == ("tripped", 3)
    assert "at step 3" in found.detail and "1 of 3 steps" in found.detail
    [found] = parity(gaps(clean, clean), "torch.float32")
    assert (found.level, found.step) == ("ok", None)


def test_how_far_apart_depends_on_how_weights_are_held() -> None:
    assert tolerance("float32") == 5e-4
    assert tolerance("torch.bfloat16") == tolerance("float32", quantized=True) == 1.0
    assert parity(gaps(0.3), "bfloat16")[0].level == "ok"
    assert parity(gaps(2.0), "bfloat16")[0].level == "tripped"
    assert parity(gaps(math.nan), "float32")[0].level == "tripped"
    assert parity(gaps(None), "float32") == []


def stage(**columns: Any) -> list[dict[str, Any]]:
    """20 train rows; a column is a function of the step, or a value."""
    clean: dict[str, Any] = {
        "dead_groups": 0.3,
        "clipped": 0.05,
        "entropy": lambda i: 1.5 - 0.05 * i,
        "kl": lambda i: 0.01 * i,
        "completion_tokens": lambda i: 12 + 0.5 * i,
        "score": lambda i: 0.3 + 0.02 * i,
    }
    return [
        {"step": i, "phase": "train"}
        | {k: v(i) if callable(v) else v for k, v in (clean | columns).items()}
        for i in range(1, 21)
    ]


def odd(rows: list[dict[str, Any]]) -> dict[str, Finding]:
    return {f.name: f for f in health(rows) if f.level != "ok"}


def test_a_healthy_stage_is_told_so() -> None:
    found = health(stage())
    assert [f.name for f in found] == ["dead groups", "clipped answers", "entropy", "kl", "length"]
    assert {f.level for f in found} == {"ok"}


@pytest.mark.parametrize(
    ("name", "column", "values", "step"),
    [
        ("dead groups", "dead_groups", lambda i: float(i > 5), 10),
        ("clipped answers", "clipped", 0.9, 5),
        ("entropy", "entropy", lambda i: 2.0 if i < 8 else 0.001, 12),
        ("kl", "kl", lambda i: 5.0 * (i > 10), 12),
        ("length", "completion_tokens", lambda i: 10.0 * i, 9),
    ],
)
def test_a_sick_one_is_noted_with_the_first_step(name, column, values, step) -> None:
    found = odd(stage(**{column: values}))
    assert list(found) == [name]
    assert (found[name].level, found[name].step) == ("note", step)


def test_a_policy_that_is_right_may_be_sure() -> None:
    sure = {"entropy": lambda i: 2.0 if i < 8 else 0.001}
    assert odd(stage(**sure, score=lambda i: 0.2 if i < 8 else 0.99)) == {}


def test_columns_a_method_lacks_and_short_stages_are_passed_over() -> None:
    rows = [{"step": i, "phase": "train", "loss": 1.0, "entropy": None} for i in range(20)]
    assert health(rows) == [] and parity(rows, "float32") == []
    assert health(stage()[:4]) == []


class Saving(TrainerCallback):
    """Keeps what `checkpoint_matches` says at each checkpoint of a real trainer."""

    def __init__(self, critic: torch.nn.Module | None = None):
        self.critic, self.found, self.live = critic, [], {}

    def on_save(self, args, state, control, **shared) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if self.critic is not None:
            save_file(self.critic.state_dict(), folder / "critic.safetensors")
        self.live = {
            "model": shared["model"],
            "optimizer": shared["optimizer"],
            "scheduler": shared["lr_scheduler"],
            "critic": self.critic,
        }
        self.found.append(checkpoint_matches(folder, state.global_step, **self.live))


def trained(folder: Path, out: Path, *, lora: bool, critic: bool = False) -> tuple[Path, Saving]:
    model: Any = load_model(str(folder)).model
    if lora:
        model = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear"))
    else:
        model.requires_grad_(True)
    head = None
    if critic:
        head = model.critic = torch.nn.Linear(32, 1)
    watch = Saving(head)
    ids = torch.arange(8).tolist()
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(out),
            max_steps=2,
            save_steps=1,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            warmup_steps=1,
        ),
        train_dataset=Dataset.from_list([{"input_ids": ids, "labels": ids}] * 8),
        callbacks=[watch],
    )
    trainer.train()
    return out / "checkpoint-2", watch


@pytest.mark.parametrize("lora", [True, False])
def test_checkpoints_of_a_trainer_match(folder: Path, tmp_path: Path, lora: bool) -> None:
    _, watch = trained(folder, tmp_path, lora=lora)
    assert [(f.level, f.step) for f in watch.found] == [("ok", 1), ("ok", 2)], watch.found


def planted(name: str, checkpoint: Path, live: dict[str, Any]) -> None:
    weights = checkpoint / "adapter_model.safetensors"
    state = live["optimizer"].state
    if name == "stale weights":
        held = load_file(weights)
        held[min(held)].view(-1)[0] += 1e-7
        save_file(held, weights)
    elif name == "lost weight":
        held = load_file(weights)
        held.pop(min(held))
        save_file(held, weights)
    elif name == "no weights":
        weights.unlink()
    elif name == "no critic":
        (checkpoint / "critic.safetensors").unlink()
    elif name == "other critic":
        live["critic"].weight.data.add_(1)
    elif name == "optimizer":
        next(iter(state.values()))["exp_avg_sq"].view(-1)[0] += 1e-3
    elif name == "optimizer forgot":
        live["optimizer"].state.clear()
    elif name == "schedule":
        live["scheduler"].last_epoch += 1
    elif name == "draws":
        torch.rand(1)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("stale weights", r"adapter_model\.safetensors: .*lora_A\.weight differs"),
        ("lost weight", r"adapter_model\.safetensors: .* is only in memory"),
        ("no weights", r"adapter_model\.safetensors is missing"),
        ("no critic", r"critic\.safetensors is missing"),
        ("other critic", r"critic\.safetensors: weight differs"),
        ("optimizer", r"optimizer\.pt: state\.0\.exp_avg_sq differs"),
        ("optimizer forgot", r"optimizer\.pt: "),
        ("schedule", r"scheduler\.pt: last_epoch is 2, live 3"),
        ("draws", r"rng_state\.pth: cpu differs"),
    ],
)
def test_what_a_checkpoint_lacks_is_named(folder, tmp_path, name: str, said: str) -> None:
    checkpoint, watch = trained(folder, tmp_path, lora=True, critic=True)
    assert watch.found[-1].level == "ok", watch.found
    state = torch.random.get_rng_state()
    _as_saved(checkpoint)
    planted(name, checkpoint, watch.live)
    found = checkpoint_matches(checkpoint, 2, **watch.live)
    torch.random.set_rng_state(state)
    assert (found.level, found.step) == ("tripped", 2)
    assert re.search(said, found.detail), found.detail


def _as_saved(checkpoint: Path) -> None:
    """Back to the random state of the checkpoint; the end of training may have drawn."""
    saved = torch.load(checkpoint / "rng_state.pth", weights_only=False)
    torch.random.set_rng_state(saved["cpu"])


def test_a_critic_inside_a_fully_trained_model_has_its_own_file(folder, tmp_path) -> None:
    checkpoint, watch = trained(folder, tmp_path, lora=False, critic=True)
    assert watch.found[-1].level == "ok", watch.found
    _as_saved(checkpoint)
    planted("no critic", checkpoint, watch.live)
    assert "critic.safetensors is missing" in checkpoint_matches(checkpoint, 2, **watch.live).detail


ROW = {"step": 6, "phase": "train", "reward": 0.5, "kl": math.nan, "logprob_gap": None}


def test_the_row_of_a_killed_run_is_found_before_it_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert logged_step(path, 6) is None
    rows = [{"step": 6, "phase": "dev"}, {"step": 6, "phase": "train", "reward": 1.0}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 7, "pha')
    assert logged_step(path, 6) == rows[1]
    assert logged_step(path, 7) is None


def test_a_step_taken_twice_is_compared_but_for_the_clock() -> None:
    before, after = ROW | {"seconds": 1.0}, ROW | {"seconds": 2.0, "kl": math.nan}
    assert same_step(before, after, exact=True).level == "ok"
    for changes in ({"reward": 0.5000001}, {"logprob_gap": 1e-6}, {"more": 1.0}):
        found = same_step(before, after | changes, exact=True)
        assert (found.level, found.step) == ("tripped", 6)
        assert next(iter(changes)) in found.detail
        assert same_step(before, after | changes, exact=False).level == "note"
