"""Our seam against stock TRL: the same loss, the same gradient, the same steps."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from datasets import Dataset
from trl.trainer.dpo_config import DPOConfig as StockDPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.sft_config import SFTConfig as StockSFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from lm.hf import load_model
from lm.tiny import write_tiny_model
from rl.config_supervised import DPOConfig, LossType, SFTConfig
from rl.dpo import DPO
from rl.sft import SFT
from rl.weights import with_adapter
from tests.rl.supervised_stage import EXAMPLES, FULL, LORA, PROMPT, Run


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # the tiny model only loses time to threads
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


def gradient(trainer: Any, loss: torch.Tensor) -> torch.Tensor:
    trainer.model.zero_grad()
    loss.backward()
    found = [p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None]
    return torch.cat(found)


def agree(trainer: Any, ours: torch.Tensor, stock: torch.Tensor) -> None:
    assert ours.item() == pytest.approx(stock.item(), rel=1e-5)
    mine, theirs = gradient(trainer, ours), gradient(trainer, stock)
    assert theirs.norm() > 1e-3
    assert (mine - theirs).norm() < 1e-4 * theirs.norm()


@pytest.mark.parametrize("weights", [LORA, FULL], ids=["lora", "full"])
def test_sft_has_trls_loss_and_gradient(folder: Path, tmp_path: Path, weights: dict) -> None:
    trainer = Run(SFT, folder, tmp_path, SFTConfig(steps=1, rows_per_step=4, **weights)).trainer()
    inputs = trainer._prepare_inputs({"place": torch.arange(4)})
    total = trainer.answer_tokens
    ours = trainer.compute_loss(trainer.model, inputs)
    agree(trainer, ours, SFTTrainer.compute_loss(trainer, trainer.model, inputs, False, total))


def pairs(folder: Path, path: Path, loss_type: LossType, weights: dict[str, Any]) -> Any:
    smoothing = 0.1 if loss_type == "exo_pair" else 0.0
    config = DPOConfig(
        steps=1, pairs_per_step=3, loss_type=loss_type, label_smoothing=smoothing,
        samples_per_prompt=16, pairs_per_prompt=2, **weights,
    )  # fmt: skip
    return Run(DPO, folder, path, config).trainer()


@pytest.mark.parametrize("loss_type", get_args(LossType))
def test_dpo_has_trls_loss_and_gradient(folder: Path, tmp_path: Path, loss_type: LossType) -> None:
    trainer = pairs(folder, tmp_path, loss_type, LORA)
    inputs = trainer._prepare_inputs({"place": torch.arange(3)})
    with torch.no_grad():  # off the reference, where some gradients are 0
        for name, weight in trainer.model.named_parameters():
            if "lora_B" in name:
                weight.add_(0.02)
    ours = trainer.compute_loss(trainer.model, inputs)
    agree(trainer, ours, DPOTrainer.compute_loss(trainer, trainer.model, inputs))


def test_dpo_adds_the_likelihood_of_the_chosen_answers(folder: Path, tmp_path: Path) -> None:
    losses = {}
    for weight in (0.0, 1.0, 2.0):
        trainer = pairs(folder, tmp_path / str(weight), "sigmoid", {**LORA, "sft_weight": weight})
        inputs = trainer._prepare_inputs({"place": torch.arange(3)})
        losses[weight] = trainer.compute_loss(trainer.model, inputs)
        agree(trainer, losses[weight], DPOTrainer.compute_loss(trainer, trainer.model, inputs))
    rows = trainer.feed.rows(1)
    tokens = sum(len(row["chosen_ids"]) for row in rows)
    likelihood = -sum(row["ref_chosen_logps"] for row in rows) / tokens  # nothing has moved yet
    assert (losses[1.0] - losses[0.0]).item() == pytest.approx(likelihood, rel=1e-4)
    assert (losses[2.0] - losses[0.0]).item() == pytest.approx(2 * likelihood, rel=1e-4)


@pytest.mark.parametrize("weights", [LORA, FULL], ids=["lora", "full"])
def test_the_reference_is_the_policy_as_it_came(folder: Path, tmp_path: Path, weights) -> None:
    trainer = pairs(folder, tmp_path, "sigmoid", weights)
    inputs = trainer._prepare_inputs({"place": torch.arange(3)})
    with torch.no_grad():
        found = trainer.compute_ref_log_probs(trainer.model, inputs)  # TRL's, untrained still
    for name, logps in zip(("ref_chosen_logps", "ref_rejected_logps"), found, strict=True):
        assert torch.allclose(inputs[name].float(), logps, atol=1e-4)


def test_sft_takes_the_steps_of_stock_trl(folder: Path, tmp_path: Path) -> None:
    config = SFTConfig(steps=4, rows_per_step=4, rows_per_forward=2, eval_every=9, **LORA)
    run = Run(SFT, folder, tmp_path / "ours", config)
    run.improve()
    feed = run.trainer().feed
    rows = [row for step in range(1, 5) for row in feed.rows(step)]
    data = Dataset.from_list(
        [
            {
                "input_ids": row["input_ids"],
                "completion_mask": [int(label != -100) for label in row["labels"]],
            }
            for row in rows
        ]
    )
    live = load_model(str(folder))
    args = StockSFTConfig(
        output_dir=str(tmp_path / "stock"), max_steps=4, per_device_train_batch_size=2,
        gradient_accumulation_steps=2, learning_rate=1e-2, lr_scheduler_type="constant",
        seed=3, bf16=False, use_cpu=True, gradient_checkpointing=False, report_to="none",
        completion_only_loss=True, max_length=None, train_sampling_strategy="sequential",
        logging_steps=1, save_strategy="no", disable_tqdm=True, max_grad_norm=1.0,
        warmup_steps=0, dataloader_pin_memory=False,
    )  # fmt: skip
    stock = SFTTrainer(
        model=with_adapter(live.model, LORA["lora"], seed=3),
        args=args, train_dataset=data, processing_class=live.tokenizer,
    )  # fmt: skip
    stock.train()
    logged = [row for row in stock.state.log_history if "loss" in row]
    for mine, theirs in zip(run.rows("train"), logged, strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
        assert mine["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-3)


def test_a_conversation_has_the_tokens_stock_trl_gives_it(folder: Path, tmp_path: Path) -> None:
    row = Run(SFT, folder, tmp_path, SFTConfig(steps=1, rows_per_step=1, **LORA)).trainer()
    ours = row.feed.every[3]
    example, live = EXAMPLES[3], load_model(str(folder))
    chat = [*PROMPT.messages(example.inputs), {"role": "assistant", "content": example.answer}]
    whole = live.tokenizer.apply_chat_template(chat)["input_ids"]
    assert ours["input_ids"] == whole[:-1]  # the template's line break behind the end
    assert ours["input_ids"][-1] == live.tokenizer.eos_token_id


def test_trl_has_what_the_seam_overrides() -> None:
    for owner, names in (
        (SFTTrainer, ["_prepare_inputs", "compute_loss", "_send_telemetry", "create_model_card"]),
        (DPOTrainer, ["_prepare_dataset", "_precompute_ref_logps", "_prepare_inputs"]),
    ):
        for name in names:
            assert callable(getattr(owner, name)), name
    assert "fused_lm_head=True" in inspect.getsource(SFTTrainer.compute_loss)
    assert "fused_lm_head=True" in inspect.getsource(DPOTrainer._compute_loss)
    assert set(get_args(LossType)) <= set(
        inspect.getsource(DPOTrainer._compute_loss).replace('"', "'").split("'")
    )
    assert StockDPOConfig.__dataclass_fields__["loss_type"]
