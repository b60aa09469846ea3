"""DPO: learn from pairs of answers which of two the scorer prefers.

Direct preference optimization (Rafailov et al., 2023, arXiv:2305.18290) on pairs of the policy's
own answers, so that both sides are text it does write: draw, score, pair, then raise the
probability of the better answer against the worse one, relative to the policy as it came, which
is the reference. TRL's DPOTrainer underneath, with the tokens as they were drawn. Kept simple: the
answers are drawn once, before the first step, not again as the policy moves.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from evaluation.environment import refuse_tools
from evaluation.types import Policy, ScoreFunction
from lm.scoring import completion_logprobs
from rl.config_supervised import DPOConfig
from rl.drawn import Answer, Draws, check_sampled, drawn_figures, grouped, next_prompts, note_draws
from rl.feed import NothingToLearn, Row, check_time, picked, supervised_settings
from rl.trl_supervised import PreferenceTrainer
from rl.weight_method import Course, Stage, WeightMethod, trainer_settings
from tasks.types import Example

PAIRS_FILE = "pairs.parquet"
Pair = tuple[int, int]  # places of the chosen and the rejected answer


class DPO(WeightMethod):
    """Method; see `rl.weight_method.WeightMethod`."""

    name = "dpo"
    config: DPOConfig

    def check(
        self,
        policy: Policy,
        train: Sequence[Example],
        dev: Sequence[Example],
        score: ScoreFunction,
    ) -> None:
        refuse_tools(policy.prompt, self.name, "grpo, or rft")
        check_sampled(self.name, self.config, policy, train, dev, score)

    def course(self, stage: Stage) -> Course:
        config = self.config
        feed = Pairs(config, stage)
        settings = supervised_settings(
            trainer_settings(config, stage.context, stage.live),
            config,
            steps=config.steps,
            rows=config.pairs_per_step,
            rows_a_place=2,
        )
        chosen = config.sft_weight > 0  # TRL adds up the losses of a list
        settings |= {
            "beta": config.beta,
            "loss_type": [config.loss_type, "sft"] if chosen else [config.loss_type],
            "loss_weights": [1.0, config.sft_weight] if chosen else [1.0],
            "label_smoothing": config.label_smoothing,
        }
        trainer = PreferenceTrainer(feed, stage.live, settings, config.pairs_per_step)
        feed.autocast = trainer.accelerator.autocast
        return Course(trainer, feed, rewarded=feed.draws)


class Pairs:
    """Feed and step record: pairs of the incoming policy's answers, with its log-probabilities."""

    def __init__(self, config: DPOConfig, stage: Stage):
        self.config, self.stage = config, stage
        self.draws = Draws(config, stage)
        self.every: list[Row] = []
        self.trained_tokens = 0
        self.autocast: Callable[..., AbstractContextManager[Any]] = nullcontext  # the trainer's

    def rows(self, step: int) -> list[Row]:
        if not self.every:
            self.every = self._made(again=step > 1)
        check_time(self.stage.context.ledger)
        seed = f"dpo/{self.stage.context.seed}"
        return picked(self.every, step, self.config.pairs_per_step, seed)

    def row(self, logs: dict[str, Any]) -> dict[str, Any]:
        """TRL's figures; `accuracy` is the share of pairs the policy has moved the right way."""
        return {
            "loss": logs["loss"],
            "accuracy": logs["rewards/accuracies"],
            "margin": logs["rewards/margins"],
            "chosen_logprob": logs["logps/chosen"],
            "rejected_logprob": logs["logps/rejected"],
            "entropy": logs["entropy"],
            "grad_norm": logs["grad_norm"],
        }

    def table(self) -> None:
        return None

    def _made(self, *, again: bool) -> list[Row]:
        """All pairs. The reference speaks before the first step, and is read from disk later on."""
        stage, config = self.stage, self.config
        report = partial(stage.context.progress, 0, config.steps)
        asked = next_prompts(stage, config.prompts_per_round, 0)
        answers = self.draws.taken(asked, 0, again=again, report=report)
        path = self.draws.folder / PAIRS_FILE
        if again:
            return pq.read_table(path).to_pylist()
        pairs = paired(answers, config.margin, config.pairs_per_prompt)
        wins = [0.0] * len(answers)
        for chosen, rejected in pairs:
            wins[chosen] += 1
            wins[rejected] -= 1
        note_draws(stage, answers, wins, 1, pairs=len(pairs))
        report(score=drawn_figures(answers)["score"] or 0.0, pairs=len(pairs))
        if not pairs:
            said = f"of {len(answers)} answers no two to the same prompt make a pair"
            report(dpo=f"{said}; the best so far is kept")
            raise NothingToLearn(f"dpo: {said}")
        rows = [_row(answers[chosen], answers[rejected]) for chosen, rejected in pairs]
        self._ask_reference(rows)
        _write(path, rows)
        return rows

    def _ask_reference(self, rows: list[Row]) -> None:
        """Fill in what the live weights, not trained yet, say of each answer."""
        model, size = self.stage.live.model, max(1, self.config.rows_per_forward // 2)
        training = model.training
        model.eval()
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            prompts = [row["prompt_ids"] for row in part] * 2
            answers = [row[name] for name in ("chosen_ids", "rejected_ids") for row in part]
            with torch.no_grad(), self.autocast():
                found = completion_logprobs(model, prompts, answers).logprobs_BT.sum(1).tolist()
            for i, row in enumerate(part):
                row["ref_chosen_logps"] = found[i]
                row["ref_rejected_logps"] = found[len(part) + i]
        model.train(training)


def paired(answers: Sequence[Answer], margin: float, most: int) -> list[Pair]:
    """Pairs of answers to the same prompt, prompt by prompt, at most `most` of each.

    The reward of the chosen answer, which has an end, is greater by `margin` or more; texts are
    distinct. Wide gaps come first; of equal gaps the one between answers used least so far.
    """
    pairs: list[Pair] = []
    for group in grouped(answers):
        texts = {answers[place]["text"]: place for place in reversed(group)}
        known = sorted(i for i in texts.values() if answers[i]["reward"] is not None)
        gaps = {
            (a, b): answers[a]["reward"] - answers[b]["reward"]
            for a in known
            for b in known
            if answers[a]["finish"] == "stop"
        }
        left = {pair: gap for pair, gap in gaps.items() if gap > 0 and gap >= margin}
        used = dict.fromkeys(known, 0)
        for _ in range(min(most, len(left))):
            best = min(left, key=lambda pair: (-left[pair], used[pair[0]] + used[pair[1]], pair))
            del left[best]
            pairs.append(best)
            used[best[0]] += 1
            used[best[1]] += 1
    return pairs


def _row(chosen: Answer, rejected: Answer) -> Row:
    return {
        "prompt_ids": chosen["prompt_ids"],
        "chosen_ids": chosen["token_ids"],
        "rejected_ids": rejected["token_ids"],
    }


def _write(path: Path, rows: list[Row]) -> None:
    draft = path.with_name(f".{path.name}.draft")
    pq.write_table(pa.Table.from_pylist(rows), draft)
    os.replace(draft, path)
