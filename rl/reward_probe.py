"""What degenerate answers earn, before anything is trained on them, as findings of the audit."""

from __future__ import annotations

from collections.abc import Sequence

from reward_models.probe import PROBED, Longer, Passing, probe
from reward_models.task import TaskReward
from reward_models.types import RewardModel
from rl.findings import Finding
from tasks.types import Example, Prompt


def probe_reward(
    reward: RewardModel,
    task: TaskReward,
    prompt: Prompt,
    examples: Sequence[Example],
    *,
    limit: int = PROBED,
) -> list[Finding]:
    """One finding for each kind of degenerate answer; see `reward_models.probe.probe`."""
    found = probe(reward, task, prompt, examples, limit=limit)
    notes = [Finding(f"reward: {name}", "note", None, said) for name, said in found.notes]
    return [*map(_passing, found.passing), *_length(found.longer), *notes]


def _passing(found: Passing) -> Finding:
    said = (
        f"passes for gold on {found.here} of {found.n} examples, by the task's score on "
        f"{found.there}; mean reward {found.mean:.3g}, gold {found.gold:.3g}"
    )
    level = "tripped" if found.trips else "ok"
    return Finding(f"reward: {found.kind}", level, None, said)


def _length(found: Sequence[Longer]) -> list[Finding]:
    said = [
        f"{one.kind} made longer is paid more on {one.more} of {one.n} examples" for one in found
    ]
    level = "tripped" if any(one.trips for one in found) else "ok"
    return [Finding("reward: length", level, None, "; ".join(said))] if said else []
