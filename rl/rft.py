"""RFT: draw answers, keep what the scorer accepts, fine-tune on them, and once more.

Rejection sampling fine-tuning (Yuan et al., 2023, arXiv:2308.01825). With several rounds, each
from the policy as it came to the stage, it is STaR (Zelikman et al., 2022, arXiv:2203.14465)
without rationalization: no answer is ever drawn with the gold answer as a hint. Going on from the
newest weights instead is close to ReST-EM (Singh et al., 2023, arXiv:2312.06585). It needs no gold
answers, only a score, and keeps the reasoning of a `cot` answer. Kept simple: a round learns from
its own answers alone, and from accepted ones only; how wrong the others were is not used (`dpo`
and `grpo` do).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch.optim.lr_scheduler import LambdaLR

from evaluation.types import Policy, ScoreFunction
from lm.hf import HFModel
from rl.config_supervised import RFTConfig
from rl.drawn import (
    Answer,
    Draws,
    check_sampled,
    drawn_figures,
    grouped,
    next_prompts,
    note_draws,
)
from rl.feed import NothingToLearn, Row, check_time, picked, supervised_settings
from rl.sft import labelled, learned
from rl.trl_supervised import SupervisedTrainer
from rl.weight_method import Course, Stage, WeightMethod, trainer_settings
from tasks.types import Example


class RFT(WeightMethod):
    """Method; see `rl.weight_method.WeightMethod`."""

    name = "rft"
    config: RFTConfig

    def check(
        self,
        policy: Policy,
        train: Sequence[Example],
        dev: Sequence[Example],
        score: ScoreFunction,
    ) -> None:
        check_sampled(self.name, self.config, policy, train, dev, score)

    def course(self, stage: Stage) -> Course:
        config = self.config
        feed = AcceptedAnswers(config, stage)
        settings = supervised_settings(
            trainer_settings(config, stage.context, stage.live),
            config,
            steps=config.rounds * config.steps,
            rows=config.rows_per_step,
        )
        trainer = RoundsTrainer(config, feed, stage.live, settings)
        feed.restart = trainer.restart
        return Course(trainer, feed, rewarded=feed.draws)


class AcceptedAnswers:
    """Feed and step record: the accepted answers of the round a step belongs to."""

    def __init__(self, config: RFTConfig, stage: Stage):
        self.config, self.stage = config, stage
        self.draws = Draws(config, stage)
        self.number = -1  # of the round whose answers are in `kept`
        self.kept: list[Row] = []
        self.trained_tokens = 0
        self.restart: Callable[[], None] = lambda: None  # the trainer's

    def rows(self, step: int) -> list[Row]:
        number = (step - 1) // self.config.steps
        if number != self.number:
            self._draw(number, step)
        check_time(self.stage.context.ledger)
        seed = f"rft/{self.stage.context.seed}/{number}"
        return picked(self.kept, step, self.config.rows_per_step, seed)

    def row(self, logs: dict[str, Any]) -> dict[str, Any]:
        return learned(logs)

    def table(self) -> None:
        return None  # kept when drawn

    def _draw(self, number: int, step: int) -> None:
        first = number * self.config.steps + 1
        asked = next_prompts(self.stage, self.config.prompts_per_round, number)
        again = step != first
        answers = self.draws.taken(asked, number, again=again, report=self._report(first))
        keep = accepted(answers, self.config.accept, self.config.keep_per_prompt)
        if not again:
            self._note(answers, keep, first)
        if not keep:
            raise self._nothing(answers, number)
        if not again and number and self.config.start == "incoming":
            self.restart()
        self.number = number
        parts = ("prompt_ids", "token_ids", "mask")
        self.kept = [labelled(*(answers[i][part] for part in parts)) for i in keep]

    def _report(self, step: int) -> Callable[..., None]:
        return partial(
            self.stage.context.progress, step - 1, self.config.rounds * self.config.steps
        )

    def _note(self, answers: list[Answer], keep: list[int], step: int) -> None:
        advantages = [0.0] * len(answers)
        for place in keep:
            advantages[place] = 1.0
        note_draws(self.stage, answers, advantages, step, accepted=len(keep))
        self._report(step)(score=drawn_figures(answers)["score"] or 0.0, accepted=len(keep))

    def _nothing(self, answers: list[Answer], number: int) -> NothingToLearn:
        what = "correct" if self.config.accept is None else f"worth {self.config.accept:g}"
        said = f"of {len(answers)} answers in round {number + 1} none is {what} and finished"
        self._report(number * self.config.steps + 1)(rft=f"{said}; the best so far is kept")
        return NothingToLearn(f"rft: {said}")


def accepted(answers: Sequence[Answer], accept: float | None, keep: int) -> list[int]:
    """Places of the answers to learn from, in order: at most `keep` of a prompt, distinct as texts.

    An answer that was cut at max_tokens shows no end, so it is none to learn from.
    """
    chosen: list[int] = []
    for group in grouped(answers):
        texts: dict[str, int] = {}
        for place in group:
            if answers[place]["finish"] == "stop" and _is_good(answers[place], accept):
                texts.setdefault(answers[place]["text"], place)
        chosen += list(texts.values())[:keep]
    return chosen


def _is_good(answer: Answer, accept: float | None) -> bool:
    if accept is None:
        return answer["correct"]
    return answer["reward"] is not None and answer["reward"] >= accept


class RoundsTrainer(SupervisedTrainer):
    """SupervisedTrainer that can begin anew: weights, optimizer and warm-up.

    With `start: incoming` it remembers the weights as they are when it is made.
    """

    def __init__(
        self, config: RFTConfig, feed: AcceptedAnswers, live: HFModel, settings: dict[str, Any]
    ):
        again = config.start == "incoming" and config.rounds > 1
        self.round_steps = config.steps if again else config.steps * config.rounds
        trained = [(n, p) for n, p in live.model.named_parameters() if p.requires_grad]
        self.incoming = {name: p.detach().clone() for name, p in trained} if again else {}
        super().__init__(feed, live, settings, config.rows_per_step)

    def restart(self) -> None:
        live: Any = self.model
        optimizer: Any = self.optimizer
        for name, weight in self.incoming.items():
            live.get_parameter(name).data.copy_(weight)
        optimizer.state.clear()

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Constant behind a warm-up, as transformers' own, in each round anew."""
        warmup, length = self.args.get_warmup_steps(num_training_steps), self.round_steps
        updated: Any = optimizer or self.optimizer
        if self.lr_scheduler is None:
            self.lr_scheduler = LambdaLR(
                updated,
                lambda update: min(1.0, update % length / warmup) if warmup else 1.0,
            )
        return self.lr_scheduler
