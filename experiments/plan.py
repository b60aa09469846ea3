"""From arms to stages: arms that begin with the same methods share those stages.

A stage is one method run once, from one policy, with one seed. Its key is a hash of all that its
result depends on, so the same stage is found again by any arm and by any later run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.locate import code_digest, proposer_digest, reward_digest
from experiments.methods import KINDS
from experiments.spec import ExperimentSpec, Step


@dataclass(frozen=True)
class Stage:
    """`parent` is the stage whose policy it starts from, None for the untouched model."""

    key: str
    step: Step
    seed: int
    parent: Stage | None
    arms: tuple[str, ...]  # all that use it, in the order of the spec
    tools: bool = True  # whether its answers may use the task's

    def ancestors(self) -> list[str]:
        """The keys of the stages before it in its chain, the first one first."""
        return [*self.parent.ancestors(), self.parent.key] if self.parent else []

    def expected_rollouts(self, budget: int | None = None) -> int:
        """About as many answers as it will draw, where its arm may draw `budget` in all."""
        config = KINDS[self.step.kind].config.model_validate(self.step.config)
        wanted = config.expected_rollouts()
        return wanted if budget is None else min(wanted, self.left_of(budget))

    def left_of(self, budget: int) -> int:
        """What the stages before it are expected to leave of the arm's rollouts."""
        if self.parent is None:
            return budget
        return self.parent.left_of(budget) - self.parent.expected_rollouts(budget)


@dataclass(frozen=True)
class Arm:
    """One row of the final table: a chain of stages with one seed."""

    name: str
    seed: int
    stages: tuple[Stage, ...]
    tools: bool = True


@dataclass(frozen=True)
class Plan:
    """Stages in an order in which every parent comes before its children, and the arms."""

    stages: tuple[Stage, ...]
    arms: tuple[Arm, ...]


def make_plan(spec: ExperimentSpec, world: str, base: Path) -> Plan:
    """The stages `spec` needs. `world` stands for task and weights: what keys hang on besides.

    `base` is the folder of the spec; code of the user's that a config names counts by its content,
    a model that proposes by its weights. Raises ModelError when that is not to be found.
    """
    root = digest(
        *(world, spec.splits.train, spec.splits.dev, spec.sampling.model_dump()),
        # what a stage gets is what those before it, which its key holds, leave of the budget
        *([spec.budget.model_dump()] if spec.budget else []),
    )
    stages: dict[str, Stage] = {}
    arms = []
    for seed in spec.seeds:
        for name, chain in spec.arms.items():
            users, tools = _users(spec, name), spec.has_tools(name)
            path: list[Stage] = []
            for depth, step in enumerate(chain):
                parent = path[-1] if path else None
                digests = (code_digest, proposer_digest, reward_digest)
                code = [part for found in digests for part in found(step.config, base)]
                start = root if tools else digest(root, "without tools")
                key = digest(parent.key if parent else start, step.kind, step.config, code, seed)
                stage = Stage(key, step, seed, parent, users[depth], tools)
                path.append(stages.setdefault(key, stage))
            arms.append(Arm(name, seed, tuple(path), tools))
    return Plan(tuple(stages.values()), tuple(arms))


def _users(spec: ExperimentSpec, arm: str) -> list[tuple[str, ...]]:
    """For each depth of the arm's chain, the arms that begin with the same methods up to there."""
    chain = spec.arms[arm]

    def methods(steps: list[Step]) -> list[tuple[str, dict[str, Any]]]:
        return [(step.kind, step.config) for step in steps]

    return [
        tuple(
            name
            for name, other in spec.arms.items()
            if methods(other[: depth + 1]) == methods(chain[: depth + 1])
            and spec.has_tools(name) == spec.has_tools(arm)
        )
        for depth in range(len(chain))
    ]


def digest(*parts: Any) -> str:
    """16 hex digits over the JSON of `parts`."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def describe(spec: ExperimentSpec, plan: Plan, done: set[str]) -> Iterator[str]:
    """The plan in words, a line at a time; `done` holds the keys of finished stages."""
    yield f"experiment {spec.name}: task {spec.task}, model {spec.model.source}"
    yield f"{len(plan.arms)} arms, {len(plan.stages)} stages; arms share what they have in common"
    for arm in plan.arms:
        chain = " > ".join(stage.step.name for stage in arm.stages) or "nothing: as it comes"
        baseline = "  (baseline)" if arm.name == spec.baseline else ""
        without = "" if arm.tools else "  (without tools)"
        yield f"  {arm.name}, seed {arm.seed}: {chain}{without}{baseline}"
    total, budget = 0, spec.budget
    if budget is not None:
        limits = ", ".join(f"{v:,} {k}" for k, v in budget.model_dump(exclude_none=True).items())
        yield f"budget: each arm at most {limits}; its methods take of it in their order"
    for stage in plan.stages:
        rollouts = stage.expected_rollouts(budget and budget.rollouts)
        state = "done" if stage.key in done else f"about {rollouts:,} rollouts"
        if KINDS[stage.step.kind].moves == "decoding":
            state = f"nothing to train; {stage.step.config['n']} draws for each answer on test"
        total += 0 if stage.key in done else rollouts
        yield f"  stage {stage.key} {stage.step.name}, seed {stage.seed}: {state}"
    test = spec.splits.test or "all"
    yield f"to do: about {total:,} rollouts, then {test} test examples for each different policy"
