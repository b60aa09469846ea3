"""The seam must be invisible: same inputs, same loss, same gradient as stock TRL."""

from __future__ import annotations

import inspect
import math
from pathlib import Path

import pytest
import torch
import trl
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.rloo_trainer import RLOOTrainer
from trl.trainer.utils import split_tensor_dict

import rl.trl_seam
from evaluation.types import Context
from lm.hf import HFModel, load_model
from lm.ledger import Ledger
from lm.tiny import write_tiny_model
from lm.types import Sampling
from reward_models.task import TaskReward
from rl.config import GRPOConfig, LoraConfig
from rl.grpo import prompts_in_order, trainer_arguments
from rl.objective_file import load_objective
from rl.objectives import OBJECTIVES
from rl.rollouts import Rollouts
from rl.trl_seam import SeamTrainer
from rl.weights import with_adapter
from tasks.types import Demo, Example, Prompt, Score

PROMPT = Prompt("Answer with an e.", demos=(Demo({"input": "a long enough start"}, "e"),))
GROUP = 4


class StockTrainer(SeamTrainer):
    """TRL's own advantages, forward and loss on our rollouts."""

    def _generate_and_score_completions(self, inputs):
        rows = self.rollouts.collect(inputs, self.state.global_step + 1)
        self.model.train()
        return GRPOTrainer._generate_and_score_completions(self, rows)

    _compute_loss = GRPOTrainer._compute_loss
    _get_per_token_logps_and_entropies = GRPOTrainer._get_per_token_logps_and_entropies


def examples(count: int = 6) -> list[Example]:
    return [Example(f"e{i}", {"input": "w" * (i + 1)}, "e") for i in range(count)]


def uneven(example: Example, text: str) -> Score:
    """Every other example is worth the same whatever is answered: a dead group."""
    if int(example.id[1:]) % 2:
        return Score(0.0, False)
    return Score((sum(map(ord, text)) % 7) / 7, False)


def dead(example: Example, text: str) -> Score:
    return Score(0.0, False)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # the tiny model only loses time to threads
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


def make_trainer(folder: Path, tmp_path: Path, score=uneven, **settings) -> SeamTrainer:
    config = GRPOConfig(
        steps=1, prompts_per_step=6, group_size=GROUP, lora=LoraConfig(r=4), **settings
    )
    opened = load_model(str(folder))
    live = HFModel(with_adapter(opened.model, config.lora, 0), opened.tokenizer, name="tiny")
    with torch.no_grad():  # a fresh adapter is zero: no gradient for A, no distance to a reference
        for name, parameter in live.model.named_parameters():
            if "lora_B" in name:
                torch.manual_seed(len(name))
                parameter.normal_(std=0.05)
    sampling = Sampling(max_tokens=8, temperature=config.temperature, n=GROUP)
    task = TaskReward(score, PROMPT, {e.id: e for e in examples()})
    context = Context(
        score, lambda _: live, Ledger(), tmp_path, Sampling(max_tokens=8), 0, lambda *_, **__: None
    )
    trainer = SeamTrainer(
        Rollouts(live, sampling, 0, task, task),
        load_objective(config.objective),
        config.clip(),
        beta=config.beta,
        model=live.model,
        args=trainer_arguments(config, context, live),
        train_dataset=prompts_in_order(config, PROMPT, examples(), 0),
        processing_class=live.tokenizer,
    )
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    if settings.get("beta"):  # the reference is a copy from before: move away from it
        with torch.no_grad():
            for name, parameter in trainer.model.named_parameters():
                if "lora_B.default" in name:
                    parameter.mul_(1.7)
    return trainer


def batch(trainer: SeamTrainer) -> dict:
    rows = [row for row in trainer.train_dataset for _ in range(GROUP)]
    return trainer._generate_and_score_completions(rows)


def loss_and_gradient(trainer: SeamTrainer, inputs: dict) -> tuple[float, torch.Tensor]:
    trainer.model.zero_grad()
    loss = trainer._compute_loss(trainer.model, inputs)
    loss.backward()
    trained = [p for p in trainer.model.parameters() if p.requires_grad]
    assert all(p.grad is not None for p in trained)
    return loss.item(), torch.cat([p.grad.flatten() for p in trained])


