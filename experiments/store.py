"""The run folder: what is written where, and when it counts.

    runs/<name>/spec.yaml                        resolved, all defaults filled in
                run.json, arms.json              what it ran on; which stages make up which arm
                task/                            a copy of the task's source
                stages/<key>/                    policy/, metrics.jsonl, ledger.json, …, DONE
                evals/<key>/                     records.parquet, ledger.json, eval.json, DONE

A folder without DONE is unfinished and gone on with; DONE is written last. Nothing here names the
user's home folder: run folders are meant to be handed on.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from evaluation.types import Policy
from experiments.errors import SpecError
from experiments.plan import Arm
from experiments.spec import ExperimentSpec
from lm.staging import staged_folder
from tasks.types import Prompt

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


class RunFolder:
    """One experiment on disk. Open it with `open_run`."""

    def __init__(self, path: Path):
        self.path = path

    def stage(self, key: str) -> Path:
        return self.path / "stages" / key

    def evaluation(self, key: str) -> Path:
        return self.path / "evals" / key

    def done_stages(self) -> set[str]:
        return {marker.parent.name for marker in self.path.glob("stages/*/DONE")}

    def read(self, name: str) -> Any:
        """The JSON file `name` of the run, {} when there is none yet."""
        path = self.path / name
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def write(self, name: str, content: Any) -> None:
        write_text(self.path / name, json.dumps(content, indent=1, ensure_ascii=False))

    def arms(self) -> list[dict[str, Any]]:
        """What arms.json says: each arm with its stages and, once it is done, its evaluation."""
        return self.read("arms.json") or []

    def plan_arms(self, arms: Sequence[Arm]) -> None:
        """List all arms of the plan, in its order; evaluations already noted stay."""
        noted = {(entry["arm"], entry["seed"]): entry for entry in self.arms()}
        fresh = {"eval": None, "test_reads": 0}
        entries = []
        for arm in arms:
            told = {"arm": arm.name, "seed": arm.seed, "stages": [s.key for s in arm.stages]}
            entries.append({**fresh, **noted.get((arm.name, arm.seed), {}), **told})
        self.write("arms.json", entries)

    def is_evaluated(self, arm: Arm, key: str) -> bool:
        """Whether the evaluation `key` is done and noted for this arm."""
        return (self.evaluation(key) / "DONE").exists() and any(
            (entry["arm"], entry["seed"], entry["eval"]) == (arm.name, arm.seed, key)
            for entry in self.arms()
        )

    def note_evaluation(self, arm: Arm, key: str) -> None:
        """Note that an arm's evaluation is done; `test_reads` counts how often test judged it."""
        entries = self.arms()
        for entry in entries:
            if (entry["arm"], entry["seed"]) == (arm.name, arm.seed):
                entry.update(eval=key, test_reads=entry["test_reads"] + 1)
        self.write("arms.json", entries)

    def finish(self, folder: Path, leftovers: tuple[str, ...]) -> None:
        """Mark a stage or evaluation done, then drop what was only needed on the way."""
        (folder / "DONE").touch()
        for name in leftovers:
            path = folder / name
            path.unlink(missing_ok=True) if path.is_file() else shutil.rmtree(path, True)

    def save_policy(self, key: str, policy: Policy) -> None:
        """Write stages/<key>/policy/; an adapter is copied in unless an earlier stage holds it."""
        folder = self.stage(key) / "policy"
        kept = policy.adapter
        with staged_folder(folder) as draft:
            if kept is not None and kept.resolve().is_relative_to(self.stage(key).resolve()):
                copy_adapter(kept, draft / "adapter", policy.model)
                kept = folder / "adapter"
            where = os.path.relpath(kept, self.path) if kept is not None else None
            write_text(draft / "prompt.json", policy.prompt.to_json())
            write_text(draft / "policy.json", json.dumps({"adapter": where}))

    def load_policy(self, key: str, model: str) -> Policy:
        """The policy a finished stage ended with."""
        folder = self.stage(key) / "policy"
        prompt = Prompt.from_json((folder / "prompt.json").read_text(encoding="utf-8"))
        adapter = json.loads((folder / "policy.json").read_text())["adapter"]
        return Policy(model, prompt, self.path / adapter if adapter else None)

    def policy_of(self, arm: str) -> Policy:
        """The policy of an arm's first seed. Raises SpecError when it is not there."""
        entries = [e for e in self.arms() if e["arm"] == arm and e["eval"]]
        if not entries:
            known = ", ".join(dict.fromkeys(e["arm"] for e in self.arms())) or "none yet"
            raise SpecError(f"{self.path}: no evaluated arm {arm!r}; there is {known}")
        model, stages = self.read("run.json")["model"], entries[0]["stages"]
        if not stages:
            raise SpecError(f"{self.path}: arm {arm!r} changes nothing; evaluate --model {model}")
        return self.load_policy(stages[-1], model)


def copy_adapter(source: Path, target: Path, model: str) -> None:
    """Copy a PEFT adapter without the paths PEFT writes into it."""
    target.mkdir()
    for name in ADAPTER_FILES:
        shutil.copyfile(source / name, target / name)
    config = json.loads((target / ADAPTER_FILES[0]).read_text())
    config["base_model_name_or_path"] = without_home(model)
    write_text(target / ADAPTER_FILES[0], json.dumps(config, indent=1, sort_keys=True))


def without_home(text: str) -> str:
    """`text` with the user's home folder written as ~."""
    home = str(Path.home())
    return "~" + text[len(home) :] if text == home or text.startswith(home + "/") else text


def write_text(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all."""
    draft = path.with_name(f".{path.name}.tmp")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)


@contextmanager
def open_run(spec: ExperimentSpec, out: Path) -> Iterator[RunFolder]:
    """Make or reopen the folder of `spec` below `out`, locked against a second process.

    Raises SpecError when it cannot be written, is in use, or holds another experiment.
    """
    run = RunFolder(out / spec.name)
    try:
        for part in ("stages", "evals"):
            (run.path / part).mkdir(parents=True, exist_ok=True)
        lock = (run.path / ".lock").open("w")
    except OSError as error:
        raise SpecError(
            f"{run.path}: cannot be written ({error.strerror}); choose another folder with --out"
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SpecError(f"{run.path}: another tasklift is at work in it; wait for it") from None
        _same_spec(run.path / "spec.yaml", spec)
        yield run


def _same_spec(path: Path, spec: ExperimentSpec) -> None:
    wanted = json.loads(without_home_deep(spec))
    if not path.exists():
        write_text(path, yaml.safe_dump(wanted, sort_keys=False, allow_unicode=True))
        return
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError:
        found = None
    if found != wanted:
        where = _first_difference(found, wanted)
        raise SpecError(
            f"{path.parent}: holds another experiment ({where} differs); change name: in the spec, "
            "choose another folder with --out, or remove this one"
        )


def without_home_deep(spec: ExperimentSpec) -> str:
    """The spec as JSON, its paths without the user's home folder."""
    raw = spec.model_dump(mode="json")
    raw["task"] = without_home(raw["task"])
    raw["model"]["source"] = without_home(raw["model"]["source"])
    return json.dumps(raw)


def _first_difference(found: Any, wanted: Any, where: str = "") -> str:
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in [*wanted, *found]:
            if key not in found or key not in wanted:
                return f"{where}{key}"
            if found[key] != wanted[key]:
                return _first_difference(found[key], wanted[key], f"{where}{key}.")
    return where.rstrip(".") or "all of it"


def warn(text: str) -> None:
    print(f"tasklift: {text}", file=sys.stderr, flush=True)
