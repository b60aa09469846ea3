"""Where a run stands, from its folder alone: what `tasklift watch` shows.

Files are opened for reading and no lock is taken, so that looking disturbs nothing. Whatever the
run is writing at this moment (a torn last line, a stage without its ledger) counts as not there.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

from experiments.errors import SpecError
from experiments.methods import KINDS
from experiments.reading import read_mapping
from experiments.stages import CLOCK
from experiments.store import RunFolder

State = Literal["waits", "begun", "done"]
OWN_FILES = ("run.json", "arms.json", "spec.yaml", ".lock", "allocation.json")
FILES = ("metrics.jsonl", CLOCK, "stage.json", "answers.jsonl", "ledger.json", "DONE")


@dataclass(frozen=True)
class StageState:
    """One method run once, for all `arms` (with the same seed) that begin alike up to it.

    `total` is 0 where the number of steps is not known beforehand; `rows` are those of
    metrics.jsonl; `seconds` its wall clock, `expected` about as many rollouts as it will draw,
    `cap` the most its arms may draw up to its end and `before` what they had drawn when it began.
    """

    key: str
    arms: tuple[str, ...]
    method: str
    seed: int
    state: State
    total: int
    rows: tuple[Mapping[str, Any], ...]
    seconds: float | None
    touched: float
    rollouts: int
    expected: int | None = None
    cap: int | None = None
    before: int = 0

    def newest(self, name: str) -> Any:
        """The newest figure of that name, None before the first."""
        return next((row[name] for row in reversed(self.rows) if row.get(name) is not None), None)

    @property
    def step(self) -> int:
        return self.newest("step") or 0

    @property
    def best(self) -> float | None:
        """The best score on dev so far."""
        scores = [row["dev_score"] for row in self.rows if row.get("dev_score") is not None]
        return max(scores, default=None)

    @property
    def left(self) -> float | None:
        """Seconds to its end, as far as what is done tells: by steps, else by rollouts."""
        share = self.step / self.total if self.total else 0.0
        if not self.total and self.expected:
            share = self.rollouts / self.expected
        if self.state != "begun" or not self.seconds or not 0 < share < 1:
            return None
        return self.seconds * (1 - share) / share


@dataclass(frozen=True)
class ArmState:
    """One arm at one seed, and its mean score on test once it has been asked."""

    arm: str
    seed: int
    keys: tuple[str, ...]
    test: float | None
    stopped: bool


@dataclass(frozen=True)
class RunState:
    """A run at one moment. `held` says whether a process here works on it, None if unknown."""

    name: str
    task: str
    model: str
    stages: tuple[StageState, ...]
    arms: tuple[ArmState, ...]
    complete: bool
    held: bool | None
    quiet: float  # seconds since anything was written

    @property
    def running(self) -> StageState | None:
        """The stage at work: of those begun and not done, the one that wrote last."""
        begun = [stage for stage in self.stages if stage.state == "begun"]
        if self.complete or self.held is False:
            return None
        return max(begun, key=lambda stage: stage.touched, default=None)


def state_of(path: Path) -> RunState:
    """Read a run folder. Raises SpecError when it is none."""
    if not (path / "run.json").exists() and not (path / "spec.yaml").exists():
        raise SpecError(f"{path}: is no run folder; name one, such as runs/<name>")
    folder = RunFolder(path)
    told, listed = folder.read("run.json"), folder.arms()
    spec = read_mapping(path / "spec.yaml") if (path / "spec.yaml").exists() else {}
    stages = _stages(path, listed, spec, (told.get("budget") or {}).get("rollouts"))
    touched = [stage.touched for stage in stages] + [_written(path, OWN_FILES)]
    touched += [_written(place, ("ledger.json", "answers.jsonl")) for place in path.glob("evals/*")]
    return RunState(
        name=str(told.get("name") or spec.get("name") or path.name),
        task=str(told.get("task") or spec.get("task") or ""),
        model=str(told.get("model") or ""),
        stages=stages,
        arms=tuple(_arm(path, entry) for entry in listed),
        complete=bool(told.get("complete")),
        held=_is_held(path / ".lock"),
        quiet=max(0.0, time.time() - max(touched)),
    )


def _stages(
    path: Path, listed: Iterable[Mapping[str, Any]], spec: Mapping[str, Any], cap: int | None
) -> tuple[StageState, ...]:
    """In the order in which the arms list them, shared ones once."""
    users: dict[str, list[str]] = {}
    places: dict[str, tuple[Mapping[str, Any], int, tuple[str, ...]]] = {}
    for entry in listed:
        chain = (spec.get("arms") or {}).get(entry["arm"]) or []
        for depth, key in enumerate(entry["stages"]):
            users.setdefault(key, []).append(entry["arm"])
            step = chain[depth] if depth < len(chain) and isinstance(chain[depth], dict) else {}
            places.setdefault(key, (step, entry["seed"], tuple(entry["stages"][:depth])))
    found: dict[str, StageState] = {}
    for key, (step, seed, ancestors) in places.items():
        before = sum(found[earlier].rollouts for earlier in ancestors)
        found[key] = _stage(path / "stages" / key, step, seed, tuple(users[key]), cap, before)
    return tuple(found.values())


def _stage(
    place: Path,
    step: Mapping[str, Any],
    seed: int,
    arms: tuple[str, ...],
    cap: int | None,
    before: int,
) -> StageState:
    told = _mapping(place / "stage.json") or {}
    config = told.get("config") or step.get("config") or {}
    kind, ledger = told.get("kind") or step.get("kind"), _mapping(place / "ledger.json")
    done = (place / "DONE").exists()
    rows = _rows(place / "metrics.jsonl")
    rollouts = next((row["rollouts"] for row in reversed(rows) if row.get("rollouts")), 0)
    return StageState(
        key=place.name,
        arms=arms,
        method=str(told.get("method") or step.get("name") or "?"),
        seed=seed,
        state="done" if done else "begun" if told else "waits",
        total=config.get("steps") or 0,
        rows=rows,
        seconds=_wall(place, ledger),
        touched=_written(place, FILES),
        rollouts=_drawn(ledger) if done and ledger else rollouts,
        expected=_expected(kind, config),
        cap=cap,
        before=before,
    )


def _drawn(ledger: Mapping[str, Any]) -> int:
    usage = ledger.get("usage") or {}
    return sum(row["completions"] for purpose, row in usage.items() if purpose != "eval")


def _expected(kind: Any, config: Mapping[str, Any]) -> int | None:
    """None for a method of another version, whose options this one does not know."""
    try:
        return KINDS[kind].config.model_validate(config).expected_rollouts()
    except (KeyError, ValueError, TypeError):
        return None


def _wall(place: Path, ledger: Mapping[str, Any] | None) -> float | None:
    try:
        return float((place / CLOCK).read_text() or 0)
    except (OSError, ValueError):
        return (ledger or {}).get("wall_seconds")


def _arm(path: Path, entry: Mapping[str, Any]) -> ArmState:
    key = entry["eval"]
    return ArmState(
        arm=entry["arm"],
        seed=entry["seed"],
        keys=tuple(entry["stages"]),
        test=_test_score(path / "evals" / key / "records.parquet") if key else None,
        stopped=bool(entry.get("stopped")),
    )


def _test_score(path: Path) -> float | None:
    stamp = _stamp(path)
    return None if stamp is None else _mean_score(path, stamp)


@cache
def _mean_score(path: Path, stamp: tuple[int, int]) -> float | None:
    from pyarrow import ArrowException
    from pyarrow.parquet import read_table

    try:
        scores = read_table(path, columns=["score"])["score"].to_numpy()
    except (OSError, ArrowException, KeyError):
        return None
    return float(scores.mean()) if len(scores) else None


def _rows(path: Path) -> tuple[Mapping[str, Any], ...]:
    stamp = _stamp(path)
    return () if stamp is None else _parsed(path, stamp)


@lru_cache(maxsize=256)
def _parsed(path: Path, stamp: tuple[int, int]) -> tuple[Mapping[str, Any], ...]:
    """The whole rows; the last line may be half written."""
    rows = []
    for text in path.read_text("utf-8", errors="replace").splitlines():
        try:
            row = json.loads(text)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return tuple(rows)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _written(place: Path, names: Iterable[str]) -> float:
    """When the newest of these files was written, 0 when there is none."""
    stamps = [_stamp(place / name) for name in names]
    return max((stamp[0] / 1e9 for stamp in stamps if stamp), default=0.0)


def _mapping(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _is_held(lock: Path) -> bool | None:
    """Whether a process of this machine holds the lock, as the kernel tells it (Linux). Trying to
    take it would for a moment keep it from a run that is just starting."""
    try:
        inode, listed = os.stat(lock).st_ino, Path("/proc/locks").read_text()
    except OSError:
        return None
    return any(line.split()[5].endswith(f":{inode}") for line in listed.splitlines() if line)
