"""Training a reward model from pairs: which of two answers to a question is better?

A Bradley-Terry model (1952) as in Christiano et al. (2017, arXiv:1706.03741) and Ouyang et al.
(2022, arXiv:2203.02155): an open-weight LM with a head of one number, trained so that the sigmoid
of the difference of two answers' numbers is how probably the first is preferred. TRL's
RewardTrainer underneath. Kept simple: a constant number of passes over the pairs and no early
stopping, so the held-out pairs choose nothing and their accuracy is an honest one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, set_seed
from transformers.trainer_utils import get_last_checkpoint

from lm.classifier import Classifier, new_classifier, read_scores
from lm.hf import first_line
from lm.ledger import Stopwatch
from lm.source import resolve, weights_fingerprint
from lm.staging import staged_folder
from lm.types import ModelError
from reward_models.card import CARD, Card, Reads, Steps
from reward_models.learned import AGGREGATES, load_learned
from reward_models.margins import Figures, figures
from reward_models.pairs import Pair, question_digest
from reward_models.trl_reward import PairTrainer, Row
from tasks.types import Prompt

Report = Callable[[int, int, float], None]  # steps done, of how many, loss


@dataclass(frozen=True)
class Training:
    """How to train. `passes` over the pairs, `batch` pairs a step, a low-rank adapter of rank
    `rank` on all linear layers, or with `head_only` nothing but the head."""

    passes: int = 1
    batch: int = 16
    learning_rate: float | None = None  # None: 3e-4, head only 3e-3
    rank: int = 16
    head_only: bool = False
    seed: int = 0
    pairs_per_forward: int = 16
    checkpoint_every: int = 20

    def rate(self) -> float:
        """The learning rate: as written, else what fits what is trained."""
        if self.learning_rate is not None:
            return self.learning_rate
        return 3e-3 if self.head_only else 3e-4


def train_reward(
    source: str,
    train: Sequence[Pair],
    held_out: Sequence[Pair],
    out: Path,
    *,
    prompt: Prompt,
    reads: Reads = "task",
    steps: Steps = "",
    training: Training | None = None,
    told: dict[str, Any] | None = None,
    device: str = "auto",
    report: Report | None = None,
) -> Card:
    """Train a reward model from the LM `source` and write it to the folder `out`; returns its card.

    `told` is kept in the card beside the figures on `held_out`, which are of the model as it was
    written. Checkpoints lie in `out` with `.work` behind its name until then: the same call after
    a kill goes on from the newest. Raises ModelError.
    """
    training = training or Training()
    folder, work = resolve(source), work_folder(out)
    with Stopwatch() as watch:
        classifier = new_classifier(folder, device)
        fingerprint = weights_fingerprint(folder)
        _rows(classifier, held_out, steps)  # one that does not fit must not show after training
        pairs = [astuple(pair) for pair in train]
        _keep_own_checkpoints(work, [fingerprint, pairs, steps, asdict(training)])
        trainer = _trainer(classifier, train, work, steps, training, report)
        trainer.train(resume_from_checkpoint=_newest(work))
    model: Any = trainer.model
    if not training.head_only:
        model = model.merge_and_unload()
    card = Card(reads, prompt, steps, told={
        "base": source, **(told or {}), "base_fingerprint": fingerprint,
        "training": asdict(training), "train_pairs": len(train), "held_out_pairs": len(held_out),
        "learned_from": sorted({question_digest(pair.question) for pair in train}),
    })  # fmt: skip
    with staged_folder(out) as draft:
        model.save_pretrained(str(draft))
        classifier.tokenizer.save_pretrained(str(draft))
        card = _examined(draft, card, held_out, round(watch.seconds), device)
    shutil.rmtree(work, ignore_errors=True)
    return card


def work_folder(out: Path) -> Path:
    """Where what is needed to go on after a kill lies until `out` is done."""
    return out.with_name(f"{out.name}.work")


def _trainer(
    classifier: Classifier,
    train: Sequence[Pair],
    work: Path,
    steps: Steps,
    training: Training,
    report: Report | None,
) -> PairTrainer:
    prepared = _prepared(classifier, training)
    rows = _rows(prepared, train, steps)
    trainer = PairTrainer(prepared, rows, _settings(prepared, training, work), steps)
    if report is not None:
        trainer.add_callback(_Reporting(report))
    return trainer


def _prepared(classifier: Classifier, training: Training) -> Classifier:
    """The classifier with the weights that are trained, and no others, taking a gradient."""
    model = classifier.model
    if training.head_only:
        model.requires_grad_(False)
        model.score.requires_grad_(True)
        return classifier
    import peft  # not above `lm.hf`, which silences what it loads

    set_seed(training.seed)  # of the A matrices
    try:
        config = peft.LoraConfig(
            r=training.rank,
            lora_alpha=2 * training.rank,
            target_modules="all-linear",
            task_type="SEQ_CLS",
        )
        return replace(classifier, model=peft.get_peft_model(model, config))
    except Exception as error:
        raise ModelError(
            f"model: takes no adapter ({first_line(error)}); write --head-only"
        ) from error


def _rows(classifier: Classifier, pairs: Sequence[Pair], steps: Steps) -> list[Row]:
    """Raises ModelError when a pair does not fit the model's window."""
    chats = [pair.chat for pair in pairs]
    sides = [
        classifier.rows_of(chats, [getattr(pair, side) for pair in pairs], bool(steps))
        for side in ("chosen", "rejected")
    ]
    longest = max(len(row) for rows, _ in sides for row in rows)
    if classifier.window is not None and longest > classifier.window:
        raise ModelError(
            f"model: a pair of {longest} tokens exceeds the context window of {classifier.window}; "
            "leave it out"
        )
    return [
        {"chosen_ids": a, "chosen_at": b, "rejected_ids": c, "rejected_at": d}
        for a, b, c, d in zip(*sides[0], *sides[1], strict=True)
    ]


