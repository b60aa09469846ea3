"""Running a spec: all stages first, the test split after the last of them, then the report.

Killed at any moment and started again it goes on: finished stages and evaluations are found by
their keys, an unfinished stage is handed back to its method, which knows how to resume.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from evaluation.judge import UNIVERSAL_FAILURES
from evaluation.records import write_records
from evaluation.types import Context, Method, Policy
from experiments.asking import ask_all
from experiments.attribution import CELLS, cells, crossed
from experiments.budget import arm_caps, left
from experiments.history import pass_rates
from experiments.locate import code_files, locate_code, proposer_parameters
from experiments.methods import KINDS
from experiments.plan import Arm, Stage, digest
from experiments.prepare import Experiment, prepare
from experiments.programs import foreseen, refuse_leaks
from experiments.progress import Lines, Silence
from experiments.spec import ExperimentSpec
from experiments.store import RunFolder, open_run, without_home, write_text
from lm.ledger import Ledger
from lm.ranks import barrier, from_first, is_first, joined
from tasks.load import task_copies, task_hash
from tasks.splits import required_split
from tasks.types import Example

CLOCK = "wall_seconds"
LEFTOVERS = (CLOCK, "checkpoints", "best", "rollouts", "result.json")  # only for resuming


def run(spec: ExperimentSpec, base: Path, out: Path) -> Path:
    """Do what is missing of `spec` (found in folder `base`) below `out`; returns the run folder.

    Several processes (`lm.ranks`) train weights together; all else the first does alone.
    """
    with joined(), _opened(spec, base, out) as (experiment, folder):
        if is_first():
            folder.note_price(spec.price_per_hour)
        if not from_first(lambda: folder.is_complete(*_arms(experiment), experiment.exam)):
            if is_first():
                _describe(experiment, folder)
            policies = _run_stages(experiment, folder)
            if is_first():
                _run_evaluations(experiment, folder, policies)
        return folder.path


def _arms(experiment: Experiment) -> tuple[Sequence[Arm], Sequence[Arm]]:
    """All arms, and those of them whose cells are evaluated, too."""
    arms = experiment.plan.arms
    return arms, crossed(experiment.spec, arms)


@contextmanager
def _opened(spec: ExperimentSpec, base: Path, out: Path) -> Iterator[tuple[Experiment, RunFolder]]:
    """What is to be run and where; only the first process holds the folder's lock."""
    if is_first():
        experiment = prepare(spec, base)
        with open_run(spec, out) as folder:
            barrier()  # what had to be fetched is there now
            yield experiment, folder
    else:
        barrier()
        yield prepare(spec, base), RunFolder(out / spec.name)


def _describe(experiment: Experiment, folder: RunFolder) -> None:
    """run.json, the arms, and a copy of the user's code, as soon as there is something to do."""
    spec, task = experiment.spec, experiment.task
    folder.write(
        "run.json",
        {
            "name": spec.name,
            "base": os.path.relpath(experiment.base, folder.path),
            "task": task.name,
            "task_hash": task_hash(task),
            "failure_classes": {**UNIVERSAL_FAILURES, **task.failure_classes},
            "baseline": spec.baseline,
            "model": without_home(spec.model.source),
            "model_fingerprint": experiment.weights,
            "parameters": experiment.parameters,
            "price_per_hour": spec.price_per_hour,
            "budget": spec.budget and spec.budget.model_dump(),
            **experiment.surroundings,
            "test_opened": folder.read("run.json").get("test_opened", 0),
            "complete": False,
        },
    )
    write_text(folder.path / "prompt.json", experiment.start.prompt.to_json())
    folder.plan_arms(*_arms(experiment), experiment.exam)
    copies = dict(task_copies(task))
    for stage in experiment.plan.stages:
        for file in code_files(stage.step.config, experiment.base):
            copies[f"{stage.step.name}/{file.name}"] = file.read_bytes()
    folder.keep_sources(copies)


def _run_stages(experiment: Experiment, folder: RunFolder) -> dict[str, Policy]:
    """The policy each stage ends with, by key; finished stages are read back."""
    policies: dict[str, Policy] = {}
    stages = experiment.plan.stages
    done = from_first(folder.done_stages)
    for stage in stages:
        if stage.key not in done:
            method, start = _build(experiment, stage), foreseen(experiment, stage)
            if KINDS[stage.step.kind].moves == "weights":
                start.refuse_program(stage.step.name)
            method.check(start, experiment.train, experiment.dev, experiment.task.score)
    for number, stage in enumerate(stages, 1):
        if stage.key not in done:
            before = policies[stage.parent.key] if stage.parent else experiment.start
            label = f"{number}/{len(stages)} {stage.arms[0]} · {stage.step.name}"
            if is_first() or KINDS[stage.step.kind].moves == "weights":
                _run_stage(experiment, folder, stage, before, label)
        if is_first():
            folder.finish(folder.stage(stage.key), LEFTOVERS)
        barrier()
        policies[stage.key] = folder.load_policy(stage.key, experiment.spec.model.source)
    return policies


