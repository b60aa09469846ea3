"""Running stages: a method handed its policy, examples and what is left of its arm's budget."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.types import Context, Method, Policy, Reporting, Unfinished
from experiments.budget import arm_caps, left
from experiments.history import pass_rates
from experiments.locate import locate_code, proposer_parameters, reward_parameters
from experiments.methods import KINDS
from experiments.plan import Stage
from experiments.prepare import Experiment
from experiments.programs import foreseen, refuse_leaks
from experiments.progress import Lines, Silence
from experiments.store import RunFolder, without_home, write_text
from experiments.tracking import report_metrics, reporting
from lm.ledger import Caps, Ledger
from lm.ranks import barrier, from_first, is_first

CLOCK = "wall_seconds"
LEFTOVERS = (CLOCK, "checkpoints", "best", "rollouts", "result.json")  # only for resuming


@dataclass(frozen=True)
class Outcome:
    """The policy of a stage, its best so far where it was paused; `drawn` are the rollouts that
    this call drew, also those drawn a second time because a checkpoint was older than a pause."""

    policy: Policy
    finished: bool
    drawn: int


def check_stages(experiment: Experiment, folder: RunFolder) -> None:
    """Raises what a method still to be run could not work with, before anything is spent."""
    done = from_first(folder.done_stages)
    for stage in experiment.plan.stages:
        if stage.key not in done:
            method, start = _build(experiment, stage), foreseen(experiment, stage)
            if KINDS[stage.step.kind].moves != "prompt":
                start.refuse_program(stage.step.name)
            method.check(start, experiment.train, experiment.dev, experiment.score)


def run_stages(
    experiment: Experiment, folder: RunFolder, stages: Sequence[Stage]
) -> dict[str, Policy]:
    """The policy each stage ends with, by key; finished stages are read back."""
    policies: dict[str, Policy] = {}
    done = from_first(folder.done_stages)
    for number, stage in enumerate(stages, 1):
        if stage.key not in done:
            before = _before(experiment, stage, policies)
            label = f"{number}/{len(stages)} {stage.arms[0]} · {stage.step.name}"
            if is_first() or KINDS[stage.step.kind].moves == "weights":
                run_stage(experiment, folder, stage, before, label)
        if is_first():  # also what a kill left between the mark and the tidying up
            folder.finish(folder.stage(stage.key), LEFTOVERS)
        barrier()
        policies[stage.key] = folder.load_policy(stage.key, experiment.spec.model.source)
    return policies


def _before(experiment: Experiment, stage: Stage, policies: Mapping[str, Policy]) -> Policy:
    return policies[stage.parent.key] if stage.parent else experiment.start_of(tools=stage.tools)


def _build(experiment: Experiment, stage: Stage) -> Method:
    kind = KINDS[stage.step.kind]
    config = locate_code(stage.step.config, experiment.base)
    return kind.build(kind.config.model_validate(config))


def run_stage(
    experiment: Experiment,
    folder: RunFolder,
    stage: Stage,
    before: Policy,
    label: str,
    pause: Caps | None = None,
) -> Outcome:
    """Run a stage that is not done to its end, or to where its arm has spent `pause`.

    Whoever gets a finished one marks it done.
    """
    place = folder.stage(stage.key)
    place.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(left(folder, stage, arm_caps(experiment.spec)))
    ledger.pause = left(folder, stage, pause or Caps())
    progress = Lines(label, ledger, place / CLOCK) if is_first() else Silence()
    if is_first():
        shared = f", shared by {', '.join(stage.arms)}" if len(stage.arms) > 1 else ""
        print(f"[{label}] seed {stage.seed}{shared}", flush=True)
        _describe_stage(experiment, stage, place)
    name = f"{next(iter(stage.arms))}-{stage.step.name}-seed{stage.seed}-{stage.key[:6]}"
    told = Reporting(tuple(experiment.spec.report_to), experiment.spec.name, name)
    context = Context(
        score=experiment.score,
        open=lambda policy: experiment.open(policy, ledger),
        ledger=ledger,
        folder=place,
        sampling=experiment.sampling,
        seed=stage.seed,
        progress=progress,
        pass_rates=pass_rates([folder.stage(key) for key in stage.ancestors()]),
        reporting=told,
    )
    with reporting(told, folder.path):
        after, finished = _improved(_build(experiment, stage), before, experiment, context)
    if finished and KINDS[stage.step.kind].moves == "prompt":
        refuse_leaks(experiment, stage, after, label)
    if is_first():
        progress.tick()
        if finished:
            folder.save_policy(stage.key, after)
            if KINDS[stage.step.kind].moves == "prompt":
                report_metrics(told, folder.path, place / "metrics.jsonl")
        write_text(place / "ledger.json", ledger.to_json())
    return Outcome(after, finished, ledger.drawn)


def decoded(experiment: Experiment, stage: Stage, policy: Policy) -> Policy:
    """`policy`, answering as the arm whose last stage this is will answer."""
    from reward_models.best_of import ChooseBest

    method = _build(experiment, stage)
    assert isinstance(method, ChooseBest)
    return method.answering(policy, stage.seed)


def _improved(
    method: Method, before: Policy, experiment: Experiment, context: Context
) -> tuple[Policy, bool]:
    try:
        return method.improve(before, experiment.train, experiment.dev, context), True
    except Unfinished as paused:
        return paused.policy, False


def _describe_stage(experiment: Experiment, stage: Stage, place: Path) -> None:
    told = {
        "method": stage.step.name,
        "kind": stage.step.kind,
        "config": without_home(stage.step.config),
        "seed": stage.seed,
        "parent": stage.parent.key if stage.parent else None,
        "surroundings": experiment.surroundings,
    }
    if stage.step.config.get("reflection"):
        told["proposer_parameters"] = proposer_parameters(stage.step.config, experiment.base)
    told |= reward_parameters(stage.step.config, experiment.base)
    write_text(place / "stage.json", json.dumps(told, indent=1))
