"""The run folder: what is written where, and when it counts.

    runs/<name>/spec.yaml                        resolved, all defaults filled in
                run.json, arms.json              what it ran on; which stages make up which arm, and
                                                 which evaluations are the cells of its attribution
                task/                            a copy of the task's source
                allocation.json                  what successive halving decided, rung by rung
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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from evaluation.types import Policy
from experiments.decoding import from_told, to_told
from experiments.errors import SpecError
from experiments.plan import Arm
from experiments.spec import ExperimentSpec
from lm.staging import link_or_copy, staged_folder
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

    def has_answers(self, key: str) -> bool:
        """Whether the evaluation `key` is done and its answers can be read."""
        from pyarrow import ArrowException
        from pyarrow.parquet import read_metadata

        place = self.evaluation(key)
        try:
            return (place / "DONE").exists() and read_metadata(
                place / "records.parquet"
            ) is not None
        except (OSError, ArrowException):
            return False

    def read(self, name: str) -> dict[str, Any]:
        """The JSON mapping `name` of the run, {} when there is none yet. Raises SpecError."""
        path = self.path / name
        found = _read_json(path) if path.exists() else {}
        if not isinstance(found, dict):
            raise damaged(path, "it holds no mapping")
        return found

    def write(self, name: str, content: Any) -> None:
        write_text(self.path / name, json.dumps(content, indent=1, ensure_ascii=False))

    def note_price(self, per_hour: float | None) -> None:
        """The price may be told, or change, when all is done: it moves nothing but the report."""
        told = self.read("run.json")
        if told and told.get("price_per_hour") != per_hour:
            self.write("run.json", {**told, "price_per_hour": per_hour})

    def keep_sources(self, copies: Mapping[str, bytes]) -> None:
        """Replace task/ by these files (relative name to content)."""
        with staged_folder(self.path / "task") as draft:
            for name, content in copies.items():
                (draft / name).parent.mkdir(parents=True, exist_ok=True)
                (draft / name).write_bytes(content)

    def arms(self) -> list[dict[str, Any]]:
        """What arms.json says: each arm with its stages and, once it is done, its evaluation."""
        path = self.path / "arms.json"
        entries = _read_json(path) if path.exists() else []
        if not isinstance(entries, list) or not all(
            isinstance(entry, dict) and set(entry) >= ARM_KEYS for entry in entries
        ):
            raise damaged(path, "it lists no arms")
        return entries

    def plan_arms(self, arms: Sequence[Arm], crossed: Sequence[Arm], exam: str) -> None:
        """List all arms of the plan, in its order; the `crossed` among them get cells, too.

        Evaluations already noted stay if they belong to the same stages and the same `exam`: arms
        of one report must have sat the same test. How often test judged an arm is never forgotten
        while the arm is listed: one that was changed has still been judged before.
        """
        self.write("arms.json", self._entries(arms, crossed, exam))

    def _entries(
        self, arms: Sequence[Arm], crossed: Sequence[Arm], exam: str
    ) -> list[dict[str, Any]]:
        noted = {_identity(entry): entry for entry in self.arms()}
        reads = {(entry["arm"], entry["seed"]): entry["test_reads"] for entry in self.arms()}
        entries = []
        for arm, planned in zip(arms, _planned(arms, exam), strict=True):
            fresh = {"eval": None, "test_reads": reads.get((arm.name, arm.seed), 0)}
            entry = {**fresh, **planned, **noted.get(_identity(planned), {})}
            cells = entry.pop("cells", None)
            # once evaluated they stay, even when they are no longer asked for
            kept = bool(cells) and all(map(self.has_answers, cells.values()))
            entries.append({**entry, "cells": cells} if kept or arm in crossed else entry)
        judged = {(entry["arm"], entry["eval"]) for entry in entries}
        for entry in entries:  # a reason to stop holds as long as the arm it was held against
            why = entry.get("stopped")
            if why and (why["against"], why["rival"]) not in judged:
                del entry["stopped"]
        return entries

    def is_complete(self, arms: Sequence[Arm], crossed: Sequence[Arm], exam: str) -> bool:
        """Whether every arm of this plan has its answers, and every crossed one its cells'."""
        planned = self._entries(arms, crossed, exam)
        done = self.read("run.json").get("complete", False) and self.arms() == planned
        return done and all(map(self._is_answered, planned))

    def _is_answered(self, entry: Mapping[str, Any]) -> bool:
        cells = entry.get("cells", {})
        if entry["eval"] is None:
            return bool(entry.get("stopped"))
        if not isinstance(cells, dict):
            return False
        return all(map(self.has_answers, [entry["eval"], *cells.values()]))

    def note_evaluation(self, arm: Arm, key: str) -> None:
        """Note that an arm's evaluation is done; `test_reads` counts how often test judged it."""
        entries = self.arms()
        for entry in entries:
            if (entry["arm"], entry["seed"]) == (arm.name, arm.seed) and entry["eval"] != key:
                entry.update(eval=key, test_reads=entry["test_reads"] + 1)
        self.write("arms.json", entries)

    def note_stopped(self, arm: Arm, why: Mapping[str, Any]) -> None:
        """Note that an arm's evaluation ended early, and why; test has judged it all the same."""
        entries = self.arms()
        rival = next(e["eval"] for e in entries if e["arm"] == why["against"])
        for entry in entries:
            if (entry["arm"], entry["seed"]) == (arm.name, arm.seed):
                told = {**why, "rival": rival}
                entry.update(stopped=told, test_reads=entry["test_reads"] + 1)
        self.write("arms.json", entries)

    def note_cells(self, arm: Arm, keys: Mapping[str, str]) -> None:
        """Note that the cells of an arm are all evaluated: their evaluations by name."""
        entries = self.arms()
        for entry in entries:
            if (entry["arm"], entry["seed"]) == (arm.name, arm.seed):
                entry["cells"] = dict(keys)
        self.write("arms.json", entries)

    def finish(self, folder: Path, leftovers: tuple[str, ...]) -> None:
        """Mark a stage or evaluation done, then drop what was only needed on the way."""
        (folder / "DONE").touch()
        for name in leftovers:
            path = folder / name
            path.unlink(missing_ok=True) if path.is_file() else shutil.rmtree(path, True)

    def save_policy(self, key: str, policy: Policy) -> None:
        """Write stages/<key>/policy/; weights are taken in unless an earlier stage holds them."""
        folder = self.stage(key) / "policy"
        told: dict[str, Any] = {"quantization": policy.quantization}
        with staged_folder(folder) as draft:
            for part, copy in (("adapter", copy_adapter), ("weights", copy_weights)):
                kept: Path | None = getattr(policy, part)
                if kept is not None and kept.resolve().is_relative_to(self.stage(key).resolve()):
                    copy(kept, draft / part, policy.model)
                    kept = folder / part
                told[part] = os.path.relpath(kept, self.path) if kept is not None else None
            if policy.program is not None:  # it lies in its stage's folder already
                told["program"] = os.path.relpath(policy.program, self.path)
            told["best_of"] = to_told(policy.best_of, self.path)
            write_text(draft / "prompt.json", policy.prompt.to_json())
            write_text(draft / "policy.json", json.dumps(told))

    def load_policy(self, key: str, model: str) -> Policy:
        """The policy a finished stage ended with. Raises SpecError when it cannot be read."""
        folder = self.stage(key) / "policy"
        try:
            prompt = Prompt.from_json((folder / "prompt.json").read_text(encoding="utf-8"))
            told = _read_json(folder / "policy.json")
            adapter, weights = told["adapter"], told.get("weights")
            quantization, program = told.get("quantization"), told.get("program")
            best_of = from_told(told.get("best_of"), self.path)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise damaged(self.stage(key), str(error)) from None
        return Policy(
            model,
            prompt,
            self.path / adapter if adapter else None,
            self.path / weights if weights else None,
            quantization,
            self.path / program if program else None,
            best_of,
        )


