"""Training that somebody else directs: `evaluation.training.Trainer`, on TRL's trainers.

Whoever calls brings the rows, so there is no dev split, no best checkpoint and no stage here; what
trains is what trains in `sft` (rl/trl_supervised.py) and in `grpo` (rl/trl_seam.py). TRL's
GRPOTrainer pulls its rollouts in a loop of its own. Here they are pushed, a step at a time: each
step is a trainer of one step that takes over the optimizer of the last.
"""

from __future__ import annotations

import gc
import hashlib
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers.trainer_utils import SaveStrategy

from evaluation.training import Graded, Lesson
from evaluation.types import Context, Policy
from lm.hf import HFModel
from lm.ledger import Ledger, Stopwatch
from lm.types import Completion, LanguageModel, ModelError, Sampling
from reward_models.task import TaskReward
from rl.config_lessons import FinetuneConfig, ReinforceConfig, read_settings
from rl.feed import Row, check_one_process, check_time, supervised_settings
from rl.grpo import trainer_arguments
from rl.objective_file import load_objective
from rl.rollouts import Group, Rollouts
from rl.sft import GivenRows, labelled
from rl.trl_seam import SeamTrainer
from rl.trl_supervised import SupervisedTrainer
from rl.weight_method import open_trainable, trainer_settings, with_trained
from rl.weights import Reference, as_precise, save_weights
from tasks.types import Prompt, Score

ENDS = 1024  # of a tensor's values at either end that tell its versions apart
FIGURES = ("loss", "grad_norm", "entropy", "reward", "reward_std", "kl")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lessons:
    """A `Trainer`. `open` loads a policy's weights; costs are counted in `ledger`.

    `max_tokens` is how long an answer may be, which objectives that favour no length divide by.
    """

    open: Callable[[Policy], LanguageModel]
    ledger: Ledger
    seed: int = 0
    max_tokens: int = 64

    def finetune(
        self,
        policy: Policy,
        lessons: Sequence[Lesson],
        settings: Mapping[str, Any],
        folder: Path,
    ) -> Policy:
        """See `Trainer.finetune`. A `folder` that is there already holds the result."""
        config = read_settings(FinetuneConfig, "finetune", settings)
        if not lessons:
            raise ModelError("finetune: no answers to learn from; let the metric pass some")
        check_one_process("finetune")
        if not folder.exists():
            scratch = folder.with_name(f"{folder.name}.scratch")
            live = open_trainable(policy, config, self._context(scratch), "finetune")
            self._imitate(live, lessons, config, scratch)
            save_whole(live, folder)
            shutil.rmtree(scratch, ignore_errors=True)
            del live
            gc.collect()  # a trainer holds itself, and with it the weights
        return with_trained(policy, folder, config)

    def _imitate(
        self, live: HFModel, lessons: Sequence[Lesson], config: FinetuneConfig, scratch: Path
    ) -> None:
        size, rows = config.rows_per_step, [lesson_row(live, lesson) for lesson in lessons]
        feed = GivenRows(rows, size, f"finetune/{self.seed}", self.ledger)
        settings = supervised_settings(
            trainer_settings(config, self._context(scratch), live),
            config,
            steps=config.steps,
            rows=size,
        )
        with as_precise(live.model):
            trainer = SupervisedTrainer(feed, live, {**settings, "save_strategy": "no"}, size)
        with Stopwatch() as watch:
            trainer.train()
        count_training(self.ledger, feed, config.steps, watch.seconds)
        losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
        log.info("finetune: %d rows, loss %.3f to %.3f", len(lessons), losses[0], losses[-1])

    def reinforce(
        self, policy: Policy, settings: Mapping[str, Any], folder: Path
    ) -> PolicyGradient:
        """See `Trainer.reinforce`."""
        config = read_settings(ReinforceConfig, "reinforce", settings)
        check_one_process("reinforce")
        context = self._context(folder)
        return PolicyGradient(policy, config, context)

    def _context(self, folder: Path) -> Context:
        """What the parts of a stage want, as far as it means something without one."""
        return Context(
            score=no_score,
            open=self.open,
            ledger=self.ledger,
            folder=folder,
            sampling=Sampling(max_tokens=self.max_tokens),
            seed=self.seed,
            progress=lambda *_, **__: None,
        )


