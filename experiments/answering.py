"""A policy's answers to a split, asked once and kept in evals/."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from evaluation.records import write_records
from evaluation.stopping import BATCH as LOOK
from evaluation.stopping import Stopping
from evaluation.types import Policy
from experiments.asking import BATCH, ask_all
from experiments.pictures import keep_pictures
from experiments.plan import digest
from experiments.prepare import Experiment
from experiments.progress import Lines
from experiments.store import RunFolder, write_text
from lm.ledger import Ledger
from tasks.types import Example


def answered(
    experiment: Experiment,
    folder: RunFolder,
    policy: Policy,
    examples: Sequence[Example],
    label: str,
    split: str = "test",
    stopping: Stopping | None = None,
) -> str:
    """The key of the policy's evaluation on a split, which is done now if it was not.

    Unless `stopping` has ended it: what was answered till then is kept, but not marked done.
    """
    other = [split] if split != "test" else []
    key = digest(experiment.exam, *other, policy.fingerprint())
    if not folder.has_answers(key):
        place = folder.evaluation(key)
        _evaluate(experiment, place, policy, examples, label, split, stopping)
        if stopping is None or stopping.found is None:
            (place / "DONE").touch()
    return key


def _evaluate(
    experiment: Experiment,
    place: Path,
    policy: Policy,
    examples: Sequence[Example],
    label: str,
    split: str,
    stopping: Stopping | None,
) -> None:
    """Ask one policy all examples; `place` is the evaluation's folder."""
    place.mkdir(parents=True, exist_ok=True)
    ledger = Ledger()
    progress = Lines(label, ledger)
    records = ask_all(
        experiment.open(policy, ledger),
        policy,
        examples,
        experiment.score,
        experiment.sampling,
        split=split,
        folder=place,
        progress=progress,
        batch=BATCH if experiment.spec.stop_early is None else LOOK,
        enough=stopping,
    )
    progress.tick()
    keep_pictures(place.parent.parent, examples)
    write_records(place / "records.parquet", records)
    write_text(place / "ledger.json", ledger.to_json())
    told = {
        "policy": policy.fingerprint(),
        "split": split,
        "sampling": experiment.spec.sampling.model_dump(),
        "surroundings": experiment.surroundings,
    }
    write_text(place / "eval.json", json.dumps(told, indent=1))
