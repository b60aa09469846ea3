"""SFT on the tiny random model: it learns the gold answers, and a kill leaves no trace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lm.hf import load_model
from lm.ledger import Caps, Ledger
from lm.tiny import write_tiny_model
from lm.types import ModelError
from rl.callbacks import StageCallback
from rl.config_supervised import DPOConfig, RFTConfig, SFTConfig
from rl.dpo import DPO
from rl.feed import per_forward, picked
from rl.findings import read_findings
from rl.journal import Journal
from rl.rft import RFT
from rl.sft import SFT, gold_row
from rl.trl_supervised import SupervisedTrainer
from tasks.types import Demo, Example, Prompt, Score, TaskError
from tests.rl.supervised_stage import (
    EXAMPLES,
    FULL,
    LORA,
    Killed,
    Run,
    counted,
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


def config(**changes) -> SFTConfig:
    settings = {"steps": 6, "rows_per_step": 4, "eval_every": 2, "checkpoint_every": 2, **LORA}
    return SFTConfig(**{**settings, **changes})


def exact(example: Example, text: str) -> Score:
    return Score(float(text == example.answer), text == example.answer)


@pytest.mark.parametrize("weights", [LORA, FULL], ids=["lora", "full"])
def test_it_learns_answers_and_their_ends(folder, tmp_path, weights):
    same = [Example(e.id, e.inputs, "abc") for e in EXAMPLES]
    settings = {"steps": 24, "rows_per_step": 8, "eval_every": 24, "checkpoint_every": 99}
    rate = {"learning_rate": 3e-2 if weights is LORA else 1e-2}
    every = SFTConfig(**{**weights, **settings, **rate})
    stage = Run(SFT, folder, tmp_path, every, exact, train=same)
    policy = stage.improve()
    losses = [row["loss"] for row in stage.rows("train")]
    assert losses[-1] < 0.2 * losses[0]
    assert stage.rows("dev")[-1]["dev_score"] == 1.0
    assert policy.adapter == tmp_path / "best" or policy.weights == tmp_path / "best"


def test_what_a_stage_leaves_behind(folder, tmp_path):
    stage = Run(SFT, folder, tmp_path, config(steps=3))
    stage.improve()
    train = stage.rows("train")
    assert [row["step"] for row in train] == [1, 2, 3]
    assert [row["step"] for row in stage.rows("dev")] == [0, 2, 3]
    for row in train:
        assert {"loss", "entropy", "grad_norm", "seconds"} <= row.keys() and row["rollouts"] == 0
    assert not stage.rollouts() and not (tmp_path / "checkpoints").exists()
    assert stage.ledger.optimizer_steps == 3 and stage.ledger.rollouts == 0
    feed = stage.trainer().feed
    seen = [row for step in (1, 2, 3) for row in feed.rows(step)]
    assert stage.ledger.train_tokens == 0  # of the new call; below, of the stage's
    mark = json.loads((tmp_path / "result.json").read_text())
    spent = Ledger.from_json(mark["ledger"])
    assert spent.train_tokens == sum(len(row["input_ids"]) for row in seen)


@pytest.fixture(scope="module")
def undisturbed(folder, tmp_path_factory):
    result = Run(SFT, folder, tmp_path_factory.mktemp("undisturbed"), config()).outcome()
    assert result["weights"] is not None
    return result


@pytest.mark.parametrize(
    ("owner", "name", "call", "again"),
    [
        (SupervisedTrainer, "_prepare_inputs", 4, 4),
        (StageCallback, "measure", 3, 4),  # metrics written, nothing saved
        (Journal, "finish", 1, 0),  # all steps taken, result not written
    ],
)
def test_a_killed_run_ends_as_if_undisturbed(
    folder, tmp_path, monkeypatch, undisturbed, owner, name, call, again
):
    stage = Run(SFT, folder, tmp_path, config())
    with monkeypatch.context() as patch:
        kill_at(patch, owner, name, call)
        with pytest.raises(Killed):
            stage.improve()
    calls: list[int] = []
    loss = SupervisedTrainer.compute_loss
    monkeypatch.setattr(
        SupervisedTrainer, "compute_loss", lambda *a, **k: calls.append(1) or loss(*a, **k)
    )
    assert stage.outcome() == undisturbed
    assert len(calls) == again


def test_a_torn_checkpoint_and_full_weights_resume_too(folder, tmp_path, monkeypatch):
    settings = {
        "rows_per_step": 4,
        "steps": 4,
        "rows_per_forward": 2,
        **FULL,
        "learning_rate": 1e-2,
    }
    whole = Run(SFT, folder, tmp_path / "a", SFTConfig(**settings, checkpoint_every=1)).outcome()
    killed = Run(SFT, folder, tmp_path / "b", SFTConfig(**settings, checkpoint_every=1))
    with monkeypatch.context() as patch:
        kill_at_seal(patch, 3)
        with pytest.raises(Killed):
            killed.improve()
    assert killed.outcome() == whole


def test_the_loss_is_on_the_answer_and_its_end(folder):
    live = load_model(str(folder))
    example = Example("e", {"input": "ask"}, "ab<|im_end|>c")
    prompt = Prompt("Say it.").with_demos([Demo({"input": "x"}, "y")])
    row = gold_row(live, prompt, example)
    asked = live.encode(prompt.messages(example.inputs))
    learned = [label for label in row["labels"] if label != -100]
    assert row["input_ids"][: len(asked)] == asked
    assert row["labels"][: len(asked)] == [-100] * len(asked)
    assert row["input_ids"][len(asked) :] == learned
    end = live.tokenizer.eos_token_id
    assert learned[-1] == end and end not in learned[:-1]  # what stands in an answer is text
    assert live.tokenizer.decode(learned[:-1]) == "ab<|im_end|>c"


def test_a_cot_answer_is_its_last_line(folder):
    live = load_model(str(folder))
    prompt = Prompt("Say it.", style="cot")
    row = gold_row(live, prompt, Example("e", {"input": "ask"}, "42"))
    learned = [label for label in row["labels"] if label != -100]
    text = live.tokenizer.decode(learned[:-1])
    assert text == "Answer: 42" and prompt.extract(text) == "42"


def test_every_pass_sees_every_row_in_a_new_order():
    seen = [picked(range(5), step, 3, "seed") for step in range(1, 6)]
    flat = [item for part in seen for item in part]
    passes = [flat[i : i + 5] for i in (0, 5, 10)]
    assert all(sorted(each) == [0, 1, 2, 3, 4] for each in passes)
    assert passes[0] != passes[1] and picked(range(5), 2, 3, "seed") == seen[1]
    assert picked(range(5), 1, 3, "other") != seen[0]


@pytest.mark.parametrize(("limit", "part"), [(64, 8), (7, 4), (3, 2), (1, 1), (0, 1)])
def test_rows_per_forward_is_a_bound(limit, part):
    assert per_forward(8, limit) == part


def test_a_step_is_the_same_in_parts(folder, tmp_path):
    rows = []
    for limit in (4, 1):
        stage = Run(SFT, folder, tmp_path / str(limit), config(steps=2, rows_per_forward=limit))
        stage.improve()
        rows.append(stage.rows("train"))
    for whole, parts in zip(*rows, strict=True):
        assert whole["grad_norm"] == pytest.approx(parts["grad_norm"], rel=1e-4)
        assert whole["loss"] == pytest.approx(parts["loss"], rel=1e-4)


def test_no_time_left_keeps_the_best_so_far(folder, tmp_path):
    stage = Run(SFT, folder, tmp_path, config(), letters, caps=Caps(seconds=1e-9))
    policy = stage.improve()
    assert [row["step"] for row in stage.rows("train")] == [1]
    before, after = stage.rows("dev")
    assert (before["step"], after["step"]) == (0, 1)  # what the one step brought is measured
    better = after["dev_score"] > before["dev_score"]
    assert policy.adapter == (tmp_path / "best" if better else None)


@pytest.mark.parametrize("method", [SFT(config()), RFT(RFTConfig()), DPO(DPOConfig())])
def test_several_processes_are_refused(folder, tmp_path, monkeypatch, method):
    stage = Run(type(method), folder, tmp_path, method.config)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ModelError, match=f"{method.name}: trains in one process, this run has 2"):
        stage.improve()


def test_bad_input_is_one_line(folder, tmp_path):
    with pytest.raises(TaskError, match="8 train examples for rows_per_step 9"):
        Run(SFT, folder, tmp_path, config(rows_per_step=9)).improve()
    bare = [*EXAMPLES[:5], Example("e9", {"input": "?"}, " ")]
    with pytest.raises(TaskError, match=r"sft: train example 'e9' has no gold answer; .*rft"):
        Run(SFT, folder, tmp_path, config(), train=bare).improve()
    long = [*EXAMPLES[:5], Example("e9", {"input": "?"}, "a" * 3000)]
    with pytest.raises(
        ModelError, match=r"sft: train example 'e9' has .* 3001 of answer"
    ) as refused:
        Run(SFT, folder, tmp_path, config(), train=long).improve()
    assert "\n" not in str(refused.value)


def test_4_bits_learn_too_and_their_audits_are_silent(folder, tmp_path):
    stage = Run(SFT, folder, tmp_path, config(weights="qlora", steps=4, audits=True), counted())
    policy = stage.improve()
    assert policy.quantization == "nf4" and policy.adapter == tmp_path / "best"
    losses = [row["loss"] for row in stage.rows("train")]
    assert losses[-1] < losses[0]
    found = read_findings(tmp_path)
    assert "checkpoint" in {finding.name for finding in found}
    assert not [finding for finding in found if finding.level == "tripped"]


@pytest.mark.slow
def test_eight_steps_on_the_real_model(tmp_path):
    settings = {"steps": 8, "eval_every": 8, "checkpoint_every": 8, "audits": False}
    after, run = on_the_real_model(SFT(SFTConfig(**settings)), tmp_path)
    losses = [row["loss"] for row in run.rows("train")]
    scores = [row["dev_score"] for row in run.rows("dev")]
    assert losses[-1] < losses[0] and scores[-1] > scores[0] and after.adapter is not None