def lesson_row(live: HFModel, lesson: Lesson) -> Row:
    """The bytes that sampling sends, then the answer. Raises ModelError if that is too long."""
    ids, answer = live.encode(lesson.chat), live.encode_reply(lesson.text)
    check_room(live, ids, answer, "finetune")
    return labelled(ids, answer)


def check_room(live: HFModel, prompt: Sequence[int], answer: Sequence[int], what: str) -> None:
    if live.window is not None and len(prompt) + len(answer) > live.window:
        raise ModelError(
            f"{what}: a row has {len(prompt)} tokens of prompt and {len(answer)} of answer, the "
            f"context window holds {live.window}; leave it out or use fewer demos"
        )


class PolicyGradient:
    """A `Learner`: GRPO, or another objective of rl/objectives.py, on groups as they come."""

    def __init__(self, policy: Policy, config: ReinforceConfig, context: Context):
        self.policy, self.config, self.context = policy, config, context
        self.objective = load_objective(config.objective)
        self.start = ""

        def opened(policy: Policy) -> LanguageModel:
            model = context.open(policy)
            self.start = model.fingerprint()
            return model

        self.live = open_trainable(policy, config, replace(context, open=opened), "reinforce")
        self.reference = Reference(self.live.model) if config.beta else None
        self.optimizer: Any = None  # made by the first trainer
        self.steps = 0

    def model(self) -> HFModel:
        live = self.live
        return HFModel(
            live.model,
            live.tokenizer,
            name=live.name,
            ledger=live.ledger,
            fingerprint=live_fingerprint(live.model, self.start),
        )

    def step(self, groups: Sequence[Sequence[Graded]]) -> dict[str, float]:
        check_time(self.context.ledger)
        rollouts = GivenGroups(self.live, groups, self.context)
        with Stopwatch() as watch, as_precise(self.live.model):
            trainer = self._trainer(rollouts)
            trainer.train()
        self._take_over(trainer)
        self.steps += 1
        count_training(self.context.ledger, rollouts, 1, watch.seconds)
        logs = next(row for row in reversed(trainer.state.log_history) if "loss" in row)
        known = {name: logs.get(name) for name in FIGURES}
        return {name: float(value) for name, value in known.items() if value is not None}

    def _trainer(self, rollouts: GivenGroups) -> SeamTrainer:
        config, context = self._sized(rollouts), self.context
        step = replace(context, sampling=rollouts.sampling, seed=context.seed + self.steps)
        arguments = trainer_arguments(config, step, self.live)
        arguments.save_strategy = SaveStrategy.NO
        trainer = SeamTrainer(
            rollouts,
            self.objective,
            config.clip(),
            model=self.live.model,
            args=arguments,
            train_dataset=Dataset.from_list([dict(group.row) for group in rollouts.groups]),
            processing_class=self.live.tokenizer,
            optimizers=(self.optimizer, None),
        )
        # the policy of the first step, not of this one
        trainer.reference, trainer.kl_beta = self.reference, config.beta
        return trainer

    def _sized(self, rollouts: GivenGroups) -> ReinforceConfig:
        """The settings of this step, whose rows are those there are."""
        groups, n, parts = len(rollouts.groups), rollouts.sampling.n, self.config.minibatches
        if groups * n % parts:
            raise ModelError(
                f"reinforce: minibatches {parts} does not divide the {groups * n} answers of a "
                "step; write a divisor, or leave it out"
            )
        size = {"steps": 1, "prompts_per_step": groups, "group_size": n}
        return self.config.model_copy(update=size)

    def _take_over(self, trainer: SeamTrainer) -> None:
        """Keep what the next step goes on with, and undo what accelerate wrapped around it."""
        optimizer: Any = trainer.optimizer
        self.optimizer = getattr(optimizer, "optimizer", optimizer)
        trainer.accelerator.unwrap_model(self.live.model, keep_fp32_wrapper=False)
        self.live.model.eval()

    def save(self, folder: Path) -> Policy:
        if not folder.exists():
            save_whole(self.live, folder)
        return with_trained(self.policy, folder, self.config)


