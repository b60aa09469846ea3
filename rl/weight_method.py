"""What every method that trains weights does around its trainer.

Open the policy, measure dev, train, keep the best by dev score, survive a kill at any moment. A
method adds how a step is made: it hands over a trainer of transformers' kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from evaluation.evaluate import evaluate, mean_score
from evaluation.types import Context, Policy, Reporting, ScoreFunction, Unfinished
from lm.hf import HFModel
from lm.ledger import BudgetExhausted, Paused
from lm.ranks import from_first, is_first, world
from lm.together import TogetherModel
from lm.types import ModelError
from rl.callbacks import StageCallback, StepRecord, end_trackers, tell_figures_only, tell_trackers
from rl.checkpoint_audit import logged_step
from rl.config import WeightsConfig
from rl.journal import Journal, Mark, restore_counts
from rl.rollouts import Rollouts
from rl.self_audit import Rewarded, SelfAudit
from rl.weights import as_precise, save_weights, trainable
from tasks.types import Example, TaskError

PARALLEL = ("grpo", "ppo")  # the methods that share a step among processes


@dataclass(frozen=True)
class Stage:
    """What a method has to work with; `live` wraps the weights in training."""

    policy: Policy
    train: Sequence[Example]
    dev: Sequence[Example]
    context: Context
    journal: Journal
    live: HFModel


@dataclass(frozen=True)
class Course:
    """A trainer to be run, the record of its newest step, and its updates in one step of ours.

    `rewarded` holds the reward that answers are chosen by, for the audit to probe.
    """

    trainer: Any
    record: StepRecord
    updates: int = 1
    rewarded: Rewarded | None = None

    def reward_to_probe(self) -> Rewarded | None:
        """The reward that trains, None for a method without one."""
        return self.record if isinstance(self.record, Rollouts) else self.rewarded


class WeightMethod:
    """Method: moves the weights of a policy with an open-weight model.

    Raises ModelError for a model without weights at hand, TaskError (RewardError) for too few
    examples or a reward that cannot be used. A budget that runs out ends the stage with the best
    policy so far. A subclass writes `check` and `course`.
    """

    name = "weights"

    def __init__(self, config: Any):
        self.config = config

    def check(
        self,
        policy: Policy,
        train: Sequence[Example],
        dev: Sequence[Example],
        score: ScoreFunction,
    ) -> None:
        """Raises TaskError for too few examples, RewardError for an unknown reward."""
        raise NotImplementedError

    def course(self, stage: Stage) -> Course:
        """How this method trains. Called before a checkpoint is read; may draw rollouts."""
        raise NotImplementedError

    def improve(
        self,
        policy: Policy,
        train: Sequence[Example],
        dev: Sequence[Example],
        context: Context,
    ) -> Policy:
        """The checkpoint with the best dev score; `policy` itself when no step beat it."""
        policy.refuse_program(self.name)
        self.check(policy, train, dev, context.score)
        journal = Journal(context.folder)
        mark = journal.finished()
        if mark is None:
            live = open_trainable(policy, self.config, context, self.name)
            mark = self.train(Stage(policy, train, dev, context, journal, live))
        restore_counts(context.ledger, mark.ledger)  # when an earlier call had finished the work
        journal.tidy()
        return self._trained(policy, journal, mark.best_step)

    def _trained(self, policy: Policy, journal: Journal, best_step: int) -> Policy:
        return with_trained(policy, journal.best, self.config) if best_step else policy

    def train(self, stage: Stage) -> Mark:
        """Run the course from the newest checkpoint to its end, or to that of the budget."""
        journal, context = stage.journal, stage.context
        known = from_first(lambda: known_next_step(journal))
        checkpoint, mark = journal.rewind()
        with as_precise(stage.live.model):
            course = self.course(stage)
        watch = StageCallback(
            course.record,
            journal,
            context,
            lambda: dev_score(stage),
            lambda folder: save_weights(stage.live, folder),
            eval_every=self.config.eval_every,
            updates=course.updates,
            tell=partial(tell_trackers, course.trainer),
        )
        if mark is not None:
            watch.resume(mark)
            restore_counts(context.ledger, mark.ledger)
        tell_figures_only(course.trainer)
        course.trainer.add_callback(watch)
        audit = SelfAudit(stage.live, journal, len(stage.dev), course.updates)
        audits = self.config.audits and is_first()
        if audits:
            audit.critic, audit.known = getattr(course.trainer, "critic", None), known
            audit.look_ahead(course.reward_to_probe())
            course.trainer.add_callback(audit)
        try:
            course.trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except BudgetExhausted:
            watch.close(course.trainer.state.global_step)
            end_trackers(course.trainer)
        except Paused:
            end_trackers(course.trainer)
            raise Unfinished(self._trained(stage.policy, journal, watch.best_step)) from None
        mark = watch.mark(course.trainer.state.global_step)
        if audits:
            audit.look_back(mark)
        journal.finish(mark)
        return mark


def known_next_step(journal: Journal) -> dict[str, Any] | None:
    """What a killed run had logged of the step that a resume takes again, if it got there."""
    newest = journal.newest()
    return logged_step(journal.metrics, newest.step + 1) if newest else None


def dev_score(stage: Stage) -> float:
    """The mean score of the live weights on dev, asked as the evaluator asks."""
    model = stage.live.model
    training = model.training
    records = evaluate(
        stage.live,
        stage.policy.prompt,
        stage.dev,
        stage.context.score,
        stage.context.sampling,
        split="dev",
    )
    model.train(training)  # trainers read the mode, sampling has switched it
    return from_first(lambda: mean_score(records))  # a scorer may not say the same twice


def open_trainable(policy: Policy, config: WeightsConfig, context: Context, method: str) -> HFModel:
    """The policy's model with the weights that `config` trains."""
    quantized = replace(policy, quantization="nf4") if config.weights == "qlora" else policy
    opened = context.open(quantized)
    if not isinstance(opened, HFModel):
        raise ModelError(
            f"model: {method} needs open weights to train, {policy.model!r} opens as "
            f"{type(opened).__name__}; name a Hub id, a folder or a .gguf file"
        )
    live = trainable(opened, config, context.seed)
    kind = TogetherModel if world() > 1 else HFModel
    return kind(live.model, live.tokenizer, name=live.name, ledger=context.ledger)


