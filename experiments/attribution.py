"""Weights or prompt? The four policies behind an arm that moved both.

They are {base, tuned} weights x {base, tuned} prompt: the untouched policy, each of the two moved
alone, and the arm itself. Where a cell is the policy of an arm too, its answers are already there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from evaluation.types import Policy
from experiments.methods import KINDS
from experiments.plan import Arm, Plan
from experiments.spec import ExperimentSpec, moves_both

CELLS = {
    "base": "base prompt, base weights",
    "prompt": "tuned prompt, base weights",
    "weights": "base prompt, tuned weights",
    "both": "tuned prompt, tuned weights",
}


def crossed(spec: ExperimentSpec, arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """The arms to take apart: those that move both and nothing else, when the spec asks for it."""
    if not spec.attribution:
        return ()
    return tuple(arm for arm in arms if moves_both(stage.step for stage in arm.stages))


def cells(start: Policy, last: Policy) -> dict[str, Policy]:
    """The policies of `CELLS` for an arm that began as `start` and ended as `last`.

    Only weights, adapter and quantization change hands, all three of them, so that whatever else
    a policy has goes with its prompt.
    """
    return {
        "base": start,
        "prompt": _with_weights_of(start, last),
        "weights": _with_weights_of(last, start),
        "both": last,
    }


def _with_weights_of(donor: Policy, policy: Policy) -> Policy:
    return replace(
        policy,
        adapter=donor.adapter,
        weights=donor.weights,
        quantization=donor.quantization,
    )


def describe_cells(spec: ExperimentSpec, plan: Plan) -> Iterator[str]:
    """What the attribution adds to the plan, in one line; none where it is not asked for."""
    arms = crossed(spec, plan.arms)
    if arms:
        number = len(_cells_of_no_arm(arms, plan.arms))
        yield (
            f"attribution: {len(arms)} arms with both prompt and weights moved; at most {number} "
            "more policies to evaluate"
        )


def _cells_of_no_arm(crossed_arms: Sequence[Arm], arms: Sequence[Arm]) -> set[str]:
    """The cells no arm is known to share; two may still turn out to be one policy.

    A cell is told by the last stage that moved what is tuned in it, "" for the untouched policy.
    """
    needed = {
        key for arm in crossed_arms for key in ("", _last(arm, "prompt"), _last(arm, "weights"))
    }
    alone = [arm for arm in arms if not moves_both(stage.step for stage in arm.stages)]
    return needed - {arm.stages[-1].key if arm.stages else "" for arm in alone}


def _last(arm: Arm, moves: str) -> str:
    """The key of the last stage that moved it: what follows leaves it as it was."""
    return next(s.key for s in reversed(arm.stages) if KINDS[s.step.kind].moves == moves)
