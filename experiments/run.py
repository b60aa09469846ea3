"""Running a spec: all stages first, the test split after the last of them, then the report.

Killed at any moment and started again it goes on: finished stages and evaluations are found by
their keys, an unfinished stage is handed back to its method, which knows how to resume.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.evaluate import evaluate
from evaluation.judge import UNIVERSAL_FAILURES
from evaluation.records import write_records
from evaluation.types import Context, Method, Policy
from experiments.environment import git_commit, machine, versions
from experiments.locate import locate, located
from experiments.methods import KINDS
from experiments.plan import Plan, Stage, digest, make_plan
from experiments.progress import Lines
from experiments.spec import ExperimentSpec
from experiments.store import RunFolder, open_run, without_home, write_text
from lm.ledger import Ledger
from lm.source import resolve, weights_fingerprint
from lm.types import LanguageModel
from tasks.load import load_task, task_files, task_hash
from tasks.splits import check_disjoint, required_split
from tasks.types import Example, Prompt, Task

CLOCK = "wall_seconds"
LEFTOVERS = (CLOCK, "checkpoints", "best", "rollouts", "result.json")  # only for resuming


@dataclass(frozen=True)
class Experiment:
    """A spec with what it names found and checked: ready to run."""

    spec: ExperimentSpec
    base: Path  # the spec's folder: files it names are looked for there first
    task: Task
    weights: str  # fingerprint of the base model
    world: str  # digest of task and weights
    plan: Plan
    train: Sequence[Example]
    dev: Sequence[Example]

    @property
    def start(self) -> Policy:
        """What every arm starts from."""
        return Policy(self.spec.model.source, Prompt.of(self.task))

    def open(self, policy: Policy, ledger: Ledger) -> LanguageModel:
        """Load a policy's weights."""
        from lm.hf import load_model

        model = self.spec.model
        return load_model(
            locate(policy.model, self.base),
            adapter=policy.adapter,
            ledger=ledger,
            device=model.device,
            dtype=model.dtype,
        )


def prepare(spec: ExperimentSpec, base: Path) -> Experiment:
    """Find and check everything a run needs, before it costs anything.

    Raises TaskError and ModelError. The splits are compared here: an example of test that is in
    train too would void the result, so it is refused before hours are spent. Only this comparison
    sees test now; methods get the train and dev lists alone.
    """
    task = load_task(locate(spec.task, base))
    sizes = spec.splits
    train = required_split(task, "train", sizes.train)
    dev = required_split(task, "dev", sizes.dev)
    check_disjoint({"train": train, "dev": dev, "test": required_split(task, "test", sizes.test)})
    weights = weights_fingerprint(resolve(locate(spec.model.source, base)))
    seen = [_digest_examples(examples) for examples in (train, dev)]
    world = digest(task_hash(task), *seen, weights, spec.model.dtype)
    plan = make_plan(spec, world, base)
    return Experiment(spec, base, task, weights, world, plan, train, dev)


def _digest_examples(examples: Sequence[Example]) -> str:
    """The examples count themselves, too: a task may read files its hash knows nothing of."""
    return digest([[e.id, dict(e.inputs), e.answer, repr(dict(e.meta))] for e in examples])


def run(spec: ExperimentSpec, base: Path, out: Path) -> Path:
    """Do what is missing of `spec` (found in folder `base`) below `out`; returns the run folder."""
    experiment = prepare(spec, base)
    with open_run(spec, out) as folder:
        _describe(experiment, folder)
        policies = _run_stages(experiment, folder)
        _run_evaluations(experiment, folder, policies)
        return folder.path


def _describe(experiment: Experiment, folder: RunFolder) -> None:
    """run.json, and a copy of the task's source, as soon as the run starts."""
    spec, task = experiment.spec, experiment.task
    told = {
        "name": spec.name,
        "task": task.name,
        "task_hash": task_hash(task),
        "failure_classes": {**UNIVERSAL_FAILURES, **task.failure_classes},
        "baseline": spec.baseline,
        "model": without_home(spec.model.source),
        "model_fingerprint": experiment.weights,
        "dtype": spec.model.dtype,
        "versions": versions(),
        "git_commit": git_commit(),
        **machine(),
    }
    before = folder.read("run.json")
    kept = {"test_opened": before.get("test_opened", 0), "complete": before.get("complete", False)}
    folder.write("run.json", {**told, **kept})
    folder.plan_arms(experiment.plan.arms)
    sources = folder.path / "task"
    sources.mkdir(exist_ok=True)
    for file in task_files(task):
        (sources / file.name).write_bytes(file.read_bytes())


