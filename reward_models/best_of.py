"""Best-of-n as a decoding-time method: several answers are drawn, a reward or a vote picks one.

The policy's prompt and weights stay as they are; what moves is how it answers, so an arm of it is
measured in the same table as any other, with the tokens of all its draws. Whoever picks sees what
the model's user would: the question and the answers, never gold.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from evaluation.evaluate import Choose
from evaluation.types import BestOf, Context, Policy, ScoreFunction
from lm.ledger import Ledger
from lm.types import Chat, Completion
from reward_models.best_of_config import BestOfConfig
from reward_models.config import (
    FUNCTION,
    MAJORITY,
    AnyReward,
    dump_reward,
    name_of,
    parse_reward,
    reads_gold,
    singles,
)
from reward_models.content import content_digest
from reward_models.load import check_reward, load_reward
from reward_models.types import RewardError, RewardModel, Unsolved
from tasks.text import normalize
from tasks.tools import unanswered
from tasks.types import Example, Prompt, Score

Group = Sequence[Completion]  # the answers to one question among which one is picked
Picks = Callable[[Sequence[Example], Sequence[Chat], Sequence[Group]], list[int]]


class ChooseBest:
    """The method `best_of`: it only says how the policy shall answer."""

    def __init__(self, config: BestOfConfig):
        self.config = config

    def check(
        self,
        policy: Policy,
        train: Sequence[Example],
        dev: Sequence[Example],
        score: ScoreFunction,
    ) -> None:
        """Raises RewardError for a reward that reads gold, and what `check_reward` raises.

        Functions are tried on one question: it shows now, not after hours of training, whether
        they can do without the answer.
        """
        policy.refuse_program("best_of")
        if self.config.reward == MAJORITY:
            return
        refuse_gold(self.config.reward)
        examples = blind([*train, *dev][:1])
        facts: dict[str, Any] = {"score": no_score, "prompt": policy.prompt, "examples": examples}
        check_reward(self.config.reward, **facts)
        for single in singles(self.config.reward):
            if isinstance(single, str) and FUNCTION.fullmatch(single):
                _try(load_reward(single, **facts), policy.prompt, list(examples.values()))

    def improve(
        self,
        policy: Policy,
        train: Sequence[Example],
        dev: Sequence[Example],
        context: Context,
    ) -> Policy:
        return self.answering(policy, context.seed)

    def answering(self, policy: Policy, seed: int) -> Policy:
        """`policy`, answering as the config says."""
        config = self.config
        reward = json.dumps(dump_reward(config.reward))
        digest = content_digest(config.reward)
        best = BestOf(config.n, config.temperature, reward, digest, seed)
        return replace(policy, best_of=best)


def chooser(
    best_of: BestOf, prompt: Prompt, examples: Sequence[Example], ledger: Ledger | None
) -> Choose:
    """What `evaluation.evaluate` calls to pick among the answers to `examples`.

    Raises RewardError when the reward cannot be loaded, or is not the one the policy was made with.
    """
    reward = parse_reward(json.loads(best_of.reward))
    if reward == MAJORITY:
        return choose_by(majority(prompt), best_of.n)
    if content_digest(reward) != best_of.digest:
        raise RewardError(
            f"reward {name_of(reward)}: has changed since the arm was made; run the spec again"
        )
    loaded = load_reward(
        reward, score=no_score, prompt=prompt, examples=blind(examples), ledger=ledger
    )
    return choose_by(by_reward(loaded), best_of.n)


def choose_by(picks: Picks, n: int) -> Choose:
    """Of every `n` answers drawn for an example the one that `picks` names.

    It carries the tokens of all n: they are what the answer cost.
    """

    def choose(
        examples: Sequence[Example], chats: Sequence[Chat], rows: Sequence[Sequence[Completion]]
    ) -> list[list[Completion]]:
        chosen: list[list[Completion]] = [[] for _ in rows]
        for start in range(0, len(rows[0]), n):
            groups = [row[start : start + n] for row in rows]
            places = picks(examples, chats, groups)
            for found, group, place in zip(chosen, groups, places, strict=True):
                spent = sum(completion.completion_tokens for completion in group)
                found.append(replace(group[place], counted_tokens=spent))
        return chosen

    return choose


def by_reward(reward: RewardModel) -> Picks:
    """The highest reward wins, the first of equal ones; None, and an answer that ends with a call,
    loses against any number."""

    def picks(
        examples: Sequence[Example], chats: Sequence[Chat], groups: Sequence[Group]
    ) -> list[int]:
        values = _asked(reward, examples, chats, groups)
        keys = [float("-inf") if value is None else value for value in values]
        size = len(groups[0])
        return [
            max(range(size), key=lambda i, at=start: keys[at + i])  # max takes the first of equals
            for start in range(0, len(keys), size)
        ]

    return picks


def _asked(
    reward: RewardModel, examples: Sequence[Example], chats: Sequence[Chat], groups: Sequence[Group]
) -> list[float | None]:
    """The reward of each answer, called as a trainer calls it."""
    each = [(e, c, a) for e, c, g in zip(examples, chats, groups, strict=True) for a in g]
    values = reward(
        [chat for _, chat, _ in each],
        [[{"role": "assistant", "content": _said(answer)}] for _, _, answer in each],
        example_id=[example.id for example, _, _ in each],
        completion_ids=[list(answer.own_tokens) for _, _, answer in each],
        trainer_state=None,
    )
    return [None if _calls(a) else v for (_, _, a), v in zip(each, values, strict=True)]


def _calls(answer: Completion) -> bool:
    """Whether it ends with a call that nobody has answered: no answer at all."""
    return bool(answer.transcript) and unanswered(answer.transcript)


def _said(answer: Completion) -> str:
    return "" if _calls(answer) else answer.text


def _try(reward: RewardModel, prompt: Prompt, examples: Sequence[Example]) -> None:
    said = [Completion(text, (0,), (0.0,), "stop", 1) for text in ("an answer", "another one")]
    chats = [prompt.messages(example.inputs) for example in examples]
    try:
        _asked(reward, examples, chats, [said] * len(examples))
    except RewardError as error:
        raise RewardError(f"{error}; in best_of it must do without answer and meta") from None


def majority(prompt: Prompt) -> Picks:
    """The most frequent extracted answer wins, the one said first of equally frequent ones.

    Answers are extracted by `prompt` and compared without case, quotes and punctuation around
    them. An empty one, a reply without an answer or one that ends with a call has no vote unless
    all are so.
    """

    def winner(group: Group) -> int:
        said = [normalize(prompt.extract(_said(answer)) or "") for answer in group]
        votes = Counter(answer for answer in said if answer)
        return said.index(votes.most_common(1)[0][0]) if votes else 0  # a Counter keeps the order

    return lambda examples, chats, groups: [winner(group) for group in groups]


def refuse_gold(reward: AnyReward) -> None:
    """Raises RewardError for a reward that needs to know the right answer."""
    if reads_gold(reward):
        raise RewardError(
            f"best_of: reward {name_of(reward)!r} reads the gold answer, which nobody has when the "
            "model is used; write majority, a learned reward's folder, a judge or path.py:function"
        )


def blind(examples: Sequence[Example]) -> Mapping[str, Example]:
    """The examples by id, as one who does not know the answers sees them."""
    return {example.id: Unsolved.of(example) for example in examples}


def no_score(example: Example, text: str) -> Score:
    """Stands where a scorer is asked for; no reward that gets here may use it."""
    raise RewardError(f"best_of: a reward asked for the score of example {example.id!r}")
