"""PPO on the tiny random model: the critic learns, the policy learns, a kill leaves no trace."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from evaluation.types import Context, Policy
from lm.hf import load_model
from lm.ledger import Ledger
from lm.tiny import write_tiny_model
from lm.types import Sampling
from rl.config import LoraConfig, PPOConfig
from rl.gae import gae, token_rewards, value_losses, whitened
from rl.journal import Journal
from rl.ppo import CRITIC_FILE, PPO, PPOTrainer
from rl.trl_seam import SeamTrainer
from rl.weight_method import Stage as Work
from rl.weight_method import open_trainable
from tasks.types import Example, Prompt, Score

WORDS = [Example(f"e{i}", {"input": "abcdefgh"[i] * 9}, "m") for i in range(8)]
FULL = {"weights": "full", "lora": LoraConfig(), "learning_rate": 1e-3}


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
    value = sum(c.isascii() and c.isalpha() for c in text) / 6
    return Score(min(1.0, value), value == 1)


def early(example: Example, text: str) -> Score:
    """Worth what the prompt is, whatever is said: all there is to learn is the value."""
    return Score(float(example.inputs["input"][0] in "abcd"), False)


@dataclass
class Run:
    model: Path
    path: Path
    config: PPOConfig
    score: object = letters
    stop: tuple[str, ...] = ()

    def improve(self) -> Policy:
        policy = Policy(str(self.model), Prompt("Answer in letters."))
        return PPO(self.config).improve(policy, WORDS, WORDS[:4], self.context())

    def context(self) -> Context:
        self.ledger = Ledger()
        return Context(
            score=self.score,  # type: ignore[arg-type]
            open=lambda p: load_model(p.source, adapter=p.adapter, ledger=self.ledger),
            ledger=self.ledger,
            folder=self.path,
            sampling=Sampling(max_tokens=6, stop=self.stop),
            seed=3,
            progress=lambda *_, **__: None,
        )

    def trainer(self) -> PPOTrainer:
        """The method's trainer, before its first step."""
        context, policy = self.context(), Policy(str(self.model), Prompt("Answer in letters."))
        live = open_trainable(policy, self.config, context, "ppo")
        stage = Work(policy, WORDS, WORDS[:4], context, Journal(self.path), live)
        trainer = PPO(self.config).course(stage).trainer
        trainer.model.train()
        trainer.current_gradient_accumulation_steps = 1
        return trainer

    def rows(self, phase: str) -> list[dict]:
        lines = (self.path / "metrics.jsonl").read_text().splitlines()
        return [row for row in map(json.loads, lines) if row["phase"] == phase]


def config(**changes) -> PPOConfig:
    settings = {
        "steps": 4,
        "prompts_per_step": 2,
        "group_size": 4,
        "learning_rate": 1e-2,
        "lora": LoraConfig(r=4),
        "minibatches": 2,
        "eval_every": 1,
        "checkpoint_every": 2,
        "audits": False,
    }
    return PPOConfig(**{**settings, **changes})


def rollouts_of(trainer: PPOTrainer) -> dict:
    n = trainer.rollouts.sampling.n
    rows = [row for row in trainer.train_dataset for _ in range(n)]  # type: ignore[union-attr]
    return trainer._generate_and_score_completions(rows[: 2 * n])


def test_the_policy_learns(folder, tmp_path):
    big = {"steps": 12, "prompts_per_step": 4, "group_size": 8, "learning_rate": 3e-2}
    run = Run(folder, tmp_path, config(**big, minibatches=1, eval_every=6, checkpoint_every=99))
    policy = run.improve()
    rewards = [row["reward"] for row in run.rows("train")]
    assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 0.3
    scores = {row["step"]: row["dev_score"] for row in run.rows("dev")}
    assert policy.adapter == tmp_path / "best" and max(scores.values()) > scores[0]
    assert all(row["logprob_gap"] < 1e-4 for row in run.rows("train"))


