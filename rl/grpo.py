"""GRPO: sample a group of answers to each prompt, push up those better than their group's mean.

Group relative policy optimization (Shao et al., 2024, arXiv:2402.03300) and its relatives
(rl/objectives.py) on TRL's trainer, on LoRA weights. One batch of rollouts makes one optimizer
step, so every step is on-policy, the importance ratio is 1, and a run that was killed goes on bit
by bit from its checkpoint. Kept simple: a constant learning rate after the warm-up, so that the
first steps of a long run are those of a short one; no dropout of truncated answers, since the
evaluator counts them too.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from trl.trainer.grpo_config import GRPOConfig as TrainerArguments

from evaluation.evaluate import evaluate, mean_score
from evaluation.types import Context, Policy, ScoreFunction
from lm.hf import HFModel
from lm.ledger import BudgetExhausted
from lm.types import ModelError, Sampling
from reward_models.load import load_reward
from reward_models.task import TaskReward
from rl.adapter import save_adapter, with_adapter
from rl.callbacks import StageCallback
from rl.config import GRPOConfig
from rl.journal import Journal, Mark, restore_counts
from rl.objective_file import load_objective
from rl.rollouts import Rollouts
from rl.trl_seam import SeamTrainer
from tasks.types import Example, Prompt, TaskError


class GRPO:
    """Method: moves the weights of a policy with an open-weight model.

    Raises ModelError for a model without weights at hand, TaskError (RewardError) for too few
    examples or a reward that cannot be used. A budget that runs out ends the stage with the best
    policy so far.
    """

    def __init__(self, config: GRPOConfig):
        self.config = config

    def check(
        self,
        policy: Policy,
        train: Sequence[Example],
        dev: Sequence[Example],
        score: ScoreFunction,
    ) -> None:
        """Raises TaskError for too few examples, RewardError for an unknown reward."""
        _check_examples(self.config, train, dev)
        load_objective(self.config.objective)
        examples = {example.id: example for example in train}
        load_reward(self.config.reward, score=score, prompt=policy.prompt, examples=examples)

    def improve(
        self,
        policy: Policy,
        train: Sequence[Example],
        dev: Sequence[Example],
        context: Context,
    ) -> Policy:
        """The checkpoint with the best dev score; `policy` itself when no step beat it."""
        self.check(policy, train, dev, context.score)
        journal = Journal(context.folder)
        mark = journal.finished() or self._train(policy, train, dev, context, journal)
        restore_counts(context.ledger, mark.ledger)  # when an earlier call had finished the work
        journal.tidy()
        return policy.with_adapter(journal.best) if mark.best_step else policy

    def _train(
        self,
        policy: Policy,
        train: Sequence[Example],
        dev: Sequence[Example],
        context: Context,
        journal: Journal,
    ) -> Mark:
        rollouts = self._rollouts(policy, train, context)
        model = rollouts.model

        def dev_score() -> float:
            training = model.model.training
            records = evaluate(
                model, policy.prompt, dev, context.score, context.sampling, split="dev"
            )
            model.model.train(training)  # TRL reads the mode, sampling has switched it
            return mean_score(records)

        checkpoint, mark = journal.rewind()
        watch = StageCallback(
            rollouts,
            journal,
            context,
            dev_score,
            lambda folder: save_adapter(model.model, folder),
            eval_every=self.config.eval_every,
        )
        if mark is not None:
            watch.resume(mark)
            restore_counts(context.ledger, mark.ledger)
        trainer = SeamTrainer(
            rollouts,
            load_objective(self.config.objective),
            self.config.clip(),
            model=model.model,
            args=trainer_arguments(self.config, context, model),
            train_dataset=_dataset(self.config, policy.prompt, train, context.seed),
            processing_class=model.tokenizer,
            callbacks=[watch],
        )
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except BudgetExhausted:
            watch.close(trainer.state.global_step)
        mark = watch.mark(trainer.state.global_step)
        journal.finish(mark)
        return mark

    def _rollouts(self, policy: Policy, train: Sequence[Example], context: Context) -> Rollouts:
        config = self.config
        examples = {example.id: example for example in train}
        facts: dict[str, Any] = {
            "score": context.score,
            "prompt": policy.prompt,
            "examples": examples,
        }
        task = TaskReward(**facts)
        reward = task if config.reward == "task" else load_reward(config.reward, **facts)
        opened = context.open(policy)
        if not isinstance(opened, HFModel):
            raise ModelError(
                f"model: grpo needs open weights to train, {policy.model!r} opens as "
                f"{type(opened).__name__}; name a Hub id, a folder or a .gguf file"
            )
        live = HFModel(
            with_adapter(opened.model, config.lora, context.seed),
            opened.tokenizer,
            name=opened.name,
            ledger=context.ledger,
        )
        sampling = Sampling(
            max_tokens=context.sampling.max_tokens,
            temperature=config.temperature,
            stop=context.sampling.stop,
            n=config.group_size,
        )
        return Rollouts(live, sampling, context.seed, reward, task)


def trainer_arguments(config: GRPOConfig, context: Context, model: HFModel) -> TrainerArguments:
    """TRL's settings for one generation per optimizer step, on whatever device the model is.

    The rows of a step are split into equal forwards of at most `rows_per_forward`. Advantages and
    loss are not TRL's but those of `config.objective`, so nothing here says how to make them.
    """
    rows = config.prompts_per_step * config.group_size
    per_forward = max(n for n in range(1, config.rows_per_forward + 1) if rows % n == 0)
    device = model.device
    return TrainerArguments(
        output_dir=str(context.folder / "checkpoints"),
        max_steps=config.steps,
        per_device_train_batch_size=per_forward,
        gradient_accumulation_steps=rows // per_forward,
        steps_per_generation=rows // per_forward,
        num_generations=config.group_size,
        num_iterations=1,
        max_completion_length=context.sampling.max_tokens,
        mask_truncated_completions=False,
        shuffle_dataset=False,  # `_dataset` is in order already
        temperature=config.temperature,
        beta=config.beta,
        router_aux_loss_coef=0.0,
        learning_rate=config.learning_rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=config.warmup_steps,
        optim="adamw_torch",
        max_grad_norm=config.max_grad_norm,
        activation_checkpointing=False,  # it would switch the shared prefix's cache off
        seed=context.seed,
        bf16=device.type == "cuda" and model.model.dtype == torch.bfloat16,
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=device.type == "cuda",
        save_strategy="steps",
        save_steps=config.checkpoint_every,
        save_total_limit=2,  # the older one stands until the newer is sealed
        logging_steps=1,
        disable_tqdm=True,
        report_to="none",
    )


def _dataset(config: GRPOConfig, prompt: Prompt, train: Sequence[Example], seed: int) -> Dataset:
    """The prompts of all steps, in order: train shuffled anew for each pass, from `seed`.

    Laid out here as one epoch because TRL's sampler starts its shuffling over when it resumes.
    """
    rows = [{"prompt": prompt.messages(e.inputs), "example_id": e.id} for e in train]
    rng = random.Random(seed)
    order: list[int] = []
    while len(order) < config.steps * config.prompts_per_step:
        order += rng.sample(range(len(rows)), len(rows))
    return Dataset.from_list(rows).select(order[: config.steps * config.prompts_per_step])


def _check_examples(config: GRPOConfig, train: Sequence[Example], dev: Sequence[Example]) -> None:
    if len(train) < config.prompts_per_step:
        raise TaskError(
            f"grpo: {len(train)} train examples for prompts_per_step {config.prompts_per_step}; "
            f"add examples or write prompts_per_step: {len(train)} or less"
        )
    if len({example.id for example in train}) < len(train):
        raise TaskError("grpo: two train examples share an id; ids must be unique")
    if not dev:
        raise TaskError("grpo: no dev examples to choose the best checkpoint by; add a dev split")