def as_stock(trainer: SeamTrainer, objective: str) -> None:
    """The same trainer as TRL's own, told in TRL's words what the objective is."""
    trainer.__class__ = StockTrainer
    trainer.loss_type = "grpo" if objective == "gspo" else objective
    trainer.importance_sampling_level = "sequence" if objective in ("gspo", "luspo") else "token"
    trainer.scale_rewards = "none" if objective == "dr_grpo" else "group"
    trainer.epsilon_low, trainer.epsilon_high = trainer.clip
    trainer.beta = trainer.kl_beta
    trainer.max_completion_length = trainer.rollouts.sampling.max_tokens


@pytest.mark.parametrize("objective", [name for name in OBJECTIVES if name != "rloo"])
@pytest.mark.parametrize("beta, moved", [(0.0, 0.0), (0.1, 0.0), (0.0, 0.3), (0.1, 0.3)])
def test_loss_and_gradient_equal_stock_trl(folder, tmp_path, objective, beta, moved):
    trainer = make_trainer(folder, tmp_path, objective=objective, beta=beta, temperature=0.8)
    inputs = batch(trainer)
    assert 0 < (inputs["advantages"] == 0).sum() < len(inputs["advantages"])
    move(trainer, inputs, moved)
    loss, gradient = loss_and_gradient(trainer, inputs)

    as_stock(trainer, objective)
    stock_inputs = batch(trainer)
    move(trainer, stock_inputs, moved)
    stock_loss, stock_gradient = loss_and_gradient(trainer, stock_inputs)

    assert inputs.keys() == stock_inputs.keys()
    for name, value in inputs.items():
        torch.testing.assert_close(value, stock_inputs[name], atol=2e-5, rtol=1e-4)
    assert loss == pytest.approx(stock_loss, abs=1e-5 if moved else 1e-6)
    assert gradient.norm() > 1e-3
    assert torch.cosine_similarity(gradient, stock_gradient, dim=0) >= 0.9999
    assert (gradient - stock_gradient).norm() / stock_gradient.norm() <= 1e-4


def move(trainer: SeamTrainer, inputs: dict, by: float) -> None:
    """As if the answers came from a policy that is `by` nats a token away."""
    if by:
        noise = torch.randn(
            inputs["completion_ids"].shape, generator=torch.Generator().manual_seed(0)
        )
        inputs["old_per_token_logps"] = inputs["sampling_per_token_logps"] + by * noise


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_step_in_several_forwards_is_the_same_step(folder, tmp_path, objective):
    """Some of its forwards have no row that teaches; stock TRL splits the step alike."""
    found = {}
    for rows, stock in ((24, False), (4, False), (4, True)):
        if stock and objective == "rloo":
            continue
        trainer = make_trainer(folder, tmp_path, objective=objective, rows_per_forward=rows)
        if stock:
            as_stock(trainer, objective)
        inputs = batch(trainer)
        move(trainer, inputs, 0.3)
        parts = 24 // rows
        trainer.current_gradient_accumulation_steps = parts
        trainer.model.zero_grad()
        for part in split_tensor_dict(inputs, parts):
            trainer._compute_loss(trainer.model, part).backward()
        grads = [p.grad.flatten() for p in trainer.model.parameters() if p.requires_grad]
        found[rows, stock] = torch.cat(grads)
    split = found.pop((4, False))
    if objective == "bnpo":  # by definition another step
        del found[24, False]
    for other in found.values():
        assert (split - other).norm() / other.norm() <= 1e-4


@pytest.mark.parametrize("objective", ["grpo", "dr_grpo"])
def test_answers_without_a_reward_are_left_out_as_in_trl(folder, tmp_path, objective):
    trainer = make_trainer(folder, tmp_path, objective=objective)
    some = [None if i % 3 == 0 or i // 4 == 2 or (i // 4 == 4 and i % 4) else i * 5 % 7
            for i in range(24)]  # fmt: skip
    trainer.rollouts.reward = lambda *_, **__: some
    advantages = batch(trainer)["advantages"]
    as_stock(trainer, objective)
    torch.testing.assert_close(advantages, batch(trainer)["advantages"], atol=1e-6, rtol=0)
    assert advantages.any() and not advantages[[i for i in range(24) if some[i] is None]].any()