def test_the_critic_learns_what_there_is_to_know(folder, tmp_path):
    settings = {**FULL, "learning_rate": 3e-3, "critic": "shared", "value_coefficient": 1.0}
    batch = {"steps": 30, "epochs": 4, "minibatches": 4, "prompts_per_step": 8}
    quiet = {"eval_every": 99, "checkpoint_every": 99}
    run = Run(folder, tmp_path, config(**settings, **batch, **quiet), early)
    run.improve()
    foreseen = [row["objective/explained_variance"] for row in run.rows("train")]
    errors = [row["objective/value_loss"] for row in run.rows("train")]
    assert foreseen[0] < 0.1 and min(foreseen[-3:]) > 0.8
    assert max(errors[-3:]) < 0.2 * errors[0]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("weights", [{}, FULL], ids=["lora", "full"])
@pytest.mark.parametrize("more", [{}, {"beta": 0.05, "critic": "shared"}], ids=["plain", "kl"])
def test_killed_in_the_middle_of_an_epoch_it_ends_as_if_undisturbed(
    folder, tmp_path, monkeypatch, weights, more
):
    whole = Run(folder, tmp_path / "whole", config(**weights, **more))
    expected = whole.improve()
    killed = Run(folder, tmp_path / "killed", config(**weights, **more))
    seen: list[int] = []
    loss = SeamTrainer._compute_loss

    def dying(self, model, inputs):
        seen.append(1)
        if len(seen) == 15:  # step 4, second epoch, first of its two updates
            raise Killed
        return loss(self, model, inputs)

    with monkeypatch.context() as patch:
        patch.setattr(SeamTrainer, "_compute_loss", dying)
        with pytest.raises(Killed):
            killed.improve()
    found = killed.improve()
    file = "weights" if weights else "adapter"
    name = "model.safetensors" if weights else "adapter_model.safetensors"
    assert (getattr(expected, file) / name).read_bytes() == (
        getattr(found, file) / name
    ).read_bytes()
    tables = [pq.read_table(run.path / "rollouts.parquet").to_pylist() for run in (whole, killed)]
    assert tables[0] == tables[1] and len(tables[0]) == 32
    metrics = [[{**row, "seconds": 0} for row in run.rows("train")] for run in (whole, killed)]
    assert metrics[0] == metrics[1]
    assert whole.ledger.optimizer_steps == killed.ledger.optimizer_steps == 16
    assert whole.ledger.train_tokens == killed.ledger.train_tokens > 0


