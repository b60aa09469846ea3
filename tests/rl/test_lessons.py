"""Training directed from outside, on the tiny random model: it learns, and what it says is so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from evaluation.training import Graded, Lesson
from evaluation.types import Policy
from lm.hf import HFModel, load_model
from lm.ledger import BudgetExhausted, Caps, Ledger
from lm.tiny import write_tiny_model
from lm.types import ModelError, Sampling
from rl.lessons import Lessons, PolicyGradient
from rl.objectives import OBJECTIVES, Batch
from tasks.types import Prompt

CHATS = [[{"role": "user", "content": "say " + "w" * i}] for i in range(4)]
LESSONS = [Lesson(chat, "yes") for chat in CHATS]
FAST = {"learning_rate": 1e-2, "lora": {"r": 4}}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # the tiny model only loses time to threads
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return Policy(str(write_tiny_model(tmp_path_factory.mktemp("tiny"))), Prompt(""))


def lessons(ledger: Ledger | None = None, seed: int = 0) -> Lessons:
    counts = ledger or Ledger()

    def load(policy: Policy) -> HFModel:
        return load_model(policy.source, adapter=policy.adapter, ledger=counts)

    return Lessons(load, counts, seed, max_tokens=8)


def likelihood(model: Any, text: str = "yes") -> float:
    """Mean log-probability in nats of that answer and its end."""
    ids = model.encode_reply(text)
    rows = model.logprobs(CHATS, [ids] * len(CHATS))
    return sum(map(sum, rows)) / len(rows)


@pytest.mark.parametrize("weights", ["lora", "full"])
def test_finetune_learns_the_answers(policy: Policy, tmp_path: Path, weights: str) -> None:
    trainer = lessons()
    settings: dict[str, Any] = {**FAST, "steps": 6, "rows_per_step": 4, "weights": weights}
    if weights == "full":
        del settings["lora"]
    before = likelihood(trainer.open(policy))
    after = trainer.finetune(policy, LESSONS, settings, tmp_path / "out")
    assert (after.weights if weights == "full" else after.adapter) == tmp_path / "out"
    assert likelihood(trainer.open(after)) > before + 3
    assert trainer.ledger.optimizer_steps == 6 and trainer.ledger.train_tokens > 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert trainer.finetune(policy, LESSONS, settings, tmp_path / "out") == after
    assert trainer.ledger.optimizer_steps == 6  # it was there


def test_finetune_goes_on_from_an_adapter(policy: Policy, tmp_path: Path) -> None:
    trainer, settings = lessons(), {**FAST, "steps": 3, "rows_per_step": 4}
    first = trainer.finetune(policy, LESSONS, settings, tmp_path / "first")
    second = trainer.finetune(first, LESSONS, settings, tmp_path / "second")
    assert likelihood(trainer.open(second)) > likelihood(trainer.open(first)) + 0.5


def group(model: Any, chat: Any, rewards: list[float]) -> list[Graded]:
    """Answers drawn by `model`, worth `rewards`."""
    sampling = Sampling(max_tokens=6, temperature=1.0, n=len(rewards), seed=len(chat[0]["content"]))
    drawn = model.generate([chat], sampling, "rollout")[0]
    return [
        Graded(chat, completion.text, reward, completion)
        for completion, reward in zip(drawn, rewards, strict=True)
    ]


def test_steps_push_up_what_was_worth_more(policy: Policy, tmp_path: Path) -> None:
    trainer = lessons()
    learner = trainer.reinforce(policy, FAST, tmp_path)
    groups = [group(learner.model(), chat, [1.0, 0.0, 0.0, 0.0]) for chat in CHATS]
    best, worst = [g[0] for g in groups], [g[1] for g in groups]

    def gap() -> float:
        model = learner.model()
        sides = []
        for rows in (best, worst):
            ids = [row.completion.token_ids for row in rows if row.completion]
            sides.append(sum(map(sum, model.logprobs([row.chat for row in rows], ids))))
        return sides[0] - sides[1]

    before = gap()
    names = [learner.model().fingerprint()]
    for _ in range(3):
        figures = learner.step(groups)
        names.append(learner.model().fingerprint())
    assert gap() > before + 1
    assert {"loss", "grad_norm", "entropy", "reward"} <= set(figures)
    assert len(set(names)) == 4
    moments = learner.optimizer.state.values()
    assert {float(state["step"]) for state in moments} == {3.0}  # one optimizer throughout
    assert trainer.ledger.optimizer_steps == 3 and trainer.ledger.train_tokens > 0


def test_a_step_whose_groups_are_all_equal_teaches_nothing(policy: Policy, tmp_path: Path) -> None:
    learner = lessons().reinforce(policy, FAST, tmp_path)
    name = learner.model().fingerprint()
    figures = learner.step([group(learner.model(), chat, [1.0, 1.0]) for chat in CHATS])
    assert figures["reward"] == 1 and all(isinstance(value, float) for value in figures.values())
    learner.step([group(learner.model(), chat, [1.0, 0.0]) for chat in CHATS])
    assert learner.model().fingerprint() != name


def test_the_first_step_is_the_objectives_own(policy: Policy, tmp_path: Path) -> None:
    """The change of the weights is Adam's first step on the gradient of the objective's loss."""
    learner = lessons().reinforce(policy, {**FAST, "max_grad_norm": 1e9}, tmp_path)
    groups = [group(learner.model(), chat, [1.0, 0.5, 0.0]) for chat in CHATS]
    trained = [p for p in learner.live.model.parameters() if p.requires_grad]
    loss = objective_loss(learner, groups)
    expected = torch.autograd.grad(loss, trained, allow_unused=True)
    before = [p.detach().clone() for p in trained]
    figures = learner.step(groups)
    assert figures["loss"] == pytest.approx(loss.item(), abs=1e-5)
    for old, new, gradient in zip(before, trained, expected, strict=True):
        if gradient is not None and gradient.abs().max() > 1e-5:
            large = gradient.abs() > 1e-5
            moved = (new.detach() - old)[large]
            torch.testing.assert_close(moved, -1e-2 * gradient[large].sign(), rtol=0.01, atol=1e-5)


def objective_loss(learner: PolicyGradient, groups: list[list[Graded]]) -> torch.Tensor:
    from lm.scoring import completion_logprobs

    rows = [row for group in groups for row in group]
    answers = [row.completion.token_ids for row in rows if row.completion]
    prompts = [learner.live.encode(row.chat) for row in rows]
    logps_BT = completion_logprobs(learner.live.model, prompts, answers).logprobs_BT
    rewards_GN = torch.tensor([[row.reward for row in group] for group in groups])
    objective = OBJECTIVES[learner.config.objective]
    mask_BT = torch.zeros_like(logps_BT)
    for i, ids in enumerate(answers):
        mask_BT[i, : len(ids)] = 1
    batch = Batch(
        logps_BT=logps_BT,
        old_logps_BT=logps_BT.detach(),
        ref_logps_BT=None,
        mask_BT=mask_BT,
        advantages_BT=objective.advantage(rewards_GN).view(-1, 1),
        rows=len(rows),
        tokens=float(mask_BT.sum()),
        longest=8,
    )
    return objective.loss(batch)[0]


def test_the_saved_weights_are_the_live_ones(policy: Policy, tmp_path: Path) -> None:
    trainer = lessons()
    learner = trainer.reinforce(policy, FAST, tmp_path / "scratch")
    learner.step([group(learner.model(), chat, [1.0, 0.0]) for chat in CHATS])
    saved = learner.save(tmp_path / "saved")
    live, loaded = (m.logprobs(CHATS, [[5, 6]] * 4) for m in (learner.model(), trainer.open(saved)))
    assert torch.allclose(torch.tensor(live), torch.tensor(loaded), atol=1e-4)
    assert not (tmp_path / "scratch").exists() or not any((tmp_path / "scratch").rglob("*.pt"))


def test_the_same_steps_give_the_same_weights(policy: Policy, tmp_path: Path) -> None:
    names = []
    for run in ("a", "b"):
        learner = lessons().reinforce(policy, FAST, tmp_path / run)
        for _ in range(2):
            learner.step([group(learner.model(), chat, [1.0, 0.0]) for chat in CHATS])
        names.append(learner.model().fingerprint())
    assert names[0] == names[1]


def test_the_distance_is_kept_to_the_policy_of_the_start(policy: Policy, tmp_path: Path) -> None:
    learner = lessons().reinforce(policy, {**FAST, "beta": 0.1}, tmp_path)
    groups = [group(learner.model(), chat, [1.0, 0.0]) for chat in CHATS]
    kl = [learner.step(groups)["kl"] for _ in range(3)]
    assert kl[0] == pytest.approx(0, abs=1e-6) and 0 < kl[1] < kl[2]


def test_a_group_may_hold_different_chats_and_unknown_tokens(
    policy: Policy, tmp_path: Path
) -> None:
    learner = lessons().reinforce(policy, FAST, tmp_path)
    mixed = [Graded(chat, "yes" if i else "no", float(i > 1)) for i, chat in enumerate(CHATS)]
    before = likelihood(learner.model())
    for _ in range(2):
        learner.step([mixed])
    assert likelihood(learner.model()) != before


def test_time_that_is_up_ends_it(policy: Policy, tmp_path: Path) -> None:
    ledger = Ledger(Caps(seconds=1.0), train_seconds=2.0)
    trainer = lessons(ledger)
    with pytest.raises(BudgetExhausted):
        trainer.finetune(policy, LESSONS, {"steps": 2}, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    learner = trainer.reinforce(policy, {}, tmp_path)
    with pytest.raises(BudgetExhausted):
        learner.step([[Graded(CHATS[0], "a", 1.0), Graded(CHATS[0], "b", 0.0)]])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"stepz": 3}, ["stepz", "steps"]),
        ({"num_train_epochs": 3}, ["num_train_epochs", "rows_per_step"]),
        ({"eval_every": 3}, ["eval_every", "leave it out"]),
        ({"steps": 0}, ["steps", "1"]),
        ({"weights": "full", "lora": {"r": 4}}, ["lora"]),
    ],
)
def test_wrong_finetune_settings_are_one_line(
    policy: Policy, tmp_path: Path, settings: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ModelError) as caught:
        lessons().finetune(policy, LESSONS, settings, tmp_path / "out")
    line = str(caught.value)
    assert "\n" not in line and all(word in line for word in ["finetune", *words]), line


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"learning_rat": 3}, ["learning_rat", "learning_rate"]),
        ({"group_size": 8}, ["group_size", "leave it out"]),
        ({"objective": "gropo"}, ["objective", "grpo"]),
    ],
)
def test_wrong_reinforce_settings_are_one_line(
    policy: Policy, tmp_path: Path, settings: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ModelError) as caught:
        lessons().reinforce(policy, settings, tmp_path)
    line = str(caught.value)
    assert "\n" not in line and all(word in line for word in ["reinforce", *words]), line


def test_rows_that_cannot_be_trained_on_are_refused(policy: Policy, tmp_path: Path) -> None:
    trainer, long = lessons(), [{"role": "user", "content": "w" * 3000}]
    with pytest.raises(ModelError, match="metric"):
        trainer.finetune(policy, [], {}, tmp_path / "out")
    with pytest.raises(ModelError, match="context window"):
        trainer.finetune(policy, [Lesson(long, "a")], {}, tmp_path / "out")
    learner = trainer.reinforce(policy, {"minibatches": 3}, tmp_path)
    pair = [Graded(CHATS[0], "a", 1.0), Graded(CHATS[0], "b", 0.0)]
    with pytest.raises(ModelError, match="divisor"):
        learner.step([pair])
    with pytest.raises(ModelError, match="same number"):
        learner.step([pair, pair[:1]])
    with pytest.raises(ModelError, match="context window"):
        learner.step([[replace(row, chat=long) for row in pair]])