@pytest.mark.parametrize("moved", [0.0, 0.3])
def test_rloo_equals_stock_trl(folder, tmp_path, moved):
    trainer = make_trainer(folder, tmp_path, objective="rloo", temperature=0.8)
    inputs = batch(trainer)
    rewards = torch.tensor(trainer.rollouts.rewards).view(-1, GROUP)
    others = (rewards.sum(1, keepdim=True) - rewards) / (GROUP - 1)
    torch.testing.assert_close(inputs["advantages"], (rewards - others).flatten())
    move(trainer, inputs, moved)
    loss, gradient = loss_and_gradient(trainer, inputs)
    as_stock(trainer, "rloo")
    old = inputs.get("old_per_token_logps")
    if old is None:
        ids, mask = (
            torch.cat([inputs[f"prompt_{kind}"], inputs[f"completion_{kind}"]], 1)
            for kind in ("ids", "mask")
        )
        with torch.no_grad():
            old, *_ = trainer._get_per_token_logps_and_entropies(
                trainer.model, ids, mask, inputs["completion_ids"].shape[1]
            )
    inputs["old_logps"] = (old * inputs["completion_mask"]).sum(1)
    trainer.model.zero_grad()
    stock_loss = RLOOTrainer._compute_loss(trainer, trainer.model, inputs)
    stock_loss.backward()
    stock = torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.requires_grad])
    assert loss == pytest.approx(stock_loss.item(), abs=1e-5)
    assert gradient.norm() > 1e-3
    assert (gradient - stock).norm() / stock.norm() <= 1e-4


def test_an_objective_from_a_file_is_trained_on(folder, tmp_path):
    """The example that we ship is DAPO written anew: the same loss, gradient and clip ratio."""
    shipped = Path(__file__).parents[2] / "examples/your-own-objective/my_objective.py"
    found, clip_ratios = {}, []
    for objective in ("dapo", f"{shipped}:loss"):
        trainer = make_trainer(folder, tmp_path, objective=objective, temperature=0.8)
        inputs = batch(trainer)
        move(trainer, inputs, 0.3)
        trainer.clip = (0.2, 0.28)
        found[objective] = *loss_and_gradient(trainer, inputs), inputs["advantages"]
        clip_ratios.append(trainer._metrics["train"]["objective/clip_ratio"][-1])
    (loss, gradient, advantages), (own_loss, own_gradient, own_advantages) = found.values()
    assert 0 < clip_ratios[0] < 1 and clip_ratios[0] == pytest.approx(clip_ratios[1])
    assert loss == pytest.approx(own_loss, abs=1e-6)
    torch.testing.assert_close(gradient, own_gradient, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(advantages, own_advantages)


def test_rows_without_signal_cost_no_forward(folder, tmp_path, monkeypatch):
    trainer = make_trainer(folder, tmp_path)
    inputs = batch(trainer)
    seen: list[int] = []
    logprobs = rl.trl_seam.completion_logprobs
    monkeypatch.setattr(
        rl.trl_seam,
        "completion_logprobs",
        lambda model, prompts, *rest, **options: (
            seen.append(len(prompts)) or logprobs(model, prompts, *rest, **options)
        ),
    )
    trainer._compute_loss(trainer.model, inputs)
    live = int((inputs["advantages"] != 0).sum())
    assert seen == [live] and live < len(inputs["advantages"])
    tokens = inputs["prompt_mask"].sum(1) + inputs["completion_mask"].sum(1)
    assert trainer.rollouts.trained_tokens == int(tokens[inputs["advantages"] != 0].sum())


def test_a_kl_term_makes_every_row_count(folder, tmp_path):
    trainer = make_trainer(folder, tmp_path, beta=0.1, score=dead)
    _, gradient = loss_and_gradient(trainer, batch(trainer))
    assert gradient.norm() > 0


def test_a_dead_batch_has_a_zero_gradient(folder, tmp_path):
    trainer = make_trainer(folder, tmp_path, score=dead)
    loss, gradient = loss_and_gradient(trainer, batch(trainer))
    assert loss == 0.0 and not gradient.any()
    assert math.isnan(trainer._metrics["train"]["entropy"][-1])  # TRL leaves NaN out of its means
    assert trainer.rollouts.trained_tokens == 0 and trainer.rollouts.logprob_gap is None


def test_entropy_is_that_of_the_rows_computed(folder, tmp_path):
    trainer = make_trainer(folder, tmp_path)
    inputs = batch(trainer)
    live = inputs["advantages"] != 0
    trainer._metrics["train"].clear()
    trainer._compute_loss(trainer.model, inputs)
    (ours,) = trainer._metrics["train"]["entropy"]
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)[live]
    mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)[live]
    width = inputs["completion_ids"].shape[1]
    trainer.__class__ = StockTrainer
    _, entropies, _ = trainer._get_per_token_logps_and_entropies(
        trainer.model, ids, mask, width, compute_entropy=True
    )
    kept = mask[:, -width:]
    assert ours == pytest.approx(((entropies * kept).sum() / kept.sum()).item(), abs=1e-4)


