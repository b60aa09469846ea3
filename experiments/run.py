"""Running a spec: all stages first, the test split after the last of them, then the report.

Killed at any moment and started again it goes on: finished stages and evaluations are found by
their keys, an unfinished stage is handed back to its method, which knows how to resume.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from evaluation.judge import FORMAT_FAILURES, UNIVERSAL_FAILURES
from evaluation.records import read_answers
from evaluation.stopping import shuffled
from evaluation.types import Policy, Reporting
from experiments.answering import answered
from experiments.attribution import CELLS, cells, crossed
from experiments.halving import halve, remaining
from experiments.locate import code_files
from experiments.plan import Arm
from experiments.prepare import Experiment, prepare
from experiments.spec import ExperimentSpec
from experiments.stages import check_stages, run_stages
from experiments.stopping import in_turn, stopping, was_stopped
from experiments.store import RunFolder, open_run, without_home, write_text
from experiments.tracking import report
from lm.ranks import barrier, from_first, is_first, joined
from tasks.load import task_copies, task_hash
from tasks.splits import required_split
from tasks.types import Example


def run(spec: ExperimentSpec, base: Path, out: Path) -> Path:
    """Do what is missing of `spec` (found in folder `base`) below `out`; returns the run folder.

    Several processes (`lm.ranks`) train weights together; all else the first does alone.
    """
    with joined(), _opened(spec, base, out) as (experiment, folder):
        if is_first():
            folder.note_price(spec.price_per_hour)
        if not from_first(lambda: folder.is_complete(*_arms(experiment, folder), experiment.exam)):
            if is_first():
                _describe(experiment, folder)
            check_stages(experiment, folder)
            halve(experiment, folder)
            arms = _arms(experiment, folder)[0]
            wanted = {stage.key for arm in arms for stage in arm.stages}
            stages = [stage for stage in experiment.plan.stages if stage.key in wanted]
            policies = run_stages(experiment, folder, stages)
            if is_first():
                _run_evaluations(experiment, folder, policies)
        return folder.path


def _arms(experiment: Experiment, folder: RunFolder) -> tuple[Sequence[Arm], Sequence[Arm]]:
    """The arms to be tested, as far as is decided, and those whose cells are evaluated, too."""
    arms = remaining(experiment, folder)
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
            "format_failures": sorted({*FORMAT_FAILURES, *getattr(task, "format_failures", ())}),
            "baseline": spec.baseline,
            "model": without_home(spec.model.source),
            "model_fingerprint": experiment.weights,
            "parameters": experiment.parameters,
            "price_per_hour": spec.price_per_hour,
            "budget": spec.budget and spec.budget.model_dump(),
            **experiment.surroundings,
            "test_opened": folder.read("run.json").get("test_opened", 0),
            "overlapping": list(experiment.overlapping),
            "complete": False,
        },
    )
    write_text(folder.path / "prompt.json", experiment.start.prompt.to_json())
    folder.plan_arms(*_arms(experiment, folder), experiment.exam)
    copies = dict(task_copies(task))
    for stage in experiment.plan.stages:
        for file in code_files(stage.step.config, experiment.base):
            copies[f"{stage.step.name}/{file.name}"] = file.read_bytes()
    folder.keep_sources(copies)


def _run_evaluations(
    experiment: Experiment, folder: RunFolder, policies: dict[str, Policy]
) -> None:
    """Every arm on test, then the cells of those taken apart, where they are no arm's policy.

    The split is opened here, once all methods are done, and counted.
    """
    told = folder.read("run.json")
    folder.write("run.json", {**told, "test_opened": told["test_opened"] + 1})
    test = required_split(experiment.task, "test", experiment.spec.splits.test)
    arms, taken_apart = _arms(experiment, folder)
    folder.plan_arms(arms, taken_apart, experiment.exam)  # what was dropped on the way is out
    if experiment.spec.stop_early is not None:
        test = shuffled(test)
    turns = in_turn(experiment.spec, arms)
    for number, arm in enumerate(turns):
        policy = (
            policies[arm.stages[-1].key] if arm.stages else experiment.start_of(tools=arm.tools)
        )
        label = f"test {number + 1}/{len(arms)} {arm.name}, seed {arm.seed}"
        _test(experiment, folder, policy, test, label, arm, turns[:number])
    for arm in taken_apart:
        of_arm = cells(experiment.start_of(tools=arm.tools), policies[arm.stages[-1].key])
        keys = {}
        for name, policy in of_arm.items():
            label = f"test {arm.name}, seed {arm.seed}: {CELLS[name]}"
            keys[name] = answered(experiment, folder, policy, test, label)
        folder.note_cells(arm, keys)
    _report_tests(experiment, folder)
    folder.write("run.json", {**folder.read("run.json"), "complete": True})


def _report_tests(experiment: Experiment, folder: RunFolder) -> None:
    """Each arm's score on test, and the share of it that is right, to the trackers of the spec."""
    for entry in folder.arms() if experiment.spec.report_to else []:
        if entry["eval"]:
            answers = read_answers(folder.evaluation(entry["eval"]) / "records.parquet")
            means = answers[["score", "correct"]].mean()
            found = {f"test/{name}": float(mean) for name, mean in means.items()}
            name = f"{entry['arm']}-seed{entry['seed']}-test"
            told = Reporting(tuple(experiment.spec.report_to), experiment.spec.name, name)
            report(told, folder.path, [(0, found)])


def _test(
    experiment: Experiment,
    folder: RunFolder,
    policy: Policy,
    test: Sequence[Example],
    label: str,
    arm: Arm,
    before: Sequence[Arm],
) -> None:
    """One arm on test, to the end or to where it is clearly worse than one `before` it."""
    if was_stopped(folder, arm):
        return
    watch = stopping(experiment.spec, folder, arm, before, len(experiment.spec.arms))
    key = answered(experiment, folder, policy, test, label, stopping=watch)
    if watch is not None and watch.found is not None:
        print(f"[{label}] stopped: clearly worse than {watch.found.against}", flush=True)
        folder.note_stopped(arm, asdict(watch.found))
    else:
        folder.note_evaluation(arm, key)
