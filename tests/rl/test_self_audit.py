"""The audits where they stand: in a stage that trains, clean or with a fault planted in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from evaluation.types import Context, Policy
from lm.hf import load_model
from lm.ledger import Ledger
from lm.tiny import write_tiny_model
from lm.types import Sampling
from rl.config import GRPOConfig, LoraConfig, PPOConfig
from rl.findings import Finding, read_findings
from rl.grpo import GRPO
from rl.ppo import PPO, PPOTrainer
from rl.rollouts import Rollouts
from tasks.types import Example, Prompt, Score

WORDS = [Example(f"e{i}", {"input": "w" * (i + 1)}, "abcdefgh"[i] * 2) for i in range(8)]
SMALL = {
    "steps": 4,
    "prompts_per_step": 2,
    "group_size": 4,
    "learning_rate": 1e-2,
    "lora": LoraConfig(r=4),
    "eval_every": 1,
    "checkpoint_every": 2,
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # the tiny model only loses time to threads
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


def letters(example: Example, text: str) -> Score:
    """Gold is right; anything else is worth its share of letters, at most a half."""
    share = sum(c.isascii() and c.isalpha() for c in text) / 12
    right = text.strip() == example.answer
    return Score(1.0 if right else min(0.5, share), right)


def stage(model: Path, path: Path, method) -> dict[str, Finding]:
    ledger = Ledger()
    context = Context(
        score=letters,
        open=lambda p: load_model(p.source, adapter=p.adapter, ledger=ledger),
        ledger=ledger,
        folder=path,
        sampling=Sampling(max_tokens=6),
        seed=3,
        progress=lambda *_, **__: None,
    )
    method.improve(Policy(str(model), Prompt("Answer.")), WORDS, WORDS[:4], context)
    return {finding.name: finding for finding in read_findings(path)}


def tripped(found: dict[str, Finding]) -> list[str]:
    return sorted(name for name, finding in found.items() if finding.level == "tripped")


@pytest.mark.parametrize(
    "method", [GRPO(GRPOConfig(**SMALL)), PPO(PPOConfig(**SMALL))], ids=["grpo", "ppo"]
)
def test_a_clean_stage_is_audited_and_silent(folder, tmp_path, method):
    found = stage(folder, tmp_path, method)
    assert {"checkpoint", "sampler parity"} <= found.keys()
    assert any(name.startswith("reward:") for name in found)
    assert tripped(found) == []
    panels = json.loads((tmp_path / "forgetting.json").read_text())
    assert "before" in panels


def test_sampling_from_stale_weights_trips(folder, tmp_path, monkeypatch):
    collect = Rollouts.collect
    stale: list = []

    def draw_stale(self, rows, step, **columns):
        """As an engine would that was never told of the new weights."""
        weights = [p for p in self.model.model.parameters() if p.requires_grad]
        now = [p.detach().clone() for p in weights]
        stale.extend([p.clone() for p in now] if not stale else [])
        with torch.no_grad():
            for p, old in zip(weights, stale, strict=True):
                p.copy_(old)
        drawn = collect(self, rows, step, **columns)
        with torch.no_grad():
            for p, new in zip(weights, now, strict=True):
                p.copy_(new)
        return drawn

    monkeypatch.setattr(Rollouts, "collect", draw_stale)
    found = stage(folder, tmp_path, GRPO(GRPOConfig(**{**SMALL, "learning_rate": 3e-2})))
    assert "sampler parity" in tripped(found)
    assert found["sampler parity"].step == 2  # the first one after the weights had moved


def test_rewards_that_pay_for_nothing_trip(folder, tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(
        "def long(completions, **_):\n"
        "    return [len(c[-1]['content']) / 10 for c in completions]\n"
        "def blind(completions, **_):\n"
        "    return [1.0 for _ in completions]\n"
    )
    for name, wire in (("long", "length"), ("blind", "gold")):
        config = GRPOConfig(**{**SMALL, "steps": 1, "reward": f"{mine}:{name}"})
        found = stage(folder, tmp_path / name, GRPO(config))
        assert any(wire in name for name in tripped(found)), (name, tripped(found))


def test_a_checkpoint_without_its_critic_trips(folder, tmp_path, monkeypatch):
    save = PPOTrainer._save_checkpoint

    def forgetful(self, model, trial):
        save(self, model, trial)
        for path in Path(self.args.output_dir).glob("*/critic.safetensors"):
            path.unlink()

    monkeypatch.setattr(PPOTrainer, "_save_checkpoint", forgetful)
    found = stage(folder, tmp_path, PPO(PPOConfig(**SMALL)))
    assert "critic.safetensors is missing" in found["checkpoint"].detail
    assert tripped(found) == ["checkpoint"]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("meddled", [False, True])
def test_a_step_taken_twice_is_compared(folder, tmp_path, monkeypatch, meddled):
    config = GRPOConfig(**{**SMALL, "steps": 5})
    collect = Rollouts.collect

    def dying(self, rows, step, **columns):
        if step == 4:
            raise Killed
        return collect(self, rows, step, **columns)

    with monkeypatch.context() as patch:
        patch.setattr(Rollouts, "collect", dying)
        with pytest.raises(Killed):
            stage(folder, tmp_path, GRPO(config))
    if meddled:  # the resumed run draws with another seed
        patched = GRPO(config)
        monkeypatch.setattr(
            Rollouts,
            "collect",
            lambda self, rows, step, **columns: collect(self, rows, step + 1000, **columns),
        )
        found = stage(folder, tmp_path, patched)
    else:
        found = stage(folder, tmp_path, GRPO(config))
    assert found["resumed step"].level == ("tripped" if meddled else "ok")
    assert found["resumed step"].step == 3


@pytest.mark.parametrize("name", ["checkpoint_matches", "probe_reward", "ask_panel", "health"])
def test_an_audit_that_fails_is_a_note_and_no_more(folder, tmp_path, monkeypatch, name):
    def failing(*_, **__):
        raise OSError("no room left")

    monkeypatch.setattr(f"rl.self_audit.{name}", failing)
    found = stage(folder, tmp_path, GRPO(GRPOConfig(**{**SMALL, "steps": 2})))
    notes = [finding for key, finding in found.items() if key.startswith("audit of")]
    assert notes and all("no room left" in note.detail for note in notes)
    assert (tmp_path / "result.json").exists() and tripped(found) == []
