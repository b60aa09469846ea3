"""`stop_early`: who is clearly worse on test than an arm before it is asked no further.

The baseline comes first and is asked everything: all tables hold the other arms against it.
"""

from __future__ import annotations

from collections.abc import Sequence

from evaluation.records import mean_scores, read_answers
from evaluation.stopping import Stopping, share
from experiments.plan import Arm
from experiments.spec import ExperimentSpec
from experiments.store import RunFolder


def in_turn(spec: ExperimentSpec, arms: Sequence[Arm]) -> list[Arm]:
    """The order in which test is opened to them: that of the spec, the baseline before it."""
    return sorted(arms, key=lambda arm: arm.name != spec.baseline)


def stopping(
    spec: ExperimentSpec, folder: RunFolder, arm: Arm, before: Sequence[Arm], arms: int
) -> Stopping | None:
    """What watches over `arm`, one of so many arms; `before` have had their turn."""
    if spec.stop_early is None or not before:
        return None
    evals = {entry["arm"]: entry["eval"] for entry in folder.arms() if entry["eval"]}
    rivals = {
        one.name: mean_scores(
            read_answers(folder.evaluation(evals[one.name]) / "records.parquet")
        ).to_dict()
        for one in before
        if one.name in evals
    }
    return Stopping(rivals, share(arms, spec.stop_early.alpha), spec.stop_early.margin)


def was_stopped(folder: RunFolder, arm: Arm) -> bool:
    """Whether an earlier run of the same spec has stopped it."""
    return any(e["arm"] == arm.name and e.get("stopped") for e in folder.arms())
