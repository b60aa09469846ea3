"""RFT on the tiny random model: what it keeps, that it learns, and that a kill leaves no trace."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from lm.ledger import Caps
from lm.tiny import write_tiny_model
from reward_models.types import RewardError
from rl.callbacks import StageCallback
from rl.config import LoraConfig
from rl.config_supervised import RFTConfig
from rl.drawn import Draws, next_prompts
from rl.findings import read_findings
from rl.journal import Journal
from rl.rft import RFT, AcceptedAnswers, RoundsTrainer, accepted
from rl.rollouts import SCHEMA
from rl.trl_supervised import SupervisedTrainer
from rl.weight_method import Stage
from tasks.types import Example, Score, TaskError
from tests.rl.supervised_stage import (
    EXAMPLES,
    FULL,
    LORA,
    Killed,
    Run,
    counted,
    half_taught,
    kill_at,
    on_the_real_model,
)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # the tiny model only loses time to threads
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def taught(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return half_taught(folder, tmp_path_factory.mktemp("taught"), "abc")


def abc(example: Example, text: str) -> Score:
    """How many letters in front are right; correct are those that begin with ab."""
    value = sum(a == b for a, b in zip(text, "abc", strict=False)) / 3
    return Score(value, text.startswith("ab"))


def config(**changes) -> RFTConfig:
    settings = {
        "steps": 2, "rounds": 2, "samples_per_prompt": 8, "rows_per_step": 4, "eval_every": 1,
        "checkpoint_every": 1, **LORA, "learning_rate": 3e-3,
    }  # fmt: skip
    return RFTConfig(**{**settings, **changes})


def answer(example: str, text: str, **changes) -> dict:
    made = {"example_id": example, "text": text, "finish": "stop", "correct": True, "reward": 1.0}
    return {**made, **changes}


def test_it_keeps_distinct_finished_right_answers():
    answers = [
        answer("e1", "a"),
        answer("e1", "a"),  # once is enough
        answer("e1", "b", correct=False),
        answer("e1", "c", finish="length"),  # no end to learn
        answer("e2", "a"),  # another prompt, another row
        answer("e1", "d", reward=0.4),
        answer("e1", "f", reward=None),
    ]
    assert accepted(answers, None, 9) == [0, 5, 6, 4]
    assert accepted(answers, None, 2) == [0, 5, 4]
    assert accepted(answers, 0.5, 9) == [0, 2, 4]
    assert accepted(answers, 1.1, 9) == []


@pytest.mark.parametrize("start", ["incoming", "newest"])
def test_it_learns_what_it_has_found(folder, tmp_path, taught, start):
    settings = {"steps": 8, "rows_per_step": 8, "eval_every": 8, "checkpoint_every": 99}
    stage = Run(RFT, folder, tmp_path, config(start=start, **settings), abc, adapter=taught)
    stage.improve()
    first, second = stage.rows("draw")
    assert second["score"] > first["score"] + 0.1
    assert second["accepted"] > first["accepted"] > 0


def test_what_a_stage_leaves_behind(folder, tmp_path, taught):
    stage = Run(RFT, folder, tmp_path, config(prompts_per_round=4, samples_per_prompt=16), abc)
    stage.adapter = taught
    stage.improve()
    rows = stage.rollouts()
    assert list(rows[0]) == SCHEMA.names and len(rows) == 2 * 4 * 16
    assert {row["step"] for row in rows} == {1, 3}  # drawn before these
    asked = {row["example_id"] for row in rows if row["step"] == 1}
    assert asked.isdisjoint(row["example_id"] for row in rows if row["step"] == 3)
    kept = [row for row in rows if row["advantage"]]
    assert kept and all(row["text"].startswith("ab") and row["finish"] == "stop" for row in kept)
    assert len(kept) == sum(row["accepted"] for row in stage.rows("draw"))
    spent = stage.ledger.usage["rollout"]
    assert (spent.completions, spent.calls) == (128, 2) and stage.ledger.optimizer_steps == 4
    assert spent.completion_tokens == sum(len(row["token_ids"]) for row in rows)
    assert stage.rows("train")[-1]["rollouts"] == 128
    assert not (tmp_path / "checkpoints").exists()


def test_only_accepted_answers_and_their_ends_are_in_the_loss(folder, tmp_path, taught):
    run = Run(RFT, folder, tmp_path, config(), abc, adapter=taught)
    trainer = run.trainer()
    end = trainer.processing_class.eos_token_id
    for row in trainer.feed.rows(1):
        learned = [label for label in row["labels"] if label != -100]
        assert learned[-1] == end and row["input_ids"][-len(learned) :] == learned
        assert trainer.processing_class.decode(learned[:-1]).startswith("ab")


def test_a_round_starts_from_the_incoming_weights(folder, tmp_path, taught):
    trainer = Run(RFT, folder, tmp_path, config(), abc, adapter=taught).trainer()
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    assert trainer.state.global_step == 4
    changed = [n for n, p in trainer.model.named_parameters() if not torch.equal(p, before[n])]
    assert changed and trainer.optimizer.state
    trainer.restart()
    assert all(torch.equal(p, before[n]) for n, p in trainer.model.named_parameters())
    assert not trainer.optimizer.state


def test_each_round_warms_up(folder, tmp_path, taught):
    settings = config(steps=3, warmup_steps=2, eval_every=3)
    trainer = Run(RFT, folder, tmp_path, settings, abc, adapter=taught).trainer()
    trainer.create_optimizer_and_scheduler(6)
    ramp = [trainer.lr_scheduler.lr_lambdas[0](update) for update in range(6)]
    assert ramp == [0.0, 0.5, 1.0, 0.0, 0.5, 1.0]


def test_rounds_pass_through_train(folder, tmp_path):
    run = Run(RFT, folder, tmp_path, config())
    stage = Stage(run.policy(), EXAMPLES, [], run.context(), Journal(tmp_path), None)  # type: ignore[arg-type]
    rounds = [[e.id for e in next_prompts(stage, 3, number)] for number in range(4)]
    assert len({*rounds[0], *rounds[1]}) == 6 and rounds[2] != rounds[0]
    assert len(next_prompts(stage, 99, 1)) == len(EXAMPLES)


KILLS = [
    (Draws, "_score", 2, {}),  # the first part of round 1 is kept, the second lost
    (SupervisedTrainer, "compute_loss", 1, {}),  # drawn, and nothing learned from it yet
    (StageCallback, "measure", 3, {}),
    (AcceptedAnswers, "_note", 2, {}),  # at the start of round 2, between two checkpoints
    (Draws, "_score", 4, {}),  # round 2 half drawn, with the weights of round 1
    (SupervisedTrainer, "compute_loss", 4, {"checkpoint_every": 3}),  # amid round 2
    (Journal, "finish", 1, {}),
    (RoundsTrainer, "restart", 1, FULL),
    (SupervisedTrainer, "compute_loss", 4, {"start": "newest"}),
]


@pytest.fixture(scope="module")
def undisturbed(folder, taught, tmp_path_factory):
    """The outcome of a run by its settings; equal ones run once."""

    @cache
    def outcome(settings: str):
        path = tmp_path_factory.mktemp("undisturbed")
        chosen = RFTConfig.model_validate_json(settings)
        return Run(RFT, folder, path, chosen, abc, adapter=taught).outcome()

    return outcome


@pytest.mark.parametrize(("owner", "name", "call", "changes"), KILLS)
def test_a_killed_run_ends_as_if_undisturbed(
    folder, tmp_path, monkeypatch, taught, undisturbed, owner, name, call, changes
):
    monkeypatch.setattr("rl.drawn.ROWS_AT_ONCE", 32)
    settings = config(**{**changes, **({"lora": LoraConfig()} if changes is FULL else {})})
    whole = undisturbed(settings.model_dump_json())
    assert len(whole["rollouts"]) == 128 and len(whole["train"]) == 4
    killed = Run(RFT, folder, tmp_path / "b", settings, abc, adapter=taught)
    with monkeypatch.context() as patch:
        kill_at(patch, owner, name, call)
        with pytest.raises(Killed):
            killed.improve()
    assert killed.outcome() == whole


def test_nothing_accepted_is_one_line_and_no_harm(folder, tmp_path):
    never = Run(RFT, folder, tmp_path, config(), lambda e, t: Score(0.0, False))
    assert never.improve() == never.policy()
    said = [line["rft"] for line in never.lines if "rft" in line]
    assert said == [
        "of 64 answers in round 1 none is correct and finished; the best so far is kept"
    ]
    assert never.rows("draw")[0]["accepted"] == 0 and not never.rows("train")
    assert len(never.rollouts()) == 64  # what was tried stays on record


def test_a_round_without_right_answers_ends_with_the_best_before_it(folder, tmp_path, taught):
    calls = []

    def once(example: Example, text: str) -> Score:
        calls.append(1)
        drawn = len(calls) - 4  # those of dev come first
        return Score(0.5 + len(calls) / 1e4, 0 < drawn <= 64)

    stage = Run(RFT, folder, tmp_path, config(), once, adapter=taught)
    policy = stage.improve()
    assert [row["step"] for row in stage.rows("train")] == [1, 2]
    assert policy.adapter == tmp_path / "best"
    assert stage.lines[-1]["rft"].startswith("of 64 answers in round 2 none is correct")


def test_a_spent_budget_still_learns_from_what_was_drawn(folder, tmp_path, taught, monkeypatch):
    monkeypatch.setattr("rl.drawn.ROWS_AT_ONCE", 32)
    caps = Caps(rollouts=30)
    stage = Run(RFT, folder, tmp_path, config(), counted(), caps=caps, adapter=taught)
    policy = stage.improve()
    assert len(stage.rollouts()) == 32 and policy.adapter == tmp_path / "best"
    assert [row["step"] for row in stage.rows("train")] == [1, 2]  # no draws for round 2
    assert stage.rows("dev")[-1]["step"] == 2


def test_its_audits_probe_the_reward(folder, tmp_path, taught):
    settings = config(audits=True, rounds=1, reward="contains", accept=0.0)
    same = [Example(e.id, e.inputs, "abc") for e in EXAMPLES]
    stage = Run(RFT, folder, tmp_path, settings, abc, adapter=taught, train=same)
    stage.improve()
    found = {finding.name: finding.level for finding in read_findings(tmp_path)}
    assert found["checkpoint"] == "ok" and any(name.startswith("reward:") for name in found)


def test_bad_input_is_one_line(folder, tmp_path):
    with pytest.raises(RewardError, match="good"):
        Run(RFT, folder, tmp_path, config(reward="good")).improve()
    with pytest.raises(TaskError, match="rft: two train examples share an id"):
        Run(RFT, folder, tmp_path, config(), train=[*EXAMPLES[:4]] * 2).improve()
    with pytest.raises(TaskError, match="rft: 0 train examples"):
        Run(RFT, folder, tmp_path, config(), train=[]).improve()
    with pytest.raises(ValidationError, match="a round of 2 steps would end unmeasured"):
        config(eval_every=3)


@pytest.mark.slow
def test_a_round_on_the_real_model(tmp_path):
    settings = {
        "rounds": 1, "steps": 6, "eval_every": 6, "checkpoint_every": 6, "audits": False,
        "prompts_per_round": 48, "samples_per_prompt": 4,
    }  # fmt: skip
    _, run = on_the_real_model(RFT(RFTConfig(**settings)), tmp_path)
    assert run.rows("draw")[0]["accepted"] > 8
    losses = [row["loss"] for row in run.rows("train")]
    assert losses[-1] < losses[0]