def _run_stages(experiment: Experiment, folder: RunFolder) -> dict[str, Policy]:
    """The policy each stage ends with, by key; finished stages are read back."""
    policies: dict[str, Policy] = {}
    stages = experiment.plan.stages
    done = folder.done_stages()
    for stage in stages:
        if stage.key not in done:
            method = _build(experiment, stage)
            method.check(experiment.start, experiment.train, experiment.dev, experiment.task.score)
    for number, stage in enumerate(stages, 1):
        if stage.key not in done:
            before = policies[stage.parent.key] if stage.parent else experiment.start
            label = f"{number}/{len(stages)} {stage.arms[0]} · {stage.step.name}"
            _run_stage(experiment, folder, stage, before, label)
        folder.finish(folder.stage(stage.key), LEFTOVERS)
        policies[stage.key] = folder.load_policy(stage.key, experiment.spec.model.source)
    return policies


def _build(experiment: Experiment, stage: Stage) -> Method:
    kind = KINDS[stage.step.kind]
    config = located(stage.step.config, experiment.base)
    return kind.build(kind.config.model_validate(config))


def _run_stage(
    experiment: Experiment, folder: RunFolder, stage: Stage, before: Policy, label: str
) -> None:
    place = folder.stage(stage.key)
    place.mkdir(parents=True, exist_ok=True)
    shared = f", shared by {', '.join(stage.arms)}" if len(stage.arms) > 1 else ""
    print(f"[{label}] seed {stage.seed}{shared}", flush=True)
    ledger = Ledger()
    progress = Lines(label, ledger, place / CLOCK)
    context = Context(
        score=experiment.task.score,
        open=lambda policy: experiment.open(policy, ledger),
        ledger=ledger,
        folder=place,
        sampling=experiment.spec.sampling.build(),
        seed=stage.seed,
        progress=progress,
    )
    told = {
        "method": stage.step.name,
        "kind": stage.step.kind,
        "config": stage.step.config,
        "seed": stage.seed,
        "parent": stage.parent.key if stage.parent else None,
    }
    write_text(place / "stage.json", json.dumps(told, indent=1))
    method = _build(experiment, stage)
    after = method.improve(before, experiment.train, experiment.dev, context)
    progress.tick()
    folder.save_policy(stage.key, after)
    write_text(place / "ledger.json", ledger.to_json())


def _run_evaluations(
    experiment: Experiment, folder: RunFolder, policies: dict[str, Policy]
) -> None:
    """Every arm on test. The split is opened here, once all methods are done, and counted."""
    todo = []
    for arm in experiment.plan.arms:
        policy = policies[arm.stages[-1].key] if arm.stages else experiment.start
        key = _evaluation_key(experiment, policy)
        if not folder.is_evaluated(arm, key):
            todo.append((arm, policy, key))
    if todo:
        told = folder.read("run.json")
        folder.write("run.json", {**told, "test_opened": told["test_opened"] + 1})
        test = required_split(experiment.task, "test", experiment.spec.splits.test)
        for number, (arm, policy, key) in enumerate(todo, 1):
            if not (folder.evaluation(key) / "DONE").exists():
                label = f"test {number}/{len(todo)} {arm.name}, seed {arm.seed}"
                _evaluate(experiment, folder.evaluation(key), policy, test, label)
            folder.note_evaluation(arm, key)
    folder.write("run.json", {**folder.read("run.json"), "complete": True})


def _evaluation_key(experiment: Experiment, policy: Policy) -> str:
    spec = experiment.spec
    return digest(
        experiment.world, policy.fingerprint(), spec.splits.test, spec.sampling.model_dump()
    )


def _evaluate(
    experiment: Experiment, place: Path, policy: Policy, test: Sequence[Example], label: str
) -> None:
    """Ask one policy all of test; `place` is the evaluation's folder."""
    sampling = experiment.spec.sampling
    place.mkdir(parents=True, exist_ok=True)
    ledger = Ledger()
    progress = Lines(label, ledger)
    records = evaluate(
        experiment.open(policy, ledger),
        policy.prompt,
        test,
        experiment.task.score,
        sampling.build(),
        split="test",
        progress=progress,
    )
    progress.tick()
    write_records(place / "records.parquet", records)
    write_text(place / "ledger.json", ledger.to_json())
    told = {"policy": policy.fingerprint(), "split": "test", "sampling": sampling.model_dump()}
    write_text(place / "eval.json", json.dumps(told, indent=1))
    (place / "DONE").touch()
