"""The only file that touches private methods of TRL's SFTTrainer and DPOTrainer (TRL 1.16).

What it changes, and nothing else: rows come as token ids, so that training sees the bytes that
sampling and evaluation see; and the forward inside TRL's losses is the one that computes a shared
prompt once. Losses, batching, accumulation and the optimizer are TRL's, untouched.
tests/rl/test_trl_supervised.py holds the equality of loss and gradient with stock TRL.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PrinterCallback
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DataCollatorForPreference, DPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling, SFTTrainer

from lm.hf import HFModel
from lm.scoring import completion_logprobs
from rl.feed import Feed, Row
from rl.weights import ADAPTER, REFERENCE


class SharedForward:
    """Answers TRL's call for per-token log-probabilities, `model(..., fused_lm_head=True)`.

    Rows are a prompt without labels, an answer with labels, padding on the right; within an answer
    what the model did not write has no labels. Of what TRL would log, top-1 accuracy and mean
    logits are not computed and are zero.
    """

    def __init__(self, model: Any, autocast: Callable[..., AbstractContextManager[Any]]):
        self.model, self.autocast = model, autocast

    def __call__(
        self, *, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, **_: Any
    ) -> SimpleNamespace:
        own_BL, real_BL = labels != -100, attention_mask.bool()
        answer_BL = (own_BL.cumsum(1) > 0) & real_BL  # from its first own token on
        prompts = [ids[m].tolist() for ids, m in zip(input_ids, real_BL & ~answer_BL, strict=True)]
        answers = [ids[m].tolist() for ids, m in zip(input_ids, answer_BL, strict=True)]
        with self.autocast():
            scored = completion_logprobs(self.model, prompts, answers, with_entropy=True)
        assert scored.entropies_BT is not None
        mask_BL = answer_BL[:, 1:]
        lengths_B = mask_BL.sum(1, keepdim=True)
        given_BT = torch.arange(scored.logprobs_BT.shape[1], device=labels.device) < lengths_B
        zeros_BL = torch.zeros(mask_BL.shape, device=labels.device)
        return SimpleNamespace(
            log_probs=zeros_BL.masked_scatter(mask_BL, scored.logprobs_BT[given_BT])
            * own_BL[:, 1:],
            entropy=zeros_BL.masked_scatter(mask_BL, scored.entropies_BT[given_BT]) * own_BL[:, 1:],
            label_mask=own_BL[:, 1:],
            is_top1=torch.zeros_like(mask_BL),
            mean_logits=zeros_BL,
        )


class SupervisedTrainer(SFTTrainer):
    """SFTTrainer on rows of `input_ids` and `labels` (-100 where no loss is) from a feed."""

    loss_is_scaled_for_ga = True  # by the number of answer tokens in the whole step

    def __init__(self, feed: Feed, live: HFModel, settings: dict[str, Any], seed_rows: int):
        self.feed = feed
        super().__init__(
            model=live.model,
            args=SFTConfig(**settings, dataset_kwargs={"skip_prepare_dataset": True}),
            train_dataset=_places(seed_rows),
            data_collator=_place_numbers,
            processing_class=live.tokenizer,
        )
        self.collate = DataCollatorForLanguageModeling(pad_token_id=_padding(live))
        self.remove_callback(PrinterCallback)

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        rows = self.feed.rows(self.state.global_step + 1)
        self.answer_tokens = sum(label != -100 for row in rows for label in row["labels"])
        return super()._prepare_inputs(self.collate(_standing_at(inputs, rows)))

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        self.feed.trained_tokens += int(inputs["attention_mask"].sum())
        shared: Any = SharedForward(self.accelerator.unwrap_model(model), self.accelerator.autocast)
        return super().compute_loss(shared, inputs, num_items_in_batch=self.answer_tokens)

    def _send_telemetry(self) -> None:
        """Nothing about what is trained here leaves the machine."""

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """A checkpoint is for resuming, not for publishing."""


class PreferenceTrainer(DPOTrainer):
    """DPOTrainer on rows of token ids with the reference's log-probabilities, from a feed.

    A row has `prompt_ids`, `chosen_ids`, `rejected_ids`, `ref_chosen_logps`, `ref_rejected_logps`.
    """

    def __init__(self, feed: Feed, live: HFModel, settings: dict[str, Any], seed_rows: int):
        self.feed = feed
        super().__init__(
            model=live.model,
            args=DPOConfig(**settings, precompute_ref_log_probs=True),
            train_dataset=_places(seed_rows),
            data_collator=_place_numbers,
            processing_class=live.tokenizer,
        )
        if REFERENCE in getattr(live.model, "peft_config", {}):  # TRL's; its work is done here
            live.model.delete_adapter(REFERENCE)
            live.model.set_adapter(ADAPTER)
        self.collate = DataCollatorForPreference(pad_token_id=_padding(live))
        self.remove_callback(PrinterCallback)

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def _precompute_ref_logps(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        rows = self.feed.rows(self.state.global_step + 1)
        return super()._prepare_inputs(self.collate(_standing_at(inputs, rows)))

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        self.feed.trained_tokens += int(inputs["attention_mask"].sum())
        shared: Any = SharedForward(self.accelerator.unwrap_model(model), self.accelerator.autocast)
        return super().compute_loss(shared, inputs)

    def _send_telemetry(self) -> None:
        """Nothing about what is trained here leaves the machine."""

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """A checkpoint is for resuming, not for publishing."""


def _places(rows: int) -> Dataset:
    return Dataset.from_dict({"place": list(range(rows))})


def _place_numbers(rows: list[dict[str, int]]) -> dict[str, Tensor]:
    return {"place": torch.tensor([row["place"] for row in rows])}


def _standing_at(inputs: dict[str, Any], rows: list[Row]) -> list[Row]:
    return [rows[place % len(rows)] for place in inputs["place"].tolist()]


def _padding(live: HFModel) -> int:
    """Any token will do: padding carries no attention and no loss."""
    known = live.tokenizer.pad_token_id
    return known if known is not None else 0