def test_sampler_and_trainer_agree(folder, tmp_path):
    trainer = make_trainer(folder, tmp_path)
    trainer._compute_loss(trainer.model, batch(trainer))
    assert 0 < trainer.rollouts.logprob_gap < 1e-4


def test_rows_come_group_by_group_and_depend_on_seed_and_step(folder, tmp_path):
    rollouts = make_trainer(folder, tmp_path).rollouts
    rows = [
        {"prompt": PROMPT.messages(e.inputs), "example_id": e.id}
        for e in examples(3)
        for _ in range(GROUP)
    ]

    def drawn(step: int) -> dict:
        assert rollouts.collect(rows, step) == rows
        return rollouts.for_trl()

    first = drawn(1)
    assert first["prompt_ids"] == [rollouts.model.encode(row["prompt"]) for row in rows]
    assert all(map(len, first["completion_ids"]))
    assert first == drawn(1)
    assert first["completion_ids"] != drawn(2)["completion_ids"]


def test_only_the_adapter_being_trained_is_trained(folder, tmp_path):
    trainer = make_trainer(folder, tmp_path, beta=0.1)
    names = [name for name, p in trainer.model.named_parameters() if p.requires_grad]
    assert names and all(".default." in name for name in names)


def parameters(method) -> list[str]:
    return list(inspect.signature(method).parameters)


def test_trl_is_the_one_this_was_written_for():
    assert trl.__version__.startswith("1.16."), "read rl/trl_seam.py against the new TRL"
    assert parameters(GRPOTrainer._get_per_token_logps_and_entropies)[:8] == [
        "self",
        "model",
        "input_ids",
        "attention_mask",
        "logits_to_keep",
        "batch_size",
        "compute_entropy",
        "compute_aux_loss",
    ]
    assert parameters(GRPOTrainer._compute_loss) == ["self", "model", "inputs"]
    assert parameters(GRPOTrainer._generate_and_score_completions) == ["self", "inputs"]
    assert parameters(GRPOTrainer._send_telemetry) == ["self"]
    assert parameters(GRPOTrainer.create_model_card)[0] == "self"


def test_trl_still_uses_what_the_seam_overrides():
    loss = inspect.getsource(GRPOTrainer._compute_loss)
    assert loss.count("self._get_per_token_logps_and_entropies(") == 1
    for name in ("prompt_mask", "completion_mask", "advantages", "num_items_in_batch"):
        assert f'inputs["{name}"]' in loss
    generate = inspect.getsource(GRPOTrainer._generate)
    assert "self.rollout_func(prompts, self)" in generate
    assert "self._compute_loss(model, inputs)" in inspect.getsource(GRPOTrainer.compute_loss)
