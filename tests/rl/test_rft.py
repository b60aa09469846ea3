"""RFT on the tiny random model: it learns from what it got right, and a kill leaves no trace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from evaluation.types import Context, Policy
from lm.hf import HFModel, load_model
from lm.ledger import Caps, Ledger
from lm.tiny import write_tiny_model
from lm.types import Sampling
from reward_models.types import RewardError
from rl.config import LoraConfig
from rl.config_supervised import RFTConfig
from rl.drawn import Draws, next_prompts
from rl.journal import Journal
from rl.rft import RFT, accepted
from rl.rollouts import SCHEMA
from rl.trl_supervised import SupervisedTrainer
from rl.weight_method import Stage, WeightMethod
from tasks.load import load_task
from tasks.types import Demo, Prompt, Score, TaskError
from tests.rl.supervised_stage import FULL, LORA, Killed, Run, kill_at, kill_at_seal


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # the tiny model only loses time to threads
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


def short(example, text: str) -> Score:
    """Correct when it says anything and ends at once: `finish` is what a random model learns."""
    value = max(0.0, 1 - len(text) / 6)
    return Score(value, 0 < value < 1)


def config(**changes) -> RFTConfig:
    settings = {
        "rounds": 2,
        "steps": 4,
        "rows_per_step": 4,
        "eval_every": 2,
        "checkpoint_every": 2,
        "samples_per_prompt": 32,
        "prompts_per_round": 6,
        **LORA,
    }
    return RFTConfig(**{**settings, **changes})


def run(folder: Path, path: Path, **changes) -> Run:
    return Run(RFT, folder, path, config(**changes), short)


def test_it_learns(folder, tmp_path):
    stage = run(folder, tmp_path, steps=16, rows_per_step=8, eval_every=16, start="newest")
    policy = stage.improve()
    first, second = stage.rows("draw")
    assert second["score"] > first["score"] + 0.2 and second["clipped"] < first["clipped"]
    assert policy.adapter == tmp_path / "best"


def test_what_a_stage_leaves_behind(folder, tmp_path):
    stage = run(folder, tmp_path)
    stage.improve()
    assert [row["step"] for row in stage.rows("train")] == [*range(1, 9)]
    assert [row["step"] for row in stage.rows("dev")] == [0, 2, 4, 6, 8]
    draws, rows = stage.rows("draw"), stage.rollouts()
    assert [row["step"] for row in draws] == [1, 5]
    assert [row["rollouts"] for row in draws] == [192, 384]
    assert set(rows[0]) == set(SCHEMA.names) and len(rows) == 384
    for draw in draws:
        mine = [row for row in rows if row["step"] == draw["step"]]
        kept = [row for row in mine if row["advantage"] == 1]
        assert len(mine) == 192 and len(kept) == draw["accepted"] > 0
        assert {row["advantage"] for row in mine} == {0.0, 1.0}
        assert all(row["finish"] == "stop" and 0 < row["score"] < 1 for row in kept)
        assert draw["score"] == pytest.approx(sum(row["score"] for row in mine) / len(mine))
    assert len({row["example_id"] for row in rows if row["step"] == 1}) == 6
    assert stage.ledger.usage["rollout"].completions == 384
    assert stage.ledger.optimizer_steps == 8 and stage.ledger.train_tokens > 0
    assert not (tmp_path / "checkpoints").exists() and not (tmp_path / "rollouts").exists()
    assert {"score", "accepted"} <= stage.lines[2].keys()  # two parts were drawn before


def test_an_accepted_answer_is_learned_as_it_was_drawn(folder, tmp_path):
    trainer = run(folder, tmp_path).trainer()
    inputs = trainer._prepare_inputs({"place": torch.arange(4)})
    kept = [row for row in trainer.feed.draws.taken(trainer.feed.stage.train[:0], 0, again=True,
            report=print)]  # fmt: skip
    assert not kept  # nothing was asked for
    live: HFModel = trainer.feed.stage.live
    for ids, labels, mask in zip(*(inputs[n] for n in ("input_ids", "labels", "attention_mask")),
                                 strict=True):  # fmt: skip
        whole = ids[mask.bool()].tolist()
        answer = [token for token in labels.tolist() if token != -100]
        asked = whole[: -len(answer)]
        assert whole == asked + answer and answer[-1] in live.ends
        prompts = [live.encode(trainer.feed.stage.policy.prompt.messages(e.inputs))
                   for e in trainer.feed.stage.train]  # fmt: skip
        assert asked in prompts


def answer(text: str, *, example: str = "e", correct: bool = True, finish: str = "stop", **more):
    return {"example_id": example, "text": text, "correct": correct, "finish": finish, **more}


def test_what_is_accepted():
    answers = [
        answer("a"),
        answer("a"),  # once is enough
        answer("b", correct=False),
        answer("c", finish="length"),  # shows no end
        answer("d"),
        answer("e"),
        answer("a", example="f"),
    ]
    assert accepted(answers, None, 2) == [0, 4, 6]
    rewarded = [{**row, "reward": r} for row, r in zip(answers, [1, 1, 3, 3, 2, None, 1.5],
                                                       strict=True)]  # fmt: skip
    assert accepted(rewarded, 1.5, 9) == [2, 4, 6]


def test_rounds_go_on_in_train(folder, tmp_path):
    stage = run(folder, tmp_path).trainer().feed.stage
    rounds = [[e.id for e in next_prompts(stage, 4, number)] for number in range(3)]
    assert not set(rounds[0]) & set(rounds[1]) and all(len(set(each)) == 4 for each in rounds)
    assert len(next_prompts(stage, 99, 5)) == len(stage.train)


@pytest.mark.parametrize("start", ["incoming", "newest"])
def test_where_a_round_starts(folder, tmp_path, start):
    trainer = run(folder, tmp_path, start=start, warmup_steps=2).trainer()
    names = [name for name, p in trainer.model.named_parameters() if p.requires_grad]
    before = {name: trainer.model.get_parameter(name).detach().clone() for name in names}
    trainer.args.max_steps = 4
    trainer.train()
    trainer.feed.rows(5)
    moved = any(not torch.equal(before[n], trainer.model.get_parameter(n)) for n in names)
    assert moved == (start == "newest")
    assert bool(trainer.optimizer.state) == (start == "newest")
    warmth = [trainer.lr_scheduler.lr_lambdas[0](update) for update in range(6)]
    assert warmth == ([0, 0.5, 1, 1, 0, 0.5] if start == "incoming" else [0, 0.5, 1, 1, 1, 1])


@pytest.fixture(scope="module")
def undisturbed(folder, tmp_path_factory):
    result = run(folder, tmp_path_factory.mktemp("undisturbed")).outcome()
    assert result["weights"] is not None
    return result


@pytest.mark.parametrize(
    ("owner", "name", "call", "parts", "steps"),
    [
        (Draws, "_draw", 2, 3, 8),  # in the first round, one part on disk
        (SupervisedTrainer, "compute_loss", 2, 2, 8),  # all drawn, no checkpoint yet
        (SupervisedTrainer, "compute_loss", 4, 2, 6),  # in the middle of a round
        (Draws, "_draw", 4, 1, 4),  # in the second round
        (SupervisedTrainer, "compute_loss", 5, 0, 4),  # right behind its draws
        (SupervisedTrainer, "compute_loss", 8, 0, 2),  # in the middle of the second round
        (Journal, "finish", 1, 0, 0),
    ],
)
def test_a_killed_run_ends_as_if_undisturbed(
    folder, tmp_path, monkeypatch, undisturbed, owner, name, call, parts, steps
):
    stage = run(folder, tmp_path)
    with monkeypatch.context() as patch:
        kill_at(patch, owner, name, call)
        with pytest.raises(Killed):
            stage.improve()
    drawn: list[int] = []
    learned: list[int] = []
    draw, loss = Draws._draw, SupervisedTrainer.compute_loss
    monkeypatch.setattr(Draws, "_draw", lambda *a: drawn.append(1) or draw(*a))
    monkeypatch.setattr(
        SupervisedTrainer, "compute_loss", lambda *a, **k: learned.append(1) or loss(*a, **k)
    )
    assert stage.outcome() == undisturbed
    assert (len(drawn), len(learned)) == (parts, steps)


@pytest.mark.parametrize("start", ["incoming", "newest"])
def test_full_weights_and_torn_checkpoints_resume_too(folder, tmp_path, monkeypatch, start):
    settings = {**FULL, "lora": LoraConfig(), "start": start, "checkpoint_every": 1}
    expected = run(folder, tmp_path / "whole", **settings).outcome()
    killed = run(folder, tmp_path / "killed", **settings)
    for step in (4, 7):
        with monkeypatch.context() as patch:
            kill_at_seal(patch, step)
            with pytest.raises(Killed):
                killed.improve()
    assert killed.outcome() == expected


def test_a_spent_budget_learns_from_what_it_bought(folder, tmp_path, monkeypatch):
    caps = Caps(rollouts=100)
    stage = Run(RFT, folder, tmp_path / "whole", config(), short, caps=caps)
    expected = stage.outcome()
    assert [row["rollouts"] for row in stage.rows("draw")] == [128]  # one part of two
    assert [row["step"] for row in stage.rows("train")] == [1, 2, 3, 4]  # and no second round
    assert stage.rows("dev")[-1]["step"] == 4 and Journal(tmp_path / "whole").finished()
    killed = Run(RFT, folder, tmp_path / "killed", config(), short, caps=caps)
    with monkeypatch.context() as patch:
        kill_at(patch, SupervisedTrainer, "compute_loss", 4)
        with pytest.raises(Killed):
            killed.improve()
    assert killed.outcome() == expected


def test_nothing_accepted_ends_the_stage(folder, tmp_path):
    stage = run(folder, tmp_path, accept=2.0)
    assert stage.improve().adapter is None
    assert [row["accepted"] for row in stage.rows("draw")] == [0]
    assert len(stage.rollouts()) == 192 and not any(r["advantage"] for r in stage.rollouts())
    assert not stage.rows("train") and [row["step"] for row in stage.rows("dev")] == [0]
    assert "nothing to learn from" in stage.lines[-1]["note"]


def test_rewards_of_ones_own(folder, tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(
        "def shy(completions, **_):\n    return [-len(c[-1]['content']) for c in completions]\n"
    )
    stage = run(folder, tmp_path / "stage", reward=f"{mine}:shy", accept=-5.0, rounds=1)
    stage.improve()
    kept = [row for row in stage.rollouts() if row["advantage"]]
    assert kept and all(row["reward"] == -len(row["text"]) >= -5 for row in kept)


def test_bad_input_is_one_line(folder, tmp_path):
    with pytest.raises(ValueError, match="eval_every: a round of 4 steps would end unmeasured"):
        config(eval_every=3)
    assert config(eval_every=3, rounds=1).expected_rollouts() == 192
    with pytest.raises(RewardError, match="unknown 'tsk'"):
        run(folder, tmp_path, reward="tsk").improve()
    method: WeightMethod = RFT(config())
    stage = run(folder, tmp_path)
    with pytest.raises(TaskError, match="rft: no dev examples"):
        method.check(stage.policy(), stage.train, [], short)
    assert issubclass(Stage, object)


@pytest.mark.slow
def test_one_round_on_the_real_model(tmp_path):
    task = load_task("inflection")
    train = list(task.split("train"))
    demos = [Demo(example.inputs, example.answer) for example in train[:4]]
    ledger = Ledger()
    context = Context(
        score=task.score,
        open=lambda p: load_model(p.source, adapter=p.adapter, ledger=ledger),
        ledger=ledger,
        folder=tmp_path,
        sampling=Sampling(max_tokens=16),
        seed=0,
        progress=lambda step, total, **figures: print(step, total, figures),
    )
    policy = Policy("smollm2-135m", Prompt.of(task).with_demos(demos))
    settings = {"rounds": 1, "steps": 4, "prompts_per_round": 32, "samples_per_prompt": 4}
    RFT(RFTConfig(**settings, eval_every=4, checkpoint_every=4)).improve(
        policy, train[4:], list(task.split("dev"))[:32], context
    )
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    draw = next(row for row in rows if row["phase"] == "draw")
    losses = [row["loss"] for row in rows if row["phase"] == "train"]
    assert 0 < draw["accepted"] < 128 and 0 < draw["score"] < 1
    assert len(losses) == 4 and losses[-1] < losses[0]