def test_a_checkpoint_holds_the_critic_and_its_optimizer_state(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(Journal, "tidy", lambda self: None)
    run = Run(folder, tmp_path, config())
    run.improve()
    checkpoint = tmp_path / "checkpoints" / "checkpoint-16"
    assert (checkpoint / CRITIC_FILE).is_file()
    groups = torch.load(checkpoint / "optimizer.pt", weights_only=True)["param_groups"]
    assert [group["lr"] for group in groups][-1] == run.config.critic_learning_rate
    assert len(groups[-1]["params"]) == 4


def test_what_a_step_learns_from_is_the_arithmetic_of_gae(folder, tmp_path):
    settings = {"beta": 0.1, "missing_eos_penalty": 0.5, "gae_lambda": 0.8, "gamma": 0.9}
    stops = tuple("abcdefghij")
    trainer = Run(folder, tmp_path, config(**settings), stop=stops).trainer()
    with torch.no_grad():  # away from the reference, and a critic with opinions
        for name, weight in trainer.model.named_parameters():  # type: ignore[union-attr]
            if "lora_B" in name:
                torch.manual_seed(len(name))
                weight.normal_(std=0.05)
        trainer.critic.outer.weight.normal_()
    output = rollouts_of(trainer)
    answers = trainer.rollouts.completions
    assert {answer.finish_reason for answer in answers} == {"length", "stop"}
    rewards = torch.tensor(
        [
            reward - 0.5 * (answer.finish_reason == "length")
            for reward, answer in zip(trainer.rollouts.rewards, answers, strict=True)  # type: ignore[operator]
        ]
    )
    with trainer.reference.standing_in() as model, torch.no_grad():  # type: ignore[union-attr]
        every = torch.ones(len(answers)).bool()
        reference = trainer._forward(model, output, every).logprobs_BT
    mask = output["completion_mask"]
    costs = 0.1 * (output["old_per_token_logps"] - reference)
    assert costs.abs().max() > 1e-3
    advantages, returns = gae(
        token_rewards(rewards, mask, costs), output["old_values"], mask, 0.9, 0.8
    )
    torch.testing.assert_close(output["returns"], returns)
    torch.testing.assert_close(output["advantages"], whitened(advantages, mask))


def test_the_loss_is_the_sum_of_its_two_parts_and_the_head_stays_apart(folder, tmp_path):
    trainer = Run(folder, tmp_path, config(value_coefficient=0.3, minibatches=1)).trainer()
    inputs = rollouts_of(trainer)
    inputs["returns"] = inputs["returns"] + 1
    loss = trainer._compute_loss(trainer.model, inputs)
    loss.backward()
    rows = torch.ones(len(inputs["advantages"])).bool()
    with torch.no_grad():
        scored = trainer._forward(trainer.model, inputs, rows)
    mask = inputs["completion_mask"]
    errors = value_losses(scored.values_BT, inputs["old_values"], inputs["returns"], 0.2)
    value = (errors * mask).sum() / mask.sum()
    policy = -(inputs["advantages"] * mask).sum() / mask.sum()  # on policy all ratios are 1
    assert loss.item() == pytest.approx((policy + 0.3 * value).item(), abs=1e-5)
    trained = [p for p in trainer.model.parameters() if p.requires_grad]  # type: ignore[union-attr]
    gradient = torch.cat([p.grad.flatten() for p in trained])  # type: ignore[union-attr]
    inputs["returns"] = inputs["returns"] - 5  # a detached critic's error moves no policy
    trainer.model.zero_grad()  # type: ignore[union-attr]
    trainer._compute_loss(trainer.model, inputs).backward()
    torch.testing.assert_close(
        torch.cat([p.grad.flatten() for p in trained]),  # type: ignore[union-attr]
        gradient,
    )


def test_in_the_warm_up_the_critic_alone_learns(folder, tmp_path):
    settings = {"steps": 2, "value_warmup_steps": 1, "critic": "shared", "value_coefficient": 1.0}
    trainer = Run(folder, tmp_path, config(**settings)).trainer()
    before = [p.detach().clone() for p in trainer.critic.parameters()]
    trainer.args.max_steps = 4  # one of the two steps
    trainer.train()
    assert all(
        not weight.any()
        for name, weight in trainer.model.named_parameters()  # type: ignore[union-attr]
        if "lora_B" in name
    )
    assert any((a != b).any() for a, b in zip(before, trainer.critic.parameters(), strict=True))


def test_a_missing_reward_teaches_nothing(folder, tmp_path):
    def broken(example: Example, text: str) -> Score:
        if example.id in ("e0", "e1", "e2", "e3"):
            raise ValueError("no")
        return letters(example, text)

    settings = config(prompts_per_step=8, minibatches=1)
    trainer = Run(folder, tmp_path, settings, broken).trainer()
    n = trainer.rollouts.sampling.n
    rows = [row for row in list(trainer.train_dataset)[:8] for _ in range(n)]  # type: ignore[arg-type]
    output = trainer._generate_and_score_completions(rows)
    unknown = torch.tensor([reward is None for reward in trainer.rollouts.rewards])
    assert unknown.sum() == 16
    assert not output["tool_mask"][unknown].any() and not output["advantages"][unknown].any()
    assert torch.isfinite(trainer._compute_loss(trainer.model, output))


def test_the_kl_term_may_stand_in_the_loss(folder, tmp_path):
    run = Run(folder, tmp_path, config(beta=0.1, kl_in="loss", epochs=3))
    run.improve()
    assert all(row["kl"] >= 0 for row in run.rows("train")) and run.rows("train")[-1]["kl"] > 0