ARM_KEYS = {"arm", "seed", "stages", "eval", "test_reads", "exam"}


def _planned(arms: Sequence[Arm], exam: str) -> list[dict[str, Any]]:
    return [
        {
            "arm": arm.name,
            "seed": arm.seed,
            "stages": [stage.key for stage in arm.stages],
            "exam": exam,
        }
        for arm in arms
    ]


def _identity(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    return entry["arm"], entry["seed"], tuple(entry["stages"]), entry["exam"]


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise damaged(path, str(error)) from None


def damaged(path: Path, problem: str) -> SpecError:
    """The error for a file of a run folder that is not as it was written."""
    return SpecError(f"{path}: is damaged ({problem}); remove it and run the spec again")


def copy_adapter(source: Path, target: Path, model: str) -> None:
    """Copy a PEFT adapter without the paths PEFT writes into it."""
    target.mkdir()
    for name in ADAPTER_FILES:
        shutil.copyfile(source / name, target / name)
    config = json.loads((target / ADAPTER_FILES[0]).read_text())
    config["base_model_name_or_path"] = without_home(model)
    write_text(target / ADAPTER_FILES[0], json.dumps(config, indent=1, sort_keys=True))


def copy_weights(source: Path, target: Path, _: str) -> None:
    """Take over a model folder; its large files as links, which cost no room."""
    shutil.copytree(source, target, copy_function=link_or_copy)


def without_home(value: Any) -> Any:
    """`value` (JSON-like) with the user's home folder written as ~ in every text."""
    if isinstance(value, dict):
        return {key: without_home(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_home(item) for item in value]
    home = str(Path.home())
    if isinstance(value, str) and (value == home or value.startswith(home + "/")):
        return "~" + value[len(home) :]
    return value


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
        _same_spec(run, spec)
        yield run


def _same_spec(run: RunFolder, spec: ExperimentSpec) -> None:
    """Refuse to put the results of one spec beside those of another; none yet, none to lose."""
    path, wanted = run.path / "spec.yaml", without_home(spec.model_dump(mode="json"))
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise damaged(path, (str(error).splitlines() or [""])[0]) from None
    if found == wanted:
        return
    before, after = _trained(found), _trained(wanted)
    if found is not None and before != after and any(run.path.glob("evals/*/DONE")):
        where = _first_difference(before, after)
        raise SpecError(
            f"{run.path}: holds results of another experiment ({where} differs); change name: in "
            "the spec, choose another folder with --out, or remove this one"
        )
    write_text(path, yaml.safe_dump(wanted, sort_keys=False, allow_unicode=True))


def _trained(spec: Any) -> Any:
    """The spec without what only asks for more, or other, reports of the same arms. What stands
    there as null was unknown to older specs."""
    if not isinstance(spec, dict):
        return spec
    aside = ("attribution", "price_per_hour", "allow_overlap", "report_to", "sandbox")
    return {key: value for key, value in spec.items() if key not in aside and value is not None}


def _first_difference(found: Any, wanted: Any, where: str = "") -> str:
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in [*wanted, *found]:
            if key not in found or key not in wanted:
                return f"{where}{key}"
            if found[key] != wanted[key]:
                return _first_difference(found[key], wanted[key], f"{where}{key}.")
    return where.rstrip(".") or "all of it"
