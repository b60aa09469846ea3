"""The whole method on the tiny random model: it learns, it survives a kill, it picks by score."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from evaluation.types import Context, Policy, ScoreFunction
from lm.hf import load_model
from lm.ledger import Caps, Ledger
from lm.scripted import ScriptedLM
from lm.tiny import write_tiny_model
from lm.types import ModelError, Sampling
from rl.callbacks import StageCallback
from rl.config import GRPOConfig, LoraConfig
from rl.grpo import GRPO, trainer_arguments
from rl.journal import Journal, Mark
from rl.rollouts import SCHEMA, Rollouts
from rl.trl_seam import SeamTrainer
from tasks.types import Example, Prompt, Score, TaskError

EXAMPLES = [Example(f"e{i}", {"input": "say " + "w" * i}, "m") for i in range(8)]
SHORT = {
    "prompts_per_step": 2,
    "group_size": 4,
    "learning_rate": 1e-2,
    "lora": LoraConfig(r=4),
    "audits": False,
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
    """The share of letters: half of all bytes are none, so it can be learned from any start."""
    value = sum(c.isascii() and c.isalpha() for c in text) / 6
    return Score(min(1.0, value), value == 1)


@dataclass
class Stage:
    """One stage of one run: its folder, its arguments and a fresh ledger for each call."""

    model: Path
    path: Path
    config: GRPOConfig
    score: ScoreFunction = letters
    adapter: Path | None = None
    caps: Caps = field(default_factory=Caps)
    opened: int = 0
    seed: int = 3

    def run(self) -> Policy:
        self.ledger = Ledger(caps=self.caps)
        self.policy = Policy(str(self.model), Prompt("Answer in letters."), self.adapter)
        return GRPO(self.config).improve(self.policy, EXAMPLES, EXAMPLES[:4], self.context())

    def context(self) -> Context:
        return Context(
            score=self.score,
            open=self.open,
            ledger=self.ledger,
            folder=self.path,
            sampling=Sampling(max_tokens=6),
            seed=self.seed,
            progress=lambda *_, **__: None,
        )

    def open(self, policy: Policy):
        self.opened += 1
        return load_model(
            policy.source,
            adapter=policy.adapter,
            ledger=self.ledger,
            quantization=policy.quantization,
        )

    def rows(self, phase: str) -> list[dict]:
        lines = (self.path / "metrics.jsonl").read_text().splitlines()
        return [row for row in map(json.loads, lines) if row["phase"] == phase]


def quiet_context(path: Path) -> Context:
    stage = Stage(path, path, config())
    stage.ledger = Ledger()
    return stage.context()


def config(**changes) -> GRPOConfig:
    return GRPOConfig(**{**SHORT, "steps": 6, "eval_every": 2, "checkpoint_every": 2, **changes})


def test_it_learns(folder, tmp_path):
    settings = {"steps": 16, "prompts_per_step": 4, "group_size": 8, "learning_rate": 3e-2}
    stage = Stage(folder, tmp_path, config(**settings, eval_every=8, checkpoint_every=99))
    policy = stage.run()
    rewards = [row["reward"] for row in stage.rows("train")]
    assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 0.3
    scores = {row["step"]: row["dev_score"] for row in stage.rows("dev")}
    assert policy.adapter == tmp_path / "best"
    assert max(scores.values()) > scores[0]


def test_the_largest_seed_of_a_spec_trains(folder, tmp_path):
    stage = Stage(folder, tmp_path, config(steps=1), seed=2**31 - 1)
    stage.run()
    assert stage.ledger.optimizer_steps == 1


def test_what_a_stage_leaves_behind(folder, tmp_path):
    stage = Stage(folder, tmp_path, config(steps=3, rows_per_forward=4))
    stage.run()
    train, dev = stage.rows("train"), stage.rows("dev")
    assert [row["step"] for row in train] == [1, 2, 3]
    assert [row["step"] for row in dev] == [0, 2, 3]
    assert [row["rollouts"] for row in train] == [8, 16, 24]
    for row in train:
        assert {"reward_std", "loss", "grad_norm", "entropy", "seconds"} <= row.keys()
        assert row["reward"] == row["score"] and 0 < row["completion_tokens"] <= 6
        assert row["logprob_gap"] is None or row["logprob_gap"] < 1e-4
    table = pq.read_table(tmp_path / "rollouts.parquet")
    assert table.schema.equals(SCHEMA) and len(table) == 24
    rows = table.to_pylist()
    assert [row["sample"] for row in rows[:8]] == [0, 1, 2, 3, 0, 1, 2, 3]
    assert len({row["prompt_id"] for row in rows}) == len({row["example_id"] for row in rows})
    assert all(len(r["mask"]) == len(r["logprobs"]) == len(r["token_ids"]) for r in rows)
    for group in (rows[:4], rows[4:8]):
        assert sum(row["advantage"] for row in group) == pytest.approx(0, abs=1e-3)
    assert not (tmp_path / "rollouts").exists() and not (tmp_path / "checkpoints").exists()
    assert stage.ledger.optimizer_steps == 3 and stage.ledger.train_tokens > 0
    assert stage.ledger.usage["rollout"].completions == 24
    assert stage.ledger.usage["eval"].completions == 12


class Killed(BaseException):
    pass


def kill_at(monkeypatch, owner, name: str, step: int) -> None:
    """The method raises instead of doing its work when it is about optimizer step `step`."""
    work = getattr(owner, name)

    def killed(self, *args, **named):
        at = next((a for a in [*args, *named.values()] if isinstance(a, int | Mark)), None)
        if step == (at.step if isinstance(at, Mark) else at):
            raise Killed
        return work(self, *args, **named)

    monkeypatch.setattr(owner, name, killed)


def weights_of(policy: Policy) -> bytes | None:
    if policy.weights is not None:
        return (policy.weights / "model.safetensors").read_bytes()
    return policy.adapter and (policy.adapter / "adapter_model.safetensors").read_bytes()


def outcome(stage: Stage, policy: Policy) -> dict:
    """Everything that must not differ between an undisturbed run and a resumed one."""
    measured = [{**row, "spent": {**row["spent"], "seconds": 0}} for row in stage.rows("dev")]
    metrics = [{**row, "seconds": 0} for row in stage.rows("train")], measured
    ledger = json.loads(stage.ledger.to_json())
    for usage in ledger["usage"].values():
        usage["seconds"] = 0
    return {
        "adapter": weights_of(policy),
        "config": policy.adapter and (policy.adapter / "adapter_config.json").read_bytes(),
        "rollouts": pq.read_table(stage.path / "rollouts.parquet").to_pylist(),
        "metrics": metrics,
        "ledger": {**ledger, "train_seconds": 0},
    }


@pytest.fixture(scope="module")
def undisturbed(folder, tmp_path_factory):
    stage = Stage(folder, tmp_path_factory.mktemp("undisturbed"), config())
    result = outcome(stage, stage.run())
    assert result["adapter"] is not None
    return result


@pytest.mark.parametrize(
    ("owner", "name", "step", "again"),
    [
        (Rollouts, "collect", 1, [1, 2, 3, 4, 5, 6]),  # before any checkpoint
        (Rollouts, "collect", 6, [5, 6]),  # in the second pass over train
        (StageCallback, "measure", 4, [3, 4, 5, 6]),  # rollouts and metrics written, nothing saved
        (Journal, "seal", 4, [3, 4, 5, 6]),  # after TRL's save, before the mark: a torn checkpoint
        (Journal, "finish", 6, []),  # all steps taken, result not written
    ],
)
def test_a_killed_run_ends_as_if_undisturbed(
    folder, tmp_path, monkeypatch, undisturbed, owner, name, step, again
):
    stage = Stage(folder, tmp_path, config())
    with monkeypatch.context() as patch:
        kill_at(patch, owner, name, step)
        with pytest.raises(Killed):
            stage.run()
    steps: list[int] = []
    collect = Rollouts.collect
    monkeypatch.setattr(
        Rollouts,
        "collect",
        lambda self, rows, step, **columns: (
            steps.append(step) or collect(self, rows, step, **columns)
        ),
    )
    assert outcome(stage, stage.run()) == undisturbed
    assert steps == again


def test_a_judged_run_resumes_too(folder, tmp_path, monkeypatch):
    """Its replies are kept beyond the kill, and its costs are those of an undisturbed run."""
    judge = {"judge": {"model": str(folder), "rubric": "Letters are good."}}
    settings = config(steps=4, checkpoint_every=2, eval_every=1, reward={"parts": ["task", judge]})
    monkeypatch.setenv("TASKLIFT_CACHE", str(tmp_path / "one"))
    whole = Stage(folder, tmp_path / "whole", settings)
    expected = outcome(whole, whole.run())
    assert whole.ledger.usage["judge"].completions > 16
    monkeypatch.setenv("TASKLIFT_CACHE", str(tmp_path / "two"))
    killed = Stage(folder, tmp_path / "killed", settings)
    with monkeypatch.context() as patch:
        kill_at(patch, StageCallback, "measure", 4)
        with pytest.raises(Killed):
            killed.run()
    assert outcome(killed, killed.run()) == expected


def test_a_continued_adapter_with_kl_resumes_too(folder, tmp_path, monkeypatch):
    first = Stage(folder, tmp_path / "first", config(steps=4, eval_every=1))
    adapter = first.run().adapter
    assert adapter is not None
    settings = config(steps=3, beta=0.05, eval_every=1, checkpoint_every=1)
    whole = Stage(folder, tmp_path / "whole", settings, adapter=adapter)
    expected = outcome(whole, whole.run())
    assert all(row["kl"] >= 0 for row in whole.rows("train"))
    assert whole.rows("dev")[0]["dev_score"] == max(r["dev_score"] for r in first.rows("dev"))
    killed = Stage(folder, tmp_path / "killed", settings, adapter=adapter)
    with monkeypatch.context() as patch:
        kill_at(patch, Rollouts, "collect", 3)
        with pytest.raises(Killed):
            killed.run()
    assert outcome(killed, killed.run()) == expected


FULL = {"weights": "full", "lora": LoraConfig(), "learning_rate": 1e-3}


@pytest.mark.parametrize("weights", [{}, FULL], ids=["lora", "full"])
@pytest.mark.parametrize("beta", [0.0, 0.05])
def test_several_updates_a_step_resume_too(folder, tmp_path, monkeypatch, weights, beta):
    settings = {"epochs": 2, "minibatches": 2, "beta": beta, "steps": 4, "eval_every": 1}
    whole = Stage(folder, tmp_path / "whole", config(**settings, **weights))
    expected = outcome(whole, whole.run())
    assert [row["step"] for row in whole.rows("train")] == [1, 2, 3, 4]
    assert whole.ledger.optimizer_steps == 16 and whole.ledger.usage["rollout"].completions == 32
    assert any(row["objective/clip_ratio"] for row in whole.rows("train"))  # ratios move from 1
    killed = Stage(folder, tmp_path / "killed", config(**settings, **weights))
    with monkeypatch.context() as patch:
        kill_in_update(patch, 11)  # the third of four updates of step 3
        with pytest.raises(Killed):
            killed.run()
    assert outcome(killed, killed.run()) == expected


def kill_in_update(monkeypatch, number: int) -> None:
    """The process dies in that optimizer update, in the middle of a step."""
    counted: list[int] = []
    loss = SeamTrainer._compute_loss

    def killed(self, model, inputs):
        counted.append(1)
        if len(counted) == number:
            raise Killed
        return loss(self, model, inputs)

    monkeypatch.setattr(SeamTrainer, "_compute_loss", killed)


def test_full_training_takes_an_adapter_in(folder, tmp_path):
    first = Stage(folder, tmp_path / "first", config(steps=4, eval_every=1))
    adapter = first.run().adapter
    assert adapter is not None
    second = Stage(folder, tmp_path / "second", config(steps=2, **FULL), adapter=adapter)
    policy = second.run()
    best = max(row["dev_score"] for row in first.rows("dev"))
    assert second.rows("dev")[0]["dev_score"] == best
    if policy.weights is not None:
        assert policy.adapter is None and policy.source == str(policy.weights)


def test_checkpointed_layers_give_the_same_gradient(folder, tmp_path):
    plain = Stage(folder, tmp_path / "plain", config(steps=2))
    saving = Stage(folder, tmp_path / "saving", config(steps=2, gradient_checkpointing=True))
    plain.run()
    saving.run()
    for row, same in zip(plain.rows("train"), saving.rows("train"), strict=True):
        assert row["grad_norm"] == pytest.approx(same["grad_norm"], rel=1e-4) and row["grad_norm"]


def test_a_finished_stage_is_not_run_again(folder, tmp_path):
    stage = Stage(folder, tmp_path, config(steps=2))
    first = stage.run()
    spent = stage.ledger
    assert stage.run() == first
    assert stage.opened == 1
    assert stage.ledger.usage == spent.usage and stage.ledger is not spent


def test_the_incoming_policy_is_returned_when_nothing_beats_it(folder, tmp_path):
    stage = Stage(folder, tmp_path, config(steps=2), score=lambda e, t: Score(0.5, False))
    assert stage.run() is stage.policy
    assert [row["dead_groups"] for row in stage.rows("train")] == [1.0, 1.0]
    assert [row["entropy"] for row in stage.rows("train")] == [None, None]


def test_the_best_step_is_the_earliest_with_the_best_dev_score(tmp_path):
    scores = iter([0.2, 0.1, 0.5, 0.5, 0.4])
    saved: list[int] = []
    watch = StageCallback(
        record=None,  # type: ignore[arg-type]
        journal=Journal(tmp_path),
        context=quiet_context(tmp_path),
        evaluate=lambda: next(scores),
        save=lambda folder: saved.append(1),
        eval_every=1,
    )
    for step in range(5):
        watch.measure(step)
    assert (watch.best_step, watch.best_score, len(saved)) == (2, 0.5, 1)


def test_checkpoints_are_chosen_by_score_not_by_reward(folder, tmp_path):
    reward = tmp_path / "mine.py"
    reward.write_text(
        "def shy(completions, **_):\n"
        "    return [-sum(x.isalpha() for x in c[-1]['content']) for c in completions]\n"
    )
    stage = Stage(folder, tmp_path / "stage", config(reward=f"{reward}:shy", steps=4))
    policy = stage.run()
    dev = {row["step"]: row["dev_score"] for row in stage.rows("dev")}
    best = max(dev, key=lambda step: (dev[step], -step))
    assert (policy.adapter is not None) == (best > 0)
    assert all(row["reward"] != row["score"] for row in stage.rows("train"))


def test_a_spent_budget_keeps_the_best_so_far(folder, tmp_path):
    stage = Stage(folder, tmp_path, config(eval_every=2), caps=Caps(rollouts=20))
    stage.run()
    assert [row["step"] for row in stage.rows("train")] == [1, 2, 3]
    assert [row["step"] for row in stage.rows("dev")] == [0, 2, 3]  # evaluation is never capped
    assert Journal(tmp_path).finished() is not None


def test_bad_input_is_one_line(folder, tmp_path):
    stage = Stage(folder, tmp_path, config(prompts_per_step=9))
    with pytest.raises(TaskError, match="8 train examples for prompts_per_step 9"):
        stage.run()
    context = stage.context()
    with pytest.raises(TaskError, match="no dev examples"):
        GRPO(config()).improve(stage.policy, EXAMPLES, [], context)
    with pytest.raises(TaskError, match="unknown 'tsk'"):
        GRPO(config(reward="tsk")).improve(stage.policy, EXAMPLES, EXAMPLES, context)
    stage.open = lambda policy: ScriptedLM(["a"])  # type: ignore[method-assign,assignment]
    with pytest.raises(ModelError, match="grpo needs open weights"):
        GRPO(config()).improve(stage.policy, EXAMPLES, EXAMPLES, stage.context())


@pytest.mark.parametrize(("limit", "forwards"), [(64, 1), (8, 1), (7, 2), (3, 4), (1, 8)])
def test_rows_per_forward_is_a_bound(folder, tmp_path, limit, forwards):
    stage = Stage(folder, tmp_path, config(rows_per_forward=limit))
    stage.ledger = Ledger()
    args = trainer_arguments(stage.config, stage.context(), load_model(str(folder)))
    assert args.per_device_train_batch_size <= limit
    assert args.gradient_accumulation_steps == args.steps_per_generation == forwards
    assert args.generation_batch_size == 8


def test_importing_rl_loads_no_torch_and_no_dspy():
    code = "import sys, rl, rl.config; print([m for m in ('torch', 'dspy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


PARTS = {
    "parts": ["task", {"reward": {"format": "length", "max": 3, "unit": "chars"}, "weight": 0.5}],
    "repetition": {"ngram": 1, "weight": 0.1},
}


def test_each_part_of_a_reward_is_logged_apart(folder, tmp_path):
    stage = Stage(folder, tmp_path, config(reward=PARTS, steps=2))
    stage.run()
    rows = stage.rows("train")
    drawn = pq.read_table(tmp_path / "rollouts.parquet").to_pylist()
    for row, step in zip(rows, (1, 2), strict=True):
        answers = [answer for answer in drawn if answer["step"] == step]
        parts = [json.loads(answer["parts"]) for answer in answers]
        assert set(parts[0]) == {"task", "length", "repetition"}
        for answer, part in zip(answers, parts, strict=True):
            whole = part["task"] + 0.5 * part["length"] + part["repetition"]
            assert answer["reward"] == pytest.approx(whole)
            assert answer["score"] == pytest.approx(part["task"])
        for name in parts[0]:
            mean = sum(part[name] for part in parts) / len(parts)
            assert row[f"reward/{name}"] == pytest.approx(mean)
        assert row["unrewarded"] == 0.0
    lengths = {json.loads(answer["parts"])["length"] for answer in drawn}
    assert len(lengths) > 1


def test_the_tasks_score_has_no_parts(folder, tmp_path):
    stage = Stage(folder, tmp_path, config(steps=1))
    stage.run()
    assert not {key for row in stage.rows("train") for key in row if "reward/" in key}
    assert set(pq.read_table(tmp_path / "rollouts.parquet")["parts"].to_pylist()) == {None}
