"""DPO on the tiny random model: which pairs it makes, that it learns, and that it resumes."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from lm.ledger import Caps
from lm.tiny import write_tiny_model
from reward_models.types import RewardError
from rl.config import LoraConfig
from rl.config_supervised import DPOConfig
from rl.dpo import DPO, Pairs, paired
from rl.drawn import Draws
from rl.findings import read_findings
from rl.journal import Journal
from rl.rollouts import SCHEMA
from rl.trl_supervised import PreferenceTrainer
from tasks.types import Score, TaskError
from tests.rl.supervised_stage import (
    EXAMPLES,
    FULL,
    LORA,
    Killed,
    Run,
    counted,
    half_taught,
    kill_at,
    kill_at_seal,
    letters,
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


def config(**changes) -> DPOConfig:
    settings = {
        "steps": 4, "samples_per_prompt": 8, "pairs_per_step": 4, "eval_every": 1,
        "checkpoint_every": 1, **LORA, "learning_rate": 3e-3,
    }  # fmt: skip
    return DPOConfig(**{**settings, **changes})


def answer(example: str, text: str, reward: float | None, finish: str = "stop") -> dict:
    return {"example_id": example, "text": text, "reward": reward, "finish": finish}


def test_pairs_are_of_one_prompt_and_the_widest_gaps_come_first():
    answers = [
        answer("e1", "a", 1.0),
        answer("e1", "b", 0.5),
        answer("e1", "c", 0.0),
        answer("e1", "a", 1.0),  # the same text again
        answer("e2", "a", 1.0),  # alone
        answer("e3", "long", 1.0, "length"),  # no end: not to be chosen
        answer("e3", "b", 0.2),
        answer("e3", "d", 0.1),
        answer("e3", "odd", None),  # the reward knows nothing of it
    ]
    assert paired(answers, 0.0, 1) == [(0, 2), (6, 7)]
    assert paired(answers, 0.0, 9) == [(0, 2), (0, 1), (1, 2), (6, 7)]
    assert paired(answers, 0.5, 9) == [(0, 2), (0, 1), (1, 2)]
    assert paired(answers, 1.1, 9) == []


def test_equal_gaps_use_each_answer_about_as_often():
    answers = [answer("e", text, reward) for text, reward in zip("abcd", (1, 1, 0, 0), strict=True)]
    assert paired(answers, 0.0, 2) == [(0, 2), (1, 3)]


@pytest.mark.parametrize("weights", [{}, {**FULL, "lora": LoraConfig()}], ids=["lora", "full"])
def test_it_learns_which_answers_are_better(folder, tmp_path, taught, weights):
    settings = {"steps": 12, "eval_every": 12, "checkpoint_every": 99, **weights}
    stage = Run(DPO, folder, tmp_path, config(**settings), letters, adapter=taught)
    stage.improve()
    first, *_, last = stage.rows("train")
    assert first["loss"] == pytest.approx(0.6931, abs=1e-3)  # nothing has moved yet
    assert last["loss"] < 0.8 * first["loss"]
    assert last["accuracy"] >= 0.75 and last["margin"] > 0.1


def test_what_a_stage_leaves_behind(folder, tmp_path, taught):
    settings = config(pairs_per_prompt=2)
    stage = Run(DPO, folder, tmp_path, settings, counted(), adapter=taught)
    policy = stage.improve()
    rows = stage.rollouts()
    assert list(rows[0]) == SCHEMA.names and len(rows) == len(EXAMPLES) * 8
    assert {row["step"] for row in rows} == {1} and sum(row["advantage"] for row in rows) == 0
    drawn = stage.rows("draw")[0]
    assert sum(row["advantage"] for row in rows if row["advantage"] > 0) <= drawn["pairs"]
    spent = stage.ledger.usage["rollout"]
    assert spent.completions == 64 and stage.ledger.optimizer_steps == 4
    assert spent.completion_tokens == sum(len(row["token_ids"]) for row in rows)
    assert stage.ledger.train_tokens > 0 and policy.adapter == tmp_path / "best"
    assert not (tmp_path / "checkpoints").exists()


KILLS = [
    (Draws, "_score", 2, {}),  # the first part is kept, the second lost
    (Pairs, "_ask_reference", 1, {}),  # all drawn, no pairs yet
    (PreferenceTrainer, "compute_loss", 1, {}),  # pairs made, nothing learned from them
    (PreferenceTrainer, "compute_loss", 3, {}),
    (Journal, "finish", 1, {}),
    (PreferenceTrainer, "compute_loss", 3, {**FULL, "lora": LoraConfig(), "learning_rate": 1e-3}),
]


@pytest.fixture(scope="module")
def undisturbed(folder, taught, tmp_path_factory):
    """The outcome of a run by its settings; equal ones run once."""

    @cache
    def outcome(settings: str):
        path = tmp_path_factory.mktemp("undisturbed")
        chosen = DPOConfig.model_validate_json(settings)
        return Run(DPO, folder, path, chosen, letters, adapter=taught).outcome()

    return outcome


@pytest.mark.parametrize(("owner", "name", "call", "changes"), KILLS)
def test_a_killed_run_ends_as_if_undisturbed(
    folder, tmp_path, monkeypatch, taught, undisturbed, owner, name, call, changes
):
    monkeypatch.setattr("rl.drawn.ROWS_AT_ONCE", 32)
    settings = config(**changes)
    whole = undisturbed(settings.model_dump_json())
    assert len(whole["rollouts"]) == 64 and len(whole["train"]) == 4
    killed = Run(DPO, folder, tmp_path, settings, letters, adapter=taught)
    with monkeypatch.context() as patch:
        kill_at(patch, owner, name, call)
        with pytest.raises(Killed):
            killed.improve()
    assert killed.outcome() == whole


def test_a_torn_checkpoint_resumes_too(folder, tmp_path, monkeypatch, taught, undisturbed):
    monkeypatch.setattr("rl.drawn.ROWS_AT_ONCE", 32)
    killed = Run(DPO, folder, tmp_path, config(), letters, adapter=taught)
    with monkeypatch.context() as patch:
        kill_at_seal(patch, 3)
        with pytest.raises(Killed):
            killed.improve()
    assert killed.outcome() == undisturbed(config().model_dump_json())


def test_no_pairs_is_one_line_and_no_harm(folder, tmp_path):
    level = Run(DPO, folder, tmp_path, config(), lambda e, t: Score(0.5, False))
    assert level.improve() == level.policy()
    said = [line["dpo"] for line in level.lines if "dpo" in line]
    assert said == ["of 64 answers no two to the same prompt make a pair; the best so far is kept"]
    assert level.rows("draw")[0]["pairs"] == 0 and not level.rows("train")
    assert len(level.rollouts()) == 64


def test_a_spent_budget_still_learns_from_what_was_drawn(folder, tmp_path, taught, monkeypatch):
    monkeypatch.setattr("rl.drawn.ROWS_AT_ONCE", 32)
    caps = Caps(rollouts=30)
    stage = Run(DPO, folder, tmp_path, config(), counted(), caps=caps, adapter=taught)
    policy = stage.improve()
    assert len(stage.rollouts()) == 32 and len(stage.rows("train")) == 4
    assert policy.adapter == tmp_path / "best"


def test_no_budget_at_all_leaves_the_policy_alone(folder, tmp_path, taught):
    stage = Run(DPO, folder, tmp_path, config(), letters, caps=Caps(rollouts=0), adapter=taught)
    assert stage.improve() == stage.policy() and not stage.rollouts()


def test_4_bits_learn_too_and_their_audits_are_silent(folder, tmp_path, taught):
    settings = config(weights="qlora", audits=True, lora=LoraConfig(r=4))
    stage = Run(DPO, folder, tmp_path, settings, counted(), adapter=taught)
    policy = stage.improve()
    assert policy.quantization == "nf4" and policy.adapter == tmp_path / "best"
    first, *_, last = stage.rows("train")
    assert first["loss"] == pytest.approx(0.6931, abs=2e-2) and last["loss"] < first["loss"]
    found = read_findings(tmp_path)
    assert {"checkpoint", "reward: not probed"} <= {finding.name for finding in found}
    assert not [finding for finding in found if finding.level == "tripped"]


def test_bad_input_is_one_line(folder, tmp_path):
    with pytest.raises(RewardError, match="good"):
        Run(DPO, folder, tmp_path, config(reward="good")).improve()
    with pytest.raises(TaskError, match="dpo: two train examples share an id"):
        Run(DPO, folder, tmp_path, config(), train=[*EXAMPLES[:4]] * 2).improve()
    with pytest.raises(ValidationError, match="exo_pair needs some"):
        config(loss_type="exo_pair")


@pytest.mark.slow
def test_a_few_steps_on_the_real_model(tmp_path):
    settings = {
        "steps": 6, "eval_every": 6, "checkpoint_every": 6, "prompts_per_round": 32,
        "samples_per_prompt": 4, "pairs_per_step": 8, "audits": False,
    }  # fmt: skip
    _, run = on_the_real_model(DPO(DPOConfig(**settings)), tmp_path)
    rows = run.rows("train")
    assert run.rows("draw")[0]["pairs"] >= 8
    assert rows[0]["loss"] == pytest.approx(0.6931, abs=1e-2)
    assert rows[-1]["loss"] < rows[0]["loss"] and rows[-1]["margin"] > 0
