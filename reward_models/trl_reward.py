"""The only file that touches private methods of TRL's RewardTrainer (TRL 1.16).

What it changes, and nothing else: rows come as token ids with the places where they are read, and
the forward inside TRL's loss is the one that computes what rows begin with once. Loss, batching and
optimizer are TRL's. tests/reward_models/test_training.py holds the equality with stock TRL.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PrinterCallback
from trl.trainer.reward_config import RewardConfig
from trl.trainer.reward_trainer import RewardTrainer

from lm.classifier import Classifier, place_scores

Row = dict[str, list[int]]  # chosen_ids, chosen_at, rejected_ids, rejected_at
SIDES = ("chosen", "rejected")


class PairTrainer(RewardTrainer):
    """RewardTrainer on `Row`s; a row with several places is worth the `steps` of their scores."""

    def __init__(
        self, classifier: Classifier, rows: Sequence[Row], settings: dict[str, Any], steps: str
    ):
        self.rows, self.steps = rows, steps
        super().__init__(
            model=classifier.model,
            args=RewardConfig(**settings, max_length=None, remove_unused_columns=False),
            train_dataset=Dataset.from_dict({"place": list(range(len(rows)))}),
            data_collator=_places,
            processing_class=classifier.tokenizer,
        )
        self.remove_callback(PrinterCallback)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        picked = [self.rows[i] for i in inputs["place"].tolist()]
        ids = [row[f"{side}_ids"] for side in SIDES for row in picked]
        at = [row[f"{side}_at"] for side in SIDES for row in picked]
        bare = self.accelerator.unwrap_model(model)
        shared: Any = _Shared(bare, ids, at, self.steps, self.accelerator.autocast)
        mask = torch.ones(sum(map(len, ids)))  # TRL counts tokens by it
        return super().compute_loss(shared, {"attention_mask": mask}, return_outputs)

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def _send_telemetry(self) -> None:
        """Nothing about what is trained here leaves the machine."""

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """A checkpoint is for resuming, not for publishing."""


class _Shared:
    """Answers TRL's call for the rewards of its rows."""

    def __init__(self, model: Any, ids: Any, at: Any, steps: str, autocast: Any):
        self.model, self.ids, self.at, self.steps, self.autocast = model, ids, at, steps, autocast

    def __call__(self, **_: Any) -> SimpleNamespace:
        with self.autocast():
            scores_E = place_scores(self.model, self.ids, self.at).float()
        each = scores_E.split([len(places) for places in self.at])
        return SimpleNamespace(
            logits=torch.stack([aggregated(s, self.steps) for s in each])[:, None]
        )


def aggregated(scores_S: Tensor, steps: str) -> Tensor:
    """The reward of an answer of S steps."""
    return {"": scores_S[-1], "last": scores_S[-1], "mean": scores_S.mean(), "min": scores_S.min()}[
        steps
    ]


def _places(rows: list[dict[str, int]]) -> dict[str, Tensor]:
    return {"place": torch.tensor([row["place"] for row in rows])}