def _build(experiment: Experiment, stage: Stage) -> Method:
    kind = KINDS[stage.step.kind]
    config = locate_code(stage.step.config, experiment.base)
    return kind.build(kind.config.model_validate(config))


def _run_stage(
    experiment: Experiment, folder: RunFolder, stage: Stage, before: Policy, label: str
) -> None:
    place = folder.stage(stage.key)
    place.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(left(folder, stage, arm_caps(experiment.spec)))
    progress = Lines(label, ledger, place / CLOCK) if is_first() else Silence()
    if is_first():
        shared = f", shared by {', '.join(stage.arms)}" if len(stage.arms) > 1 else ""
        print(f"[{label}] seed {stage.seed}{shared}", flush=True)
        _describe_stage(experiment, stage, place)
    context = Context(
        score=experiment.task.score,
        open=lambda policy: experiment.open(policy, ledger),
        ledger=ledger,
        folder=place,
        sampling=experiment.sampling,
        seed=stage.seed,
        progress=progress,
        pass_rates=pass_rates([folder.stage(key) for key in stage.ancestors()]),
    )
    method = _build(experiment, stage)
    after = method.improve(before, experiment.train, experiment.dev, context)
    if KINDS[stage.step.kind].moves == "prompt":
        refuse_leaks(experiment, stage, after, label)
    if is_first():
        progress.tick()
        folder.save_policy(stage.key, after)
        write_text(place / "ledger.json", ledger.to_json())


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
    write_text(place / "stage.json", json.dumps(told, indent=1))


def _run_evaluations(
    experiment: Experiment, folder: RunFolder, policies: dict[str, Policy]
) -> None:
    """Every arm on test, then the cells of those taken apart, where they are no arm's policy.

    The split is opened here, once all methods are done, and counted.
    """
    told = folder.read("run.json")
    folder.write("run.json", {**told, "test_opened": told["test_opened"] + 1})
    test = required_split(experiment.task, "test", experiment.spec.splits.test)
    arms, taken_apart = _arms(experiment)
    for number, arm in enumerate(arms, 1):
        policy = policies[arm.stages[-1].key] if arm.stages else experiment.start
        label = f"test {number}/{len(arms)} {arm.name}, seed {arm.seed}"
        folder.note_evaluation(arm, _answered(experiment, folder, policy, test, label))
    for arm in taken_apart:
        of_arm = cells(experiment.start, policies[arm.stages[-1].key])
        keys = {}
        for name, policy in of_arm.items():
            label = f"test {arm.name}, seed {arm.seed}: {CELLS[name]}"
            keys[name] = _answered(experiment, folder, policy, test, label)
        folder.note_cells(arm, keys)
    folder.write("run.json", {**folder.read("run.json"), "complete": True})


def _answered(
    experiment: Experiment, folder: RunFolder, policy: Policy, test: Sequence[Example], label: str
) -> str:
    """The key of the policy's evaluation, which is done now if it was not."""
    key = digest(experiment.exam, policy.fingerprint())
    if not folder.has_answers(key):
        _evaluate(experiment, folder.evaluation(key), policy, test, label)
    return key


def _evaluate(
    experiment: Experiment, place: Path, policy: Policy, test: Sequence[Example], label: str
) -> None:
    """Ask one policy all of test; `place` is the evaluation's folder."""
    place.mkdir(parents=True, exist_ok=True)
    ledger = Ledger()
    progress = Lines(label, ledger)
    records = ask_all(
        experiment.open(policy, ledger),
        policy,
        test,
        experiment.task.score,
        experiment.sampling,
        split="test",
        folder=place,
        progress=progress,
    )
    progress.tick()
    write_records(place / "records.parquet", records)
    write_text(place / "ledger.json", ledger.to_json())
    told = {
        "policy": policy.fingerprint(),
        "split": "test",
        "sampling": experiment.spec.sampling.model_dump(),
        "surroundings": experiment.surroundings,
    }
    write_text(place / "eval.json", json.dumps(told, indent=1))
    (place / "DONE").touch()
