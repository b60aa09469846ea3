"""Successive halving over arms: cheap rungs decide on dev who gets the dearer ones.

Jamieson & Talwalkar, 2016, arXiv:1502.07943, with arms of methods for their configurations. In a
rung every arm still in it may have spent so much along its chain, from its beginning; what it has
by then is scored by the evaluator on all of dev, and the best go on. Nothing is started again: at
the end of a rung a method is stopped as by a kill, and goes on in the next. A prompt method has all
its answers on disk; a weight method takes the steps since its newest checkpoint again, and the
allocation's `drawn` counts them twice. The last rung is the spec's budget, where methods end.

Every decision lies in allocation.json; a dropped arm is never opened on test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

import pyarrow.parquet as pq

from evaluation.types import Policy
from experiments.allocation import Rung
from experiments.answering import answered
from experiments.budget import read_ledger
from experiments.errors import SpecError
from experiments.methods import KINDS
from experiments.plan import Arm, digest
from experiments.prepare import Experiment
from experiments.stages import LEFTOVERS, Outcome, decoded, run_stage
from experiments.store import RunFolder
from lm.ranks import world

FILE = "allocation.json"
Row = dict[str, Any]


def halve(experiment: Experiment, folder: RunFolder) -> None:
    """Run all rungs of `allocate: halving` that are not decided yet, and note each decision.

    Raises SpecError under a launcher of several processes.
    """
    all_rungs = experiment.spec.rungs()
    if all_rungs and world() > 1:
        raise SpecError("allocate: decides in one process; run the spec without the launcher")
    for rung in all_rungs:
        rows, names = _noted(experiment, folder), _left(experiment, folder)
        if not any(row["rung"] == rung.number for row in rows):
            found = _run_rung(experiment, folder, rung, names)
            folder.write(FILE, {"plan": _plan(experiment), "rows": [*rows, *found]})


def remaining(experiment: Experiment, folder: RunFolder) -> tuple[Arm, ...]:
    """The arms that no rung so far has dropped; all of them without `allocate`."""
    names = _left(experiment, folder)
    return tuple(arm for arm in experiment.plan.arms if arm.name in names)


def _left(experiment: Experiment, folder: RunFolder) -> list[str]:
    dropped = {row["arm"] for row in _noted(experiment, folder) if not row["kept"]}
    return [name for name in experiment.spec.arms if name not in dropped]


def _noted(experiment: Experiment, folder: RunFolder) -> list[Row]:
    """What is decided already; decisions of another plan do not count."""
    if not experiment.spec.rungs():
        return []
    told = folder.read(FILE)
    return told.get("rows", []) if told.get("plan") == _plan(experiment) else []


def _plan(experiment: Experiment) -> str:
    """What the decisions depend on: test, and the order of the arms, are not in it."""
    keys = [[arm.name, arm.seed, *(s.key for s in arm.stages)] for arm in experiment.plan.arms]
    return digest(sorted(keys), [asdict(rung) for rung in experiment.spec.rungs()])


def _run_rung(
    experiment: Experiment, folder: RunFolder, rung: Rung, names: Sequence[str]
) -> list[Row]:
    """A row for each arm and seed; ties go to the arm that the spec names first."""
    paused: dict[str, Outcome] = {}  # arms that share a stage share where it stands
    arms = [arm for arm in experiment.plan.arms if arm.name in names]
    rows = [_play(experiment, folder, rung, arm, paused) for arm in arms]
    scores = {name: fmean(row["dev_score"] for row in rows if row["arm"] == name) for name in names}
    contenders = [name for name in experiment.spec.contenders() if name in names]
    ranked = sorted(contenders, key=lambda name: -scores[name])  # stable
    out = ranked[rung.kept :]
    for row in rows:
        row["kept"] = row["arm"] not in out
    _tell(rung, ranked, scores, out)
    return rows


def _play(
    experiment: Experiment, folder: RunFolder, rung: Rung, arm: Arm, paused: dict[str, Outcome]
) -> Row:
    policy, drawn = _advance(experiment, folder, rung, arm, paused)
    label = f"rung {rung.number} {arm.name}, seed {arm.seed}: dev"
    key = answered(experiment, folder, policy, experiment.dev, label, split="dev")
    table = pq.read_table(folder.evaluation(key) / "records.parquet", columns=["score"])
    begun = [s.key for s in arm.stages if (folder.stage(s.key) / "ledger.json").exists()]
    return {
        "rung": rung.number,
        "arm": arm.name,
        "seed": arm.seed,
        "budget": {name: cap for name, cap in vars(rung.caps).items() if cap is not None},
        "rollouts": sum(read_ledger(folder, key).rollouts for key in begun),
        "drawn": drawn,
        "dev_score": fmean(table["score"].to_pylist()),
        "eval": key,
    }


def _advance(
    experiment: Experiment, folder: RunFolder, rung: Rung, arm: Arm, paused: dict[str, Outcome]
) -> tuple[Policy, int]:
    """The policy the arm has at the end of the rung, and how many rollouts that took."""
    policy, drawn = experiment.start_of(tools=arm.tools), 0
    last = rung == experiment.spec.rungs()[-1]
    for stage in arm.stages:
        if stage.key in folder.done_stages():
            policy = folder.load_policy(stage.key, experiment.spec.model.source)
            continue
        if stage.key not in paused:
            label = f"rung {rung.number} {arm.name} · {stage.step.name}"
            pause = None if last else rung.caps
            found = run_stage(experiment, folder, stage, policy, label, pause)
            drawn += found.drawn
            if found.finished:
                folder.finish(folder.stage(stage.key), LEFTOVERS)
                policy = folder.load_policy(stage.key, experiment.spec.model.source)
                continue
            paused[stage.key] = found
        return _deciding(experiment, arm, paused[stage.key].policy), drawn
    return policy, drawn


def _deciding(experiment: Experiment, arm: Arm, policy: Policy) -> Policy:
    """A paused arm's policy, answering as the arm will: else it would be judged as another arm."""
    last = arm.stages[-1]
    if KINDS[last.step.kind].moves != "decoding":
        return policy
    return decoded(experiment, last, policy)


def _tell(rung: Rung, ranked: Sequence[str], scores: dict[str, float], out: Sequence[str]) -> None:
    for name in ranked:
        fate = "dropped" if name in out else "goes on"
        print(f"[rung {rung.number}] {name}: dev {100 * scores[name]:.1f} %, {fate}", flush=True)
