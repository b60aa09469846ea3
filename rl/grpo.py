"""GRPO: sample a group of answers to each prompt, push up those better than their group's mean.

Group relative policy optimization (Shao et al., 2024, arXiv:2402.03300) and its relatives
(rl/objectives.py) on TRL's trainer. One batch of rollouts makes one optimizer update unless a spec
asks for more (`epochs`, `minibatches`), so that every step is on-policy and the importance ratio
is 1. A checkpoint always lies between two batches of rollouts, so a run that was killed goes on
bit by bit. Kept simple: no dropout of truncated answers, since the evaluator counts them too.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pyarrow.parquet as pq
from datasets import Dataset
from trl.trainer.grpo_config import GRPOConfig as TrainerArguments

from evaluation.environment import refuse_tools
from evaluation.types import Context, Policy, ScoreFunction
from lm.hf import HFModel
from lm.ranks import world
from lm.types import Sampling
from reward_models.load import check_reward, load_reward
from reward_models.task import TaskReward
from rl.config import GRPOConfig, RolloutConfig
from rl.objective_file import load_objective
from rl.prompt_choice import PassRates, PromptChoice
from rl.rollouts import Rollouts
from rl.trl_seam import SeamTrainer
from rl.vllm_engine import check_engine, engine_settings
from rl.weight_method import Course, Stage, WeightMethod, check_examples, trainer_settings
from tasks.types import Example, Prompt, TaskError


class GRPO(WeightMethod):
    """Method; see `rl.weight_method.WeightMethod`."""

    name = "grpo"
    config: GRPOConfig

    def check(
        self,
        policy: Policy,
        train: Sequence[Example],
        dev: Sequence[Example],
        score: ScoreFunction,
    ) -> None:
        check_rollouts(self.name, self.config, policy, train, dev, score)
        load_objective(self.config.objective)

    def course(self, stage: Stage) -> Course:
        rollouts = make_rollouts(self.config, stage, self.config.resample)
        trainer = SeamTrainer(
            rollouts,
            load_objective(self.config.objective),
            self.config.clip(),
            beta=self.config.beta,
            **trainer_inputs(self.config, stage),
        )
        return Course(trainer, rollouts, self.config.updates())


def check_rollouts(
    method: str,
    config: RolloutConfig,
    policy: Policy,
    train: Sequence[Example],
    dev: Sequence[Example],
    score: ScoreFunction,
) -> None:
    """What any method on rollouts needs. Raises TaskError, RewardError and ModelError."""
    check_examples(method, train, dev, config.prompts_per_step, "prompts_per_step")
    check_processes(method, config)
    check_engine(method, config)
    if config.engine == "vllm":
        refuse_tools(policy.prompt, f"{method}: engine: vllm", "engine: ours")
    examples = {example.id: example for example in train}
    check_reward(config.reward, score=score, prompt=policy.prompt, examples=examples)


def check_processes(method: str, config: RolloutConfig) -> None:
    """Raises TaskError when a step's groups do not go evenly to the processes there are."""
    count, rows = world(), config.prompts_per_step * config.group_size
    if config.prompts_per_step % count:
        raise TaskError(
            f"{method}: prompts_per_step {config.prompts_per_step} does not go evenly to {count} "
            f"processes; write a multiple of {count}"
        )
    if rows // count % config.minibatches:
        raise TaskError(
            f"{method}: minibatches {config.minibatches} does not divide the {rows // count} "
            f"rollouts that each of {count} processes has; write a divisor of {rows // count}"
        )


def make_rollouts(config: RolloutConfig, stage: Stage, resample: int = 0) -> Rollouts:
    """The sampler of a method on rollouts, with the reward it trains on."""
    context = stage.context
    facts: dict[str, Any] = {
        "score": context.score,
        "prompt": stage.policy.prompt,
        "examples": {example.id: example for example in stage.train},
    }
    task = TaskReward(**facts)
    reward = (
        task
        if config.reward == "task"
        else load_reward(config.reward, **facts, ledger=context.ledger)
    )
    sampling = Sampling(
        max_tokens=context.sampling.max_tokens,
        temperature=config.temperature,
        stop=context.sampling.stop,
        n=config.group_size,
    )
    choice = None
    if config.curriculum == "pass_rate" or resample:
        rates = known_rates(stage)
        weighted = config.curriculum == "pass_rate"
        choice = PromptChoice(stage.train, stage.policy.prompt, context.seed, rates, weighted)
    return Rollouts(stage.live, sampling, context.seed, reward, task, choice, resample)


def known_rates(stage: Stage) -> PassRates:
    """What earlier methods of the chain have drawn, and this stage up to its checkpoint."""
    rates = PassRates()
    rates.add(stage.context.pass_rates)
    for part in sorted(stage.journal.parts.glob("*.parquet")):
        rows = pq.read_table(part, columns=["example_id", "score"]).to_pylist()
        rates.add_rows((row["example_id"], row["score"]) for row in rows)
    return rates


def trainer_inputs(config: RolloutConfig, stage: Stage) -> dict[str, Any]:
    """Model, tokenizer, data and settings, as TRL's trainer wants them."""
    return {
        "model": stage.live.model,
        "args": trainer_arguments(config, stage.context, stage.live),
        "train_dataset": prompts_in_order(
            config, stage.policy.prompt, stage.train, stage.context.seed
        ),
        "processing_class": stage.live.tokenizer,
    }


def trainer_arguments(config: RolloutConfig, context: Context, model: HFModel) -> TrainerArguments:
    """TRL's settings: one generation a step, on whatever device the model is.

    The rows of an optimizer update, shared equally by the processes, are split into equal forwards
    of at most `rows_per_forward`.
    Advantages, loss and the KL term are not TRL's but ours, so nothing here says how to make them.
    """
    rows = config.prompts_per_step * config.group_size // world() // config.minibatches
    per_forward = max(n for n in range(1, config.rows_per_forward + 1) if rows % n == 0)
    settings = trainer_settings(config, context, model)
    for name in ("max_steps", "warmup_steps", "save_steps", "logging_steps"):
        settings[name] *= config.updates()
    return TrainerArguments(
        **settings,
        per_device_train_batch_size=per_forward,
        gradient_accumulation_steps=rows // per_forward,
        steps_per_generation=rows // per_forward * config.minibatches,
        num_generations=config.group_size,
        num_iterations=config.epochs,
        max_completion_length=context.sampling.max_tokens,
        mask_truncated_completions=False,
        shuffle_dataset=False,  # `prompts_in_order` are in order already
        temperature=config.temperature,
        beta=0.0,
        router_aux_loss_coef=0.0,
        **engine_settings(config, model.device),
    )


def prompts_in_order(
    config: RolloutConfig, prompt: Prompt, train: Sequence[Example], seed: int
) -> Dataset:
    """The prompts of all steps, in order: train shuffled anew for each pass, from `seed`.

    Laid out here as one epoch because TRL's sampler starts its shuffling over when it resumes.
    """
    rows = [{"prompt": prompt.messages(e.inputs), "example_id": e.id} for e in train]
    rng = random.Random(seed)
    order: list[int] = []
    while len(order) < config.steps * config.prompts_per_step:
        order += rng.sample(range(len(rows)), len(rows))
    return Dataset.from_list(rows).select(order[: config.steps * config.prompts_per_step])