def _settings(classifier: Classifier, training: Training, work: Path) -> dict[str, Any]:
    device = classifier.model.device
    part = max(n for n in range(1, training.pairs_per_forward + 1) if training.batch % n == 0)
    return {
        "output_dir": str(work / "checkpoints"),
        "num_train_epochs": training.passes,
        "per_device_train_batch_size": part,
        "gradient_accumulation_steps": training.batch // part,
        "learning_rate": training.rate(),
        "lr_scheduler_type": "linear",
        "warmup_steps": 0.05,  # of all steps
        "optim": "adamw_torch",
        "gradient_checkpointing": False,
        "seed": training.seed,
        "bf16": device.type == "cuda" and torch.cuda.is_bf16_supported(),
        "use_cpu": device.type == "cpu",
        "dataloader_pin_memory": device.type == "cuda",
        # a whole model is too large to be written again and again for a head soon trained
        "save_strategy": "no" if training.head_only else "steps",
        "save_steps": training.checkpoint_every,
        "save_total_limit": 2,
        "logging_steps": 1,
        "disable_tqdm": True,
        "report_to": "none",
    }


def _keep_own_checkpoints(work: Path, facts: Any) -> None:
    """Drop checkpoints of another training, which left them in the same place."""
    key, path = hashlib.sha256(json.dumps(facts).encode()).hexdigest(), work / "training"
    if not path.exists() or path.read_text(encoding="utf-8") != key:
        shutil.rmtree(work / "checkpoints", ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    path.write_text(key, encoding="utf-8")


def _newest(work: Path) -> str | None:
    folder = work / "checkpoints"
    return get_last_checkpoint(str(folder)) if folder.is_dir() else None


def _examined(
    folder: Path, card: Card, held_out: Sequence[Pair], seconds: int, device: str
) -> Card:
    """The card with what the saved model says of the held-out pairs, written into its folder."""
    (folder / CARD).write_text(card.to_json(), encoding="utf-8")
    assert card.prompt is not None
    classifier = load_learned(folder, card.prompt, {}, device=device).classifier
    found = pair_scores(classifier, held_out, card.steps)
    center = sum(a + b for a, b in found) / (2 * len(found))
    quality = figures([a - b for a, b in found])
    told = {**card.told, "seconds": seconds, "held_out": asdict(quality)}
    card = replace(card, center=center, told=told)
    (folder / CARD).write_text(card.to_json(), encoding="utf-8")
    return card


def pair_scores(
    classifier: Classifier, pairs: Sequence[Pair], steps: Steps
) -> list[tuple[float, float]]:
    """What the chosen and the rejected answer of each pair score."""
    replies = [reply for pair in pairs for reply in (pair.chosen, pair.rejected)]
    chats = [pair.chat for pair in pairs for _ in range(2)]
    rows, places = classifier.rows_of(chats, replies, bool(steps))
    found = [AGGREGATES[steps](scores) for scores in read_scores(classifier, rows, places)]
    return list(zip(found[::2], found[1::2], strict=True))


def held_out_figures(card: Card) -> Figures:
    """How good the model is on pairs of questions it did not learn from."""
    return Figures(**card.told["held_out"])


class _Reporting(TrainerCallback):
    def __init__(self, report: Report):
        self.report = report

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "loss" in (logs or {}):
            self.report(state.global_step, state.max_steps, float(logs["loss"]))
