"""SFT: fine-tune on the gold answers of train, behind the policy's own prompt.

The tokens before an answer are those that sampling and evaluation send, so what is learned is
learned for the prompt the policy has, demos and all; the loss is on the answer and the token that
ends it. TRL's SFTTrainer underneath, without packing and without cutting: an example that does not
fit the context window is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evaluation.environment import Environment
from evaluation.types import Policy, ScoreFunction
from lm.hf import HFModel
from lm.ledger import Ledger
from lm.turns import shown
from lm.types import ModelError
from rl.config_supervised import SFTConfig
from rl.feed import Row, check_one_process, check_time, picked, supervised_settings
from rl.trl_supervised import SupervisedTrainer
from rl.weight_method import Course, Stage, WeightMethod, check_examples, trainer_settings
from tasks.types import Demo, Example, Prompt, TaskError


class SFT(WeightMethod):
    """Method; see `rl.weight_method.WeightMethod`."""

    name = "sft"
    config: SFTConfig

    def check(
        self,
        policy: Policy,
        train: Sequence[Example],
        dev: Sequence[Example],
        score: ScoreFunction,
    ) -> None:
        check_one_process(self.name)
        check_examples(self.name, train, dev, self.config.rows_per_step, "rows_per_step")
        bare = next((example.id for example in train if not example.answer.strip()), None)
        if bare is not None:
            raise TaskError(
                f"sft: train example {bare!r} has no gold answer; write one, or use rft or grpo"
            )

    def course(self, stage: Stage) -> Course:
        size, context = self.config.rows_per_step, stage.context
        prompt = stage.policy.prompt
        gold = [gold_row(stage.live, prompt, example, context.score) for example in stage.train]
        feed = GivenRows(gold, size, f"sft/{context.seed}", context.ledger)
        settings = supervised_settings(
            trainer_settings(self.config, context, stage.live),
            self.config,
            steps=self.config.steps,
            rows=size,
        )
        return Course(SupervisedTrainer(feed, stage.live, settings, size), feed)


class GivenRows:
    """Feed and step record: rows that are there from the start, in an order made from the seed."""

    def __init__(self, rows: Sequence[Row], size: int, seed: str, ledger: Ledger):
        self.every, self.size, self.seed, self.ledger = rows, size, seed, ledger
        self.trained_tokens = 0

    def rows(self, step: int) -> list[Row]:
        check_time(self.ledger)
        return picked(self.every, step, self.size, self.seed)

    def row(self, logs: dict[str, Any]) -> dict[str, Any]:
        return learned(logs)

    def table(self) -> None:
        return None


def gold_row(
    live: HFModel, prompt: Prompt, example: Example, score: ScoreFunction | None = None
) -> Row:
    """The gold answer behind the prompt, with its calls where there are tools.

    Raises ModelError when it does not fit the window.
    """
    ids = live.encode(prompt.messages(example.inputs))
    if prompt.tools and isinstance(score, Environment):
        *calls, last = score.demonstration(example)
        said = prompt.reply(Demo(example.inputs, str(last["content"])))
        turns = [*calls, {**last, "content": said}]
        answer, mask = shown(live, turns, score.toolbox(example))
    else:
        answer = live.encode_reply(prompt.reply(Demo(example.inputs, example.answer)))
        mask = [1] * len(answer)
    if live.window is not None and len(ids) + len(answer) > live.window:
        raise ModelError(
            f"sft: train example {example.id!r} has {len(ids)} tokens of prompt and "
            f"{len(answer)} of answer, the context window holds {live.window}; leave it out or use "
            "fewer demos"
        )
    return labelled(ids, answer, mask)


def labelled(
    prompt_ids: Sequence[int], answer_ids: Sequence[int], mask: Sequence[int] | None = None
) -> Row:
    """A row of TRL's: no token of the prompt is in the loss, every token of the answer is that the
    model wrote itself."""
    own = mask or [1] * len(answer_ids)
    labels = [i if mine else -100 for i, mine in zip(answer_ids, own, strict=True)]
    return {
        "input_ids": [*prompt_ids, *answer_ids],
        "labels": [-100] * len(prompt_ids) + labels,
    }


def learned(logs: dict[str, Any]) -> dict[str, Any]:
    """The columns of metrics.jsonl that TRL has figures for; `loss` is in nats per answer token."""
    return {name: logs[name] for name in ("loss", "entropy", "grad_norm")}
