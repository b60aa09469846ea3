"""Answers that call tools, in training: what a tool said is read, and never learned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

import lm.hf
import lm.turns
from evaluation.environment import Environment
from lm.hf import load_model
from lm.rendering import ChatEncoder
from lm.scoring import completion_logprobs
from lm.tiny import write_tiny_model
from lm.tool_calls import Calls
from rl.config import GRPOConfig, LoraConfig, PPOConfig
from rl.config_supervised import DPOConfig, RFTConfig, SFTConfig
from rl.dpo import DPO
from rl.gae import gae, token_rewards
from rl.grpo import GRPO
from rl.ppo import PPO
from rl.rft import RFT
from rl.sft import SFT, gold_row
from tasks.tools import Toolbox, calling, schema_of
from tasks.types import Demo, Example, Prompt, Score, TaskError, Transcript
from tests.rl import test_trl_seam as seam
from tests.rl.supervised_stage import Killed, Run, kill_at_seal

CALL = {"name": "look", "arguments": {"where": "up"}}
ENDS = frozenset({2, *range(3, 259, 6)})  # so that a random model ends a turn now and then


def look(where: str) -> str:
    """Looks."""
    return f"sky {where}"


PROMPT = Prompt("Look.", tools=(schema_of(look),))


def bare(example: Example, text: str) -> Score:
    raise AssertionError("an answer with tools is a transcript")


def by_length(example: Example, transcript: Transcript) -> Score:
    """Another value for each answer."""
    said = "".join(turn["content"] for turn in transcript if turn["role"] == "assistant")
    return Score((sum(map(ord, said)) % 11) / 11, len(transcript) > 1)


def shown(example: Example) -> Transcript:
    return [calling("look", where="up"), {"role": "assistant", "content": "sky"}]


ACTING = Environment(bare, by_length, lambda _: Toolbox.of([look], 2), shown)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two thirds of what the random model writes are calls, where it ends itself."""

    def read(text: str, _: str) -> Calls:
        return Calls((CALL,)) if sum(map(ord, text)) % 3 else Calls()

    monkeypatch.setattr(lm.turns, "read_calls", read)
    monkeypatch.setattr(lm.hf, "_end_tokens", lambda *_: ENDS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


SMALL: dict[str, Any] = {
    "steps": 2,
    "learning_rate": 1e-2,
    "lora": LoraConfig(r=4),
    "audits": False,
    "eval_every": 1,
    "checkpoint_every": 1,
}
ROLLOUTS = {**SMALL, "prompts_per_step": 2, "group_size": 4}
METHODS = {
    "grpo": (GRPO, GRPOConfig(**ROLLOUTS)),
    "grpo, twice": (GRPO, GRPOConfig(**ROLLOUTS, epochs=2, beta=0.1, temperature=0.9)),
    "ppo": (PPO, PPOConfig(**ROLLOUTS, beta=0.1)),
    "sft": (SFT, SFTConfig(**SMALL, rows_per_step=4)),
    "rft": (RFT, RFTConfig(**SMALL, rows_per_step=4, prompts_per_round=4, samples_per_prompt=4)),
}


def acting(name: str, folder: Path, path: Path) -> Run:
    method, config = METHODS[name]
    return Run(method, folder, path, config, score=ACTING, prompt=PROMPT)


@pytest.mark.parametrize("name", ["grpo", "ppo", "sft", "rft"])
def test_demos_that_call_reach_training_as_the_model_reads_them(
    name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an optimizer of prompts has found: each prompt of a rollout holds the calls, written."""
    turns = (calling("look", where="up"), {"role": "tool", "name": "look", "content": "sky up"})
    prompt = PROMPT.with_demos([Demo({"input": "where?"}, "sky", turns=turns)])
    seen: list[str] = []
    encode = ChatEncoder._ids

    def watched(self: Any, text: str, **how: Any) -> list[int]:
        seen.append(text)
        return encode(self, text, **how)

    monkeypatch.setattr(ChatEncoder, "_ids", watched)
    method, config = METHODS[name]
    outcome = Run(method, folder, tmp_path, config, score=ACTING, prompt=prompt).outcome()
    assert outcome
    asked = [text for text in seen if "where?" in text]
    assert asked and all('"arguments": {"where": "up"}' in text for text in asked)
    assert all("sky up" in text and '"calls"' not in text for text in asked)


@pytest.mark.parametrize("name", METHODS)
def test_a_killed_stage_ends_as_an_undisturbed_one(
    name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = acting(name, folder, tmp_path / "a").outcome()
    killed = acting(name, folder, tmp_path / "b")
    with monkeypatch.context() as patch:
        kill_at_seal(patch, 1)
        with pytest.raises(Killed):
            killed.improve()
    assert killed.outcome() == whole
    for row in whole["rollouts"]:
        assert len(row["mask"]) == len(row["token_ids"]) == len(row["logprobs"])
        assert (0 in row["mask"]) == ('"tool"' in row["transcript"])
    assert name == "sft" or any(0 in row["mask"] for row in whole["rollouts"])


def test_loss_and_gradient_equal_stock_trl(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRL's own loss leaves out what a tool said; so does ours."""
    monkeypatch.setattr(seam, "PROMPT", PROMPT)
    trainer = seam.make_trainer(folder, tmp_path, score=ACTING)
    inputs = seam.batch(trainer)
    assert (inputs["tool_mask"] * inputs["completion_mask"] < inputs["completion_mask"]).any()
    ours = seam.loss_and_gradient(trainer, inputs)
    stock = seam.make_trainer(folder, tmp_path, score=ACTING)
    seam.as_stock(stock, "dapo")
    theirs = seam.loss_and_gradient(stock, seam.batch(stock))
    assert ours[0] == pytest.approx(theirs[0], abs=1e-5)
    assert_close(ours[1], theirs[1], atol=1e-5, rtol=1e-3)
    assert trainer.rollouts.logprob_gap is not None and trainer.rollouts.logprob_gap < 1e-4


def test_what_a_tool_said_moves_no_loss(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old and reference log-probabilities of a tool's tokens may be anything."""
    monkeypatch.setattr(seam, "PROMPT", PROMPT)
    trainer = seam.make_trainer(folder, tmp_path, score=ACTING, beta=0.1, epochs=2)
    inputs = seam.batch(trainer)
    loss, gradient = seam.loss_and_gradient(trainer, inputs)
    entropy = trainer._metrics["train"]["entropy"][-1]
    told = inputs["tool_mask"] == 0
    for name in ("old_per_token_logps", "ref_per_token_logps", "sampling_per_token_logps"):
        inputs[name] = inputs[name].masked_fill(told, -3.0)
    again, same = seam.loss_and_gradient(trainer, inputs)
    assert (again, trainer._metrics["train"]["entropy"][-1]) == (loss, entropy)
    assert torch.equal(gradient, same)
    assert (trainer.rollouts.logprob_gap or 1) < 1e-4


def test_ppo_steps_over_what_a_tool_said(folder: Path, tmp_path: Path) -> None:
    config = PPOConfig(**{**ROLLOUTS, "whiten": False, "gae_lambda": 0.8, "gamma": 0.9})
    trainer = Run(PPO, folder, tmp_path, config, score=ACTING, prompt=PROMPT).trainer()
    rows = [row for row in trainer.train_dataset for _ in range(4)][:8]
    output = trainer._generate_and_score_completions(rows)
    mask = output["tool_mask"] * output["completion_mask"]
    assert (mask < output["completion_mask"]).any()
    rewards = torch.tensor([r for r in trainer.rollouts.rewards if r is not None])
    wanted, returns = gae(token_rewards(rewards, mask), output["old_values"], mask, 0.9, 0.8)
    assert_close(output["advantages"], wanted)
    assert_close(output["returns"], returns)
    assert not output["advantages"][mask == 0].any()


def test_a_demonstration_is_learned_but_for_what_the_tool_said(
    folder: Path, tmp_path: Path
) -> None:
    run = acting("sft", folder, tmp_path)
    trainer = run.trainer()
    live = load_model(str(folder))
    row = gold_row(live, PROMPT, run.train[0], ACTING)
    labels, ids = row["labels"], row["input_ids"]
    own = [i for i, label in zip(ids, labels, strict=True) if label != -100]
    assert live.tokenizer.decode(own).count("<tool_call>") == 1 and own.count(2) == 2
    assert "sky up" in live.tokenizer.decode(ids)
    assert "sky up" not in live.tokenizer.decode(own)
    with_steps = gold_row(live, replace(PROMPT, style="cot"), run.train[0], ACTING)
    last = live.encode_reply("Answer: sky")
    assert with_steps["labels"][-len(last) :] == last
    rows = trainer.feed.rows(1)
    inputs = trainer._prepare_inputs({"place": torch.arange(4)})
    loss = trainer.compute_loss(trainer.model, inputs).item()
    total = count = 0.0
    for row in rows:
        first = next(i for i, label in enumerate(row["labels"]) if label != -100)
        prompt, answer = row["input_ids"][:first], row["input_ids"][first:]
        found = completion_logprobs(trainer.model, [prompt], [answer]).logprobs_BT[0]
        mine = torch.tensor([label != -100 for label in row["labels"][first:]])
        total, count = total - found[mine].sum().item(), count + mine.sum().item()
    assert loss == pytest.approx(total / count, rel=1e-4)


def test_who_cannot_train_on_calls_says_so(folder: Path, tmp_path: Path) -> None:
    run = Run(DPO, folder, tmp_path, DPOConfig(), score=ACTING, prompt=PROMPT)
    with pytest.raises(TaskError, match="dpo: does not work with tools yet; write grpo"):
        run.improve()