class GivenGroups(Rollouts):
    """Rollouts that were drawn and rewarded elsewhere."""

    def __init__(self, live: HFModel, groups: Sequence[Sequence[Graded]], context: Context):
        sizes = {len(group) for group in groups}
        if len(sizes) != 1 or min(sizes) < 2:
            raise ModelError(
                f"reinforce: groups of {sorted(sizes) or 'no'} answers; give all the same number, "
                "2 or more"
            )
        given = [_group(live, group) for group in groups]
        self.prompts = [live.encode(row.chat) for group in groups for row in group]
        drawn = [completion for group in given for completion in group.completions]
        for prompt, completion in zip(self.prompts, drawn, strict=True):
            check_room(live, prompt, completion.token_ids, "reinforce")
        longest = max(len(completion.token_ids) for completion in drawn)
        n = sizes.pop()
        sampling = replace(
            context.sampling, n=n, max_tokens=max(context.sampling.max_tokens, longest)
        )
        nothing = TaskReward(no_score, Prompt(""), {})
        super().__init__(live, sampling, context.seed, nothing, nothing, groups=given)

    def collect(self, rows: Sequence[Any], step: int, **columns: Any) -> list[Any]:
        return [group.row for group in self.groups for _ in range(self.sampling.n)]

    def for_trl(self) -> dict[str, list[list[Any]]]:
        """As `Rollouts`, save that within a group chats may differ: in a program of several calls
        the later ones depend on what the earlier ones said."""
        return {**super().for_trl(), "prompt_ids": self.prompts}


def _group(live: HFModel, group: Sequence[Graded]) -> Group:
    """The group as `rl.rollouts` has them."""
    chat = [dict(message) for message in group[0].chat]
    rewards: list[float | None] = [row.reward for row in group]
    completions = [_tokens(live, row) for row in group]
    return Group({"prompt": chat}, completions, rewards, [None] * len(group))


def _tokens(live: HFModel, row: Graded) -> Completion:
    """The answer as drawn; else as the tokenizer writes it and the weights now score it."""
    if row.completion is not None:
        return row.completion
    ids = tuple(live.encode_reply(row.text))
    scores = tuple(live.logprobs([row.chat], [ids])[0])
    return Completion(row.text, ids, scores, "stop", len(live.encode(row.chat)))


def save_whole(live: HFModel, folder: Path) -> None:
    """Write the trained weights; `folder` is there once all of it is."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_weights(live, partial)
    partial.rename(folder)


def count_training(ledger: Ledger, fed: Any, steps: int, seconds: float) -> None:
    ledger.add_training(tokens=fed.trained_tokens, steps=steps, seconds=seconds)
    fed.trained_tokens = 0


def live_fingerprint(model: Any, start: str) -> str:
    """16 hex digits: of the weights it began with, and of those that are trained.

    Both ends of every tensor count, as in `lm.source.weights_fingerprint`.
    """
    digest = hashlib.sha256(start.encode())
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            flat = weight.detach().flatten()
            ends = torch.cat([flat[:ENDS], flat[-ENDS:]]).float().cpu()
            digest.update(name.encode() + b"\0" + ends.numpy().tobytes())
    return digest.hexdigest()[:16]


def no_score(*_: Any) -> Score:
    raise ModelError("a trainer that is directed from outside has no task to score with")
