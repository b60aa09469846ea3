"""The rollouts of the step at hand: drawn, rewarded, and turned into rows for the run folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from evaluation.environment import toolboxes
from evaluation.evaluate import transcript_text
from lm.hf import HFModel
from lm.ledger import BudgetExhausted
from lm.ranks import gathered, own_part, shared
from lm.turns import Tools, converse
from lm.types import Completion, ModelError, Sampling
from reward_models.task import TaskReward
from reward_models.types import Judged, RewardModel, Values, find, judged_apart
from rl.prompt_choice import PromptChoice

# `advantage` is missing for an answer that was drawn but not trained on, `parts` (JSON: what each
# part of the reward said of it, by name) where the reward has none, `transcript` (JSON: its turns)
# where there are no tools
SCHEMA = pa.schema(
    {
        "step": pa.int64(),
        "example_id": pa.string(),
        "prompt_id": pa.string(),
        "sample": pa.int64(),
        "text": pa.string(),
        "token_ids": pa.list_(pa.int64()),
        "mask": pa.list_(pa.int8()),
        "logprobs": pa.list_(pa.float32()),
        "reward": pa.float32(),
        "score": pa.float32(),
        "advantage": pa.float32(),
        "finish": pa.string(),
        "parts": pa.string(),
        "transcript": pa.string(),
    }
)


@dataclass(frozen=True)
class Group:
    """The answers to one prompt, and what they earned."""

    row: Mapping[str, Any]  # of the dataset: prompt, example_id
    completions: list[Completion]
    rewards: list[float | None]
    scores: list[float | None]
    parts: Mapping[str, Values] = field(default_factory=dict)  # of the rewards, by name

    @property
    def is_dead(self) -> bool:
        """Whether all rewards are equal, so that a comparison within it teaches nothing."""
        return len(set(self.rewards) - {None}) < 2


@dataclass
class Rollouts:
    """One step's rollouts, in TRL's row order: group after group, `sampling.n` rows a group.

    `model` wraps the trainer's live weights. `reward` is what is trained on; `task`, the task's
    own score, is kept beside it so that reward hacking shows. `choice` picks prompts where the
    dataset's order does not; up to `resample` times a step, groups without a signal are replaced
    by those of other prompts (dynamic sampling: Yu et al., 2025, arXiv:2503.14476). The fields
    below belong to the newest step. Of several processes each draws and rewards its share, all know
    all groups, and each trains on its own.
    """

    model: HFModel
    sampling: Sampling
    seed: int
    reward: RewardModel
    task: TaskReward
    choice: PromptChoice | None = None
    resample: int = 0
    step: int = 0
    groups: list[Group] = field(default_factory=list)
    replaced: list[Group] = field(default_factory=list)  # drawn, but not trained on
    advantages: list[float] = field(default_factory=list)
    trained_tokens: int = 0  # prompt and completion tokens of the rows that ran forward
    logprob_gap: float | None = None  # nats, sampler against trainer, max over the step's tokens

    @property
    def own(self) -> list[Group]:
        """The groups this process trains on: all, if it is alone."""
        return self.groups[own_part(len(self.groups))]

    @property
    def completions(self) -> list[Completion]:
        return [completion for group in self.groups for completion in group.completions]

    @property
    def rewards(self) -> list[float | None]:
        return [reward for group in self.groups for reward in group.rewards]

    @property
    def scores(self) -> list[float | None]:
        return [score for group in self.groups for score in group.scores]

    def collect(self, rows: Sequence[Any], step: int, **columns: Any) -> list[Any]:
        """Draw and reward the answers of optimizer step `step`; returns the rows TRL is to train.

        `rows` are TRL's, each `n` times in a row; `columns` go to the reward, as TRL's do. The
        draws depend on (seed, step, row) alone, and on pass rates where prompts are chosen by them.
        """
        self.step, self.replaced, self.logprob_gap = step, [], None
        asked = [row for some in gathered(rows[:: self.sampling.n]) for row in some]
        if self.choice is not None and self.choice.weighted:
            asked = self.choice.rows(step, 0, len(asked))
        self.groups = self._ask(asked, 0, columns)
        for turn in range(1, self.resample + 1):
            dead = [i for i, group in enumerate(self.groups) if group.is_dead]
            if not dead:
                break
            try:
                self._replace(dead, turn, columns)
            except BudgetExhausted:  # what is paid for is trained on; the next step ends the stage
                break
        if self.choice is not None:
            self.choice.rates.add_rows(
                (group.row["example_id"], as_stored(score))
                for group in [*self.groups, *self.replaced]
                for score in group.scores
            )
        return [group.row for group in self.own for _ in range(self.sampling.n)]

    def _replace(self, dead: Sequence[int], turn: int, columns: dict[str, Any]) -> None:
        assert self.choice is not None
        used = {group.row["example_id"] for group in [*self.groups, *self.replaced]}
        rows = self.choice.rows(self.step, turn, len(dead), without=used)
        fresh = self._ask(rows, turn, columns) if rows else []
        alive = [group for group in fresh if not group.is_dead]
        self.replaced += [group for group in fresh if group.is_dead]
        for place, group in zip(dead, alive, strict=False):
            self.replaced.append(self.groups[place])
            self.groups[place] = group

    def _ask(self, rows: Sequence[Any], turn: int, columns: dict[str, Any]) -> list[Group]:
        sampling = replace(self.sampling, seed=(self.seed << 32) + (turn << 24) + self.step)
        self.model.forget()  # a run that was killed and goes on must round as one that was not
        chats = [row["prompt"] for row in rows]
        answers = converse(self.model, chats, self._tools(rows), sampling, "rollout")
        if not all(completion.token_ids for group in answers for completion in group):
            raise ModelError(f"model: {self.model.name} drew an answer without a single token")
        pairs = list(zip(rows, answers, strict=True))
        return shared(pairs, lambda some: self._judge(some, columns))

    def _tools(self, rows: Sequence[Any]) -> Sequence[Tools | None]:
        asked = [find(self.task.examples, row["example_id"], "task") for row in rows]
        return toolboxes(self.task.score, self.task.prompt, asked)

    def _judge(
        self, pairs: Sequence[tuple[Any, list[Completion]]], columns: dict[str, Any]
    ) -> list[Group]:
        """Both rewards read the answers as sampled: TRL's own decoding knows no stop strings."""
        if not pairs:
            return []
        each = [(row, answer) for row, answers in pairs for answer in answers]
        prompts = [row["prompt"] for row, _ in each]
        replies = [turns_of(answer) for _, answer in each]
        named = {name: [row[name] for row, _ in each] for name in pairs[0][0] if name != "prompt"}
        named |= {"completion_ids": [list(answer.own_tokens) for _, answer in each], **columns}
        scores = self.task(prompts, replies, **named)
        same = self.reward is self.task
        paid = Judged(scores, {}) if same else judged_apart(self.reward, prompts, replies, **named)
        n = self.sampling.n
        groups = []
        for i, (row, answers) in enumerate(pairs):
            rows = slice(i * n, i * n + n)
            parts = {name: values[rows] for name, values in paid.parts.items()}
            groups.append(Group(row, answers, paid.values[rows], scores[rows], parts))
        return groups

    def for_trl(self) -> dict[str, list[list[Any]]]:
        """What TRL asks of a `rollout_func`: the groups of this process."""
        prompts = [self.model.encode(group.row["prompt"]) for group in self.own]
        drawn = [completion for group in self.own for completion in group.completions]
        masks = {"env_mask": [list(c.own) for c in drawn]} if any(c.mask for c in drawn) else {}
        return {
            "prompt_ids": [ids for ids in prompts for _ in range(self.sampling.n)],
            "completion_ids": [list(c.token_ids) for c in drawn],
            "logprobs": [list(c.logprobs) for c in drawn],
            **masks,
        }

    def row(self, logs: dict[str, Any]) -> dict[str, Any]:
        """The step in metrics.jsonl: what was drawn, and what TRL logged of the update."""
        figures = self.figures()
        return {
            "reward": figures.pop("reward"),
            "reward_std": logs["reward_std"],
            "score": figures.pop("score"),
            "loss": logs["loss"],
            "entropy": logs["entropy"],
            "grad_norm": logs["grad_norm"],
            **figures,
            "logprob_gap": _largest(gathered(self.logprob_gap)),
            **{k: v for k, v in logs.items() if k == "kl" or k.startswith("objective/")},
        }

    def figures(self) -> dict[str, float | None]:
        """Means over the step's rollouts for metrics.jsonl; rows without a value are left out.

        `completion_tokens` is per rollout, `clipped` the share cut at max_tokens, `dead_groups`
        the share of groups whose rewards are all equal and so teach nothing, `replaced` the number
        of groups drawn beyond those trained on. Where the reward is not the task's own score,
        `unrewarded` is the share without one, and `reward/NAME` what part NAME said.
        """
        drawn = self.completions
        names = self.groups[0].parts
        said = {name: [v for group in self.groups for v in group.parts[name]] for name in names}
        return {
            "reward": _mean(self.rewards),
            "score": _mean(self.scores),
            "completion_tokens": sum(c.completion_tokens for c in drawn) / len(drawn),
            "clipped": sum(c.finish_reason == "length" for c in drawn) / len(drawn),
            "dead_groups": sum(group.is_dead for group in self.groups) / len(self.groups),
            **({"replaced": len(self.replaced)} if self.resample else {}),
            **({} if self.reward is self.task else reward_figures(self.rewards, said)),
        }

    def table(self) -> pa.Table:
        """One row per rollout with the columns of `SCHEMA`; `mask` is 1 for the model's tokens."""
        rows = [
            {
                "step": self.step,
                "example_id": group.row["example_id"],
                "prompt_id": prompt_id(group.row["prompt"]),
                "sample": i,
                "text": completion.text,
                "token_ids": completion.token_ids,
                "mask": completion.own,
                "logprobs": completion.logprobs,
                "reward": group.rewards[i],
                "score": group.scores[i],
                "finish": completion.finish_reason,
                "parts": parts_text(group.parts, i),
                "transcript": transcript_text(completion),
            }
            for group in [*self.groups, *self.replaced]
            for i, completion in enumerate(group.completions)
        ]
        for row, advantage in zip(rows, self.advantages, strict=False):  # none of those replaced
            row["advantage"] = advantage
        return pa.Table.from_pylist(rows, schema=SCHEMA)


def turns_of(answer: Completion) -> list[Any]:
    """An answer as rewards get it: its turns, the last one its text."""
    return list(answer.transcript) or [{"role": "assistant", "content": answer.text}]


def reward_figures(rewards: Values, parts: Mapping[str, Values]) -> dict[str, float | None]:
    """For metrics.jsonl: the share of answers without a reward, and the mean of each part."""
    missing = sum(reward is None for reward in rewards) / len(rewards)
    return {"unrewarded": missing, **{f"reward/{name}": _mean(v) for name, v in parts.items()}}


def parts_text(parts: Mapping[str, Values], place: int) -> str | None:
    """The parts of one answer, as rollouts.parquet keeps them; None where there are none."""
    return json.dumps({name: v[place] for name, v in parts.items()}) if parts else None


def prompt_id(chat: Any) -> str:
    """12 hex digits that name the chat as sent: the same for all rollouts of one prompt."""
    return hashlib.sha256(json.dumps(chat, ensure_ascii=False).encode()).hexdigest()[:12]


def as_stored(score: float | None) -> float | None:
    """The score as a resume will read it from rollouts.parquet."""
    return None if score is None else float(np.float32(score))


def _largest(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
