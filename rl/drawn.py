"""Answers drawn to learn from later: sampled in parts, scored, and kept, so that a kill costs one.

    checkpoints/drawn/000-0003.parquet     part 3 of round 0, in the columns of the run's rollouts
                                           and those of `EXTRA`

They lie with the checkpoints because they go when those go. Taking the same steps again after a
kill finds them here; their cost is then counted once more, since the ledger has gone back too.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.environment import toolboxes
from evaluation.evaluate import transcript_text
from evaluation.types import Policy, ScoreFunction
from lm.ledger import BudgetExhausted, Stopwatch
from lm.turns import converse
from lm.types import Completion, Sampling
from reward_models.load import check_reward, load_reward
from reward_models.task import TaskReward
from reward_models.types import RewardModel, Values, judged_apart
from rl.config_supervised import SampledConfig
from rl.feed import check_one_process
from rl.rollouts import SCHEMA, parts_text, prompt_id, reward_figures, turns_of
from rl.weight_method import Stage, check_examples
from tasks.types import Example

EXTRA = [pa.field("prompt_ids", pa.list_(pa.int64())), pa.field("correct", pa.bool_())]
DRAWN = pa.schema([*SCHEMA, *EXTRA])
ROWS_AT_ONCE = 128  # answers in a part

Answer = dict[str, Any]  # a row of `DRAWN`


def check_sampled(
    method: str,
    config: SampledConfig,
    policy: Policy,
    train: Sequence[Example],
    dev: Sequence[Example],
    score: ScoreFunction,
) -> None:
    """What a method on drawn answers needs. Raises ModelError, TaskError and RewardError."""
    check_one_process(method)
    check_examples(method, train, dev, 1, "prompts_per_round")
    examples = {example.id: example for example in train}
    check_reward(config.reward, score=score, prompt=policy.prompt, examples=examples)


class Draws:
    """Draws and scores answers with a stage's live weights."""

    def __init__(self, config: SampledConfig, stage: Stage):
        self.stage, context = stage, stage.context
        self.sampling = Sampling(
            max_tokens=context.sampling.max_tokens,
            temperature=config.temperature,
            stop=context.sampling.stop,
            n=config.samples_per_prompt,
        )
        facts: dict[str, Any] = {
            "score": context.score,
            "prompt": stage.policy.prompt,
            "examples": {example.id: example for example in stage.train},
        }
        self.task = TaskReward(**facts)
        own = config.reward == "task"
        self.reward: RewardModel = (
            self.task if own else load_reward(config.reward, **facts, ledger=context.ledger)
        )
        self.folder = stage.journal.checkpoints / "drawn"

    def taken(
        self,
        examples: Sequence[Example],
        number: int,
        *,
        again: bool,
        report: Callable[..., None],
    ) -> list[Answer]:
        """The answers of round `number`, prompt by prompt: those on disk, the others drawn.

        When the budget runs out they are fewer. With `again` the round was drawn before the
        checkpoint this run goes on from: then all there are is on disk, and the ledger knows.
        Raises BudgetExhausted when it runs out before the first answer. The live model is left in
        the mode it was in.
        """
        size = max(1, ROWS_AT_ONCE // self.sampling.n)
        model = self.stage.live.model
        training = model.training
        answers: list[Answer] = []
        for part, start in enumerate(range(0, len(examples), size)):
            path = self.folder / f"{number:03d}-{part:04d}.parquet"
            if path.exists():
                answers += self._read(path, count=not again)
            elif not again:
                try:
                    table = self._draw(examples[start : start + size], (number << 16) + part)
                except BudgetExhausted:
                    if answers:
                        break
                    raise
                finally:
                    model.train(training)  # sampling has switched it
                _write(path, table)
                answers += table.to_pylist()
                report(drawn=len(answers))
        return answers

    def _draw(self, examples: Sequence[Example], number: int) -> pa.Table:
        """A part, as it is kept; the draws depend on the seed and `number` alone."""
        live, n = self.stage.live, self.sampling.n
        chats = [self.stage.policy.prompt.messages(example.inputs) for example in examples]
        sampling = replace(self.sampling, seed=(self.stage.context.seed << 32) + number)
        live.forget()  # a run that was killed and goes on must round as one that was not
        with Stopwatch() as watch:
            tools = toolboxes(self.task.score, self.task.prompt, examples)
            drawn = converse(live, chats, tools, sampling, "rollout")
        answers = [answer for group in drawn for answer in group]
        rows = [
            {
                **_answer(completion),
                "example_id": example.id,
                "prompt_id": prompt_id(chat),
                "prompt_ids": live.encode(chat),
                "sample": sample,
            }
            for example, chat, group in zip(examples, chats, drawn, strict=True)
            for sample, completion in enumerate(group)
        ]
        self._score(rows, [chat for chat in chats for _ in range(n)], answers)
        return pa.Table.from_pylist(
            rows, schema=DRAWN.with_metadata({"seconds": repr(watch.seconds)})
        )

    def _score(self, rows: list[Answer], chats: list[Any], drawn: Sequence[Completion]) -> None:
        """Fill in whether each answer is correct by the task, its score and its reward."""
        replies = [turns_of(answer) for answer in drawn]
        ids = [row["example_id"] for row in rows]
        for row, score in zip(rows, self.task.judged(replies, ids), strict=True):
            row["correct"] = score.correct
            row["score"] = row["reward"] = None if score.failure == "error" else score.value
        if self.reward is not self.task:
            tokens = [list(answer.own_tokens) for answer in drawn]
            columns = {"example_id": ids, "completion_ids": tokens}
            paid = judged_apart(self.reward, chats, replies, **columns)
            for place, row in enumerate(rows):
                row["reward"] = paid.values[place]
                row["parts"] = parts_text(paid.parts, place)

    def _read(self, path: Path, *, count: bool) -> list[Answer]:
        table = pq.read_table(path)
        answers = table.to_pylist()
        if count:
            n = self.sampling.n
            self.stage.context.ledger.add(
                "rollout",
                completions=len(answers),
                prompt_tokens=sum(len(answer["prompt_ids"]) for answer in answers[::n])
                + sum(answer["mask"].count(0) for answer in answers),
                completion_tokens=sum(sum(answer["mask"]) for answer in answers),
                seconds=float(table.schema.metadata[b"seconds"]),
                again=True,
            )
        return answers


def _answer(completion: Completion) -> Answer:
    return {
        "text": completion.text,
        "token_ids": completion.token_ids,
        "mask": completion.own,
        "logprobs": completion.logprobs,
        "finish": completion.finish_reason,
        "transcript": transcript_text(completion),
    }


def rollouts_table(answers: Sequence[Answer], advantages: Sequence[float], step: int) -> pa.Table:
    """What the run keeps of the answers: `SCHEMA`, drawn before `step`."""
    rows = [
        {**answer, "step": step, "advantage": advantage}
        for answer, advantage in zip(answers, advantages, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def drawn_figures(answers: Sequence[Answer]) -> dict[str, float | None]:
    """Means over the answers for metrics.jsonl; those without a value are left out."""
    return {
        "reward": _mean([answer["reward"] for answer in answers]),
        "score": _mean([answer["score"] for answer in answers]),
        "completion_tokens": _mean([sum(answer["mask"]) for answer in answers]),
        "clipped": _mean([answer["finish"] == "length" for answer in answers]),
        **_parts_figures(answers),
    }


def _parts_figures(answers: Sequence[Answer]) -> dict[str, float | None]:
    """Nothing where the reward has no parts, as the task's score has none."""
    told = [json.loads(answer["parts"]) for answer in answers if answer.get("parts")]
    if not told:
        return {}
    parts: dict[str, Values] = {name: [row[name] for row in told] for name in told[0]}
    return reward_figures([answer["reward"] for answer in answers], parts)


def note_draws(
    stage: Stage, answers: Sequence[Answer], advantages: Sequence[float], step: int, **counts: int
) -> None:
    """Keep the answers drawn for `step` in the run, and a row of their figures."""
    stage.journal.keep_rollouts(step, rollouts_table(answers, advantages, step))
    figures = {**drawn_figures(answers), **counts}
    used = stage.context.ledger.rollouts
    stage.journal.log({"step": step, "phase": "draw", **figures, "rollouts": used})


def next_prompts(stage: Stage, size: int, number: int) -> list[Example]:
    """The train examples of round `number` (from 0), all different.

    Rounds go on in train, which is shuffled anew when less than a round is left of it.
    """
    train = list(stage.train)
    size = min(size, len(train))
    turn, place = divmod(number, len(train) // size)
    rng = random.Random(f"prompts/{stage.context.seed}/{turn}")
    return rng.sample(train, len(train))[place * size : place * size + size]


def grouped(answers: Sequence[Answer]) -> list[list[int]]:
    """The places of the answers of each prompt, in order."""
    groups: dict[str, list[int]] = {}
    for place, answer in enumerate(answers):
        groups.setdefault(answer["example_id"], []).append(place)
    return list(groups.values())


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _write(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    pq.write_table(table, draft)
    os.replace(draft, path)