def with_trained(policy: Policy, folder: Path, config: WeightsConfig) -> Policy:
    """`policy` with the weights that `save_weights` wrote into `folder`."""
    if config.weights == "full":
        return policy.with_weights(folder)
    after = policy.with_adapter(folder)
    return replace(after, quantization="nf4") if config.weights == "qlora" else after


def check_examples(
    method: str, train: Sequence[Example], dev: Sequence[Example], needed: int, option: str
) -> None:
    """Raises TaskError when train is too small for a step, has doubles, or dev is empty."""
    if world() > 1 and method not in PARALLEL:
        raise TaskError(
            f"{method}: trains in one process, and {world()} were started; run it without the "
            f"launcher ({', '.join(PARALLEL)} take several)"
        )
    if len(train) < needed:
        raise TaskError(
            f"{method}: {len(train)} train examples for {option} {needed}; add examples or write "
            f"{option}: {len(train)} or less"
        )
    if len({example.id for example in train}) < len(train):
        raise TaskError(f"{method}: two train examples share an id; ids must be unique")
    if not dev:
        raise TaskError(
            f"{method}: no dev examples to choose the best checkpoint by; add a dev split"
        )


def trainer_settings(config: WeightsConfig, context: Context, live: HFModel) -> dict[str, Any]:
    """Settings that transformers' trainer takes from every method, on whatever device it runs.

    A constant learning rate after the warm-up, so that the first steps of a long run are those of
    a short one. `max_steps`, `warmup_steps`, `save_steps` and `logging_steps` count optimizer
    updates; a method that makes several in a step multiplies them.
    """
    device = live.device
    return {
        "output_dir": str(context.folder / "checkpoints"),
        "max_steps": config.steps,
        "learning_rate": config.rate(),
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": config.warmup_steps,
        "optim": "adamw_torch",
        "max_grad_norm": config.max_grad_norm,
        "activation_checkpointing": False,  # `rl.weights.trainable` has seen to it
        "seed": context.seed,
        "bf16": device.type == "cuda" and torch.cuda.is_bf16_supported(),
        "use_cpu": device.type == "cpu",
        "dataloader_pin_memory": device.type == "cuda",
        "save_strategy": "steps",
        "save_steps": config.checkpoint_every,
        "save_total_limit": 2,  # the older one stands until the newer is sealed
        "logging_steps": 1,
        "disable_tqdm": True,
        **_reported(context.reporting),
    }


def _reported(told: Reporting) -> dict[str, Any]:
    if not told.to:
        return {"report_to": "none"}
    return {"report_to": list(told.to), "run_name": told.run, "project": told.project}
