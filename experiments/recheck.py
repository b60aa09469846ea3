"""`tasklift recheck RUN`: the arms of a finished run on test examples that nothing has seen.

Whoever changes an arm after a look at test may come to choose by test. What is left of the task's
test split beyond `splits.test` has chosen nothing yet, neither prompts nor checkpoints nor arms.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.answering import answered
from experiments.errors import SpecError
from experiments.plan import digest
from experiments.prepare import Experiment, prepare
from experiments.reading import read_mapping
from experiments.spec import parse_spec
from experiments.store import RunFolder, open_run
from tasks.splits import check_disjoint, required_split
from tasks.types import Example, SplitName

FILE = "recheck.json"  # {examples: how many, arms: [{arm, seed, stages, exam, eval, evals}]}


def recheck(path: Path, limit: int | None = None) -> int:
    """Ask every evaluated arm of the run at `path` the first `limit` unseen test examples (default:
    all); returns how many they are. What was asked before is not asked again.

    Raises SpecError when there is no finished run, when it began with another task or other
    weights, and when no example is left.
    """
    if not (path / "arms.json").exists():
        raise SpecError(f"{path}: is no run folder; name one, such as runs/<name>")
    spec = parse_spec(read_mapping(path / "spec.yaml"), str(path / "spec.yaml"))
    told = RunFolder(path).read("run.json")
    if not told.get("complete"):
        raise SpecError(f"{path}: is not finished; run its spec again first")
    where = path.resolve()
    if where.name != spec.name:
        raise SpecError(f"{path}: holds the run {spec.name!r}; give the folder that name first")
    experiment = prepare(spec, path / told.get("base", "."))
    with open_run(spec, where.parent) as folder:
        entries = [entry for entry in folder.arms() if entry["eval"]]
        if any(entry["exam"] != experiment.exam for entry in entries):
            raise SpecError(f"{path}: its task or its model is another by now; run its spec again")
        unseen = _unseen(experiment, limit)
        rows = [_asked(experiment, folder, entry, unseen) for entry in entries]
        folder.write(FILE, {"examples": len(unseen), "arms": rows})
    return len(unseen)


def _unseen(experiment: Experiment, limit: int | None) -> list[Example]:
    used = experiment.spec.splits.test
    rest = required_split(experiment.task, "test")[experiment.tested :] if used else []
    if not rest:
        raise SpecError(
            f'task "{experiment.task.name}": the run has asked all of test; write fewer into '
            "splits: {test: …} to keep some unseen"
        )
    asked = required_split(experiment.task, "test", experiment.tested)
    known: dict[SplitName, list[Example]] = {
        "train": list(experiment.train),
        "dev": [*experiment.dev, *asked],
        "test": rest,
    }
    overlaps = check_disjoint(known, allow_overlap=True)
    seen = {overlap.id for overlap in overlaps if overlap.split == "test"}
    unseen = [example for example in rest if example.id not in seen]
    if not unseen or (limit is not None and limit > len(unseen)):
        raise SpecError(
            f"only {len(unseen)} test examples are unseen ({len(seen)} more stand in train, dev or "
            "what test has asked); write --limit accordingly, or a larger test split"
        )
    return unseen[:limit]


def _asked(
    experiment: Experiment, folder: RunFolder, entry: dict[str, Any], unseen: list[Example]
) -> dict[str, Any]:
    source = experiment.spec.model.source
    stages = entry["stages"]
    tools = experiment.spec.has_tools(entry["arm"])
    start = experiment.start_of(tools=tools)
    policy = folder.load_policy(stages[-1], source) if stages else start
    label = f"recheck {entry['arm']}, seed {entry['seed']}"
    content = digest([[e.id, dict(e.inputs), e.answer, dict(e.meta)] for e in unseen])
    key = answered(experiment, folder, policy, unseen, label, split=f"unseen {content}")
    named = {name: entry[name] for name in ("arm", "seed", "stages", "exam")}
    before = [
        old
        for row in folder.read(FILE).get("arms", [])
        if (row["arm"], row["seed"]) == (entry["arm"], entry["seed"])
        for old in row["evals"]
    ]
    return {**named, "eval": key, "evals": list(dict.fromkeys([*before, key]))}
