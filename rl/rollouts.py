"""The rollouts of the step at hand: drawn, rewarded, and turned into rows for the run folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from lm.hf import HFModel
from lm.types import Completion, ModelError, Sampling
from reward_models.task import TaskReward
from reward_models.types import RewardModel

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
    }
)


@dataclass
class Rollouts:
    """One step's rollouts, in TRL's row order: group after group, `sampling.n` rows a group.

    `model` wraps the trainer's live weights. `reward` is what is trained on; `task`, the task's
    own score, is kept beside it so that reward hacking shows. The other fields belong to the
    newest step and are written by `draw`, by `rewarded` and by the trainer.
    """

    model: HFModel
    sampling: Sampling
    seed: int
    reward: RewardModel
    task: TaskReward
    step: int = 0
    chats: list[Any] = field(default_factory=list)
    example_ids: list[str] = field(default_factory=list)
    completions: list[Completion] = field(default_factory=list)
    rewards: list[float | None] = field(default_factory=list)
    scores: list[float | None] = field(default_factory=list)
    advantages: list[float] = field(default_factory=list)
    trained_tokens: int = 0  # prompt and completion tokens of the rows that ran forward
    logprob_gap: float | None = None  # nats, sampler against trainer, max over the step's tokens

    def draw(self, chats: Sequence[Any], step: int) -> dict[str, list[list[Any]]]:
        """Sample for TRL's rows (each chat stands `n` times in a row) at optimizer step `step`.

        The draws depend on (seed, step, row) alone. Returns what TRL asks of a `rollout_func`.
        """
        n = self.sampling.n
        sampling = replace(self.sampling, seed=(self.seed << 32) + step)
        self.model.forget()  # a run that was killed and goes on must round as one that was not
        groups = self.model.generate(chats[::n], sampling, "rollout")
        prompt_ids = [ids for chat in chats[::n] for ids in [self.model.encode(chat)] * n]
        self.step, self.chats = step, list(chats)
        self.completions = [completion for group in groups for completion in group]
        self.logprob_gap = None
        if not all(completion.token_ids for completion in self.completions):
            raise ModelError(f"model: {self.model.name} drew an answer without a single token")
        return {
            "prompt_ids": prompt_ids,
            "completion_ids": [list(c.token_ids) for c in self.completions],
            "logprobs": [list(c.logprobs) for c in self.completions],
        }

    def rewarded(
        self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any
    ) -> list[float | None]:
        """The reward function TRL sees; it also notes the task's own score.

        Both read the answers as sampled: TRL's own decoding of the tokens knows no stop strings.
        """
        answers = [[{"role": "assistant", "content": c.text}] for c in self.completions]
        self.example_ids = list(columns["example_id"])
        self.scores = self.task(prompts, answers, **columns)
        own = self.reward is self.task
        self.rewards = self.scores if own else self.reward(prompts, answers, **columns)
        return self.rewards

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
            "logprob_gap": self.logprob_gap,
            **{k: v for k, v in logs.items() if k == "kl" or k.startswith("objective/")},
        }

    def figures(self) -> dict[str, float | None]:
        """Means over the step's rollouts for metrics.jsonl; rows without a value are left out.

        `completion_tokens` is per rollout, `clipped` the share cut at max_tokens, `dead_groups`
        the share of groups whose rewards are all equal and so teach nothing.
        """
        n, count = self.sampling.n, len(self.completions)
        groups = [set(self.rewards[i : i + n]) - {None} for i in range(0, count, n)]
        return {
            "reward": _mean(self.rewards),
            "score": _mean(self.scores),
            "completion_tokens": sum(len(c.token_ids) for c in self.completions) / count,
            "clipped": sum(c.finish_reason == "length" for c in self.completions) / count,
            "dead_groups": sum(len(group) < 2 for group in groups) / len(groups),
        }

    def table(self) -> pa.Table:
        """One row per rollout with the columns of `SCHEMA`; `mask` is 1 for the model's tokens."""
        rows = [
            {
                "step": self.step,
                "example_id": self.example_ids[i],
                "prompt_id": prompt_id(self.chats[i]),
                "sample": i % self.sampling.n,
                "text": completion.text,
                "token_ids": completion.token_ids,
                "mask": [1] * len(completion.token_ids),
                "logprobs": completion.logprobs,
                "reward": self.rewards[i],
                "score": self.scores[i],
                "advantage": self.advantages[i],
                "finish": completion.finish_reason,
            }
            for i, completion in enumerate(self.completions)
        ]
        return pa.Table.from_pylist(rows, schema=SCHEMA)


def prompt_id(chat: Any) -> str:
    """12 hex digits that name the chat as sent: the same for all rollouts of one prompt."""
    return hashlib.sha256(json.dumps(chat, ensure_ascii=False).encode()).hexdigest()[:12]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
