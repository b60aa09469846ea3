"""Several run folders side by side: `load("runs/*").summary` is a DataFrame.

Nothing but run.json is read before a table is asked for, and nothing twice. What cannot be read is
named in `problems` and in a warning, and the others are shown.
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from functools import cached_property
from glob import glob, has_magic
from pathlib import Path

import pandas as pd

from evaluation.types import EvalRecord
from reports import rollouts
from reports.columns import LEADING, typed
from reports.load import ReportError, Run, load_run, repeated
from reports.report import TABLES, ends
from reports.shown import Table, html

Source = str | Path


def _records(run: Run) -> pd.DataFrame:
    return run.records


ALL_TABLES = (*TABLES, "records", "rollouts")
RECORDS = ("arm", "seed", *(field.name for field in fields(EvalRecord)))
ROLLOUTS = ("step", "example_id", "sample", "text", "reward", "score", "advantage", "finish")


class Runs:
    """The tables of several runs. Each of `ALL_TABLES` is an attribute: `runs.summary`.

    `paths` are the folders, `problems` what could not be read so far and why, by folder or by
    "folder: table". Columns are documented in docs/tables.md.
    """

    def __init__(self, paths: Sequence[Path], problems: dict[str, str]):
        self.paths = tuple(paths)
        self.problems = problems
        self._made: dict[str, pd.DataFrame] = {}

    @cached_property
    def runs(self) -> dict[str, Run]:
        """The runs by name, read when first asked for. Raises ReportError if none can be read."""
        found: list[Run] = []
        for path in self.paths:
            try:
                found.append(load_run(path))
            except ReportError as error:
                self._note(str(path), error)
        if not found:
            raise ReportError(next(iter(self.problems.values())))
        named = Counter(run.info["name"] for run in found)
        return {
            str(run.path) if named[run.info["name"]] > 1 else run.info["name"]: run for run in found
        }

    def table(self, name: str) -> pd.DataFrame:
        """One of `ALL_TABLES`, all runs one below the other; columns run, task, model come first.

        `flow` and `links` go from each run's baseline to its best other arm; a run of one arm has
        no row there. Changing the frame changes no other. Raises ReportError on an unknown table,
        and where no run has it.
        """
        if name not in ALL_TABLES:
            raise ReportError(f"no table {name!r}; write one of {', '.join(ALL_TABLES)}")
        if name == "rollouts":
            return self.read_rollouts()
        if name not in self._made:
            self._made[name] = self._joined(name)
        return Table(self._made[name])  # copied on writing

    def read_rollouts(self, columns: Sequence[str] = ROLLOUTS) -> pd.DataFrame:
        """What the methods drew to learn from, one row a rollout, a stage that arms share once.

        Columns run, task, model, arms, seed, method, stage, then those asked for (all there are:
        docs/tables.md, and token_ids, mask, logprobs, parts, transcript). Read from disk at each
        call, and nothing but these columns. A column that a run did not note is missing there.
        """
        parts = [
            (name, part)
            for name, run in self.runs.items()
            for part in self._rollouts(name, run, columns)
        ]
        empty = pd.DataFrame(columns=pd.Index([*LEADING, *rollouts.OF, *columns]))
        return Table(typed("rollouts", self._led(parts) if parts else empty))

    def __getattr__(self, name: str) -> pd.DataFrame:
        if name in ALL_TABLES:
            return self.table(name)
        raise AttributeError(f"{name!r} is no table; there are {', '.join(ALL_TABLES)}")

    def __dir__(self) -> Iterable[str]:
        return sorted({*super().__dir__(), *ALL_TABLES})

    def __repr__(self) -> str:
        return f"{len(self.paths)} runs: {', '.join(path.name for path in self.paths)}"

    def _repr_html_(self) -> str:
        return html(self.table("summary"), title=repr(self), problems=self.problems)

    def _joined(self, name: str) -> pd.DataFrame:
        parts, failed = [], []
        for told, run in self.runs.items():
            try:
                parts.append((told, _one(name, run)))
            except ReportError as error:
                failed.append(error)
                self._note(f"{told}: {name}", error)
        if not parts:
            raise failed[0]
        return self._led([part for part in parts if not part[1].empty] or parts[:1])

    def _led(self, parts: Sequence[tuple[str, pd.DataFrame]]) -> pd.DataFrame:
        """Frames of runs, by name, one below the other, with the run's columns first."""
        frame = pd.concat([part for _, part in parts], ignore_index=True)
        counts = [len(part) for _, part in parts]
        of = [(name, self.runs[name].info) for name, _ in parts]
        leading = {
            "run": [name for name, _ in of],
            "task": [str(info["task"]) for _, info in of],
            "model": [str(info["model"]) for _, info in of],
        }
        for place, (column, values) in enumerate(leading.items()):
            frame.insert(place, column, repeated(values, counts))
        return frame

    def _rollouts(self, told: str, run: Run, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
        for key in run.stages:
            try:
                if (frame := rollouts.of_stage(run, key, columns)) is not None:
                    yield frame
            except ReportError as error:
                self._note(f"{told}: {key}", error)

    def _note(self, where: str, error: ReportError) -> None:
        self.problems[where] = str(error)
        warnings.warn(str(error), stacklevel=4)


def load(source: Source | Iterable[Source]) -> Runs:
    """Run folders: one, a pattern such as "runs/*", or several of either.

    Of a pattern, what is no folder is passed over, and what is no run folder named in `problems`.
    Raises ReportError, in one line, where nothing is found, or nothing that is a run folder.
    """
    asked = [source] if isinstance(source, str | Path) else list(source)
    paths, problems = dict[Path, None](), dict[str, str]()
    for one in asked:
        found = _matching(str(one))
        if not found:
            raise ReportError(f"no folder {one}; name run folders, such as runs/<name> or 'runs/*'")
        for path in found:
            try:
                _check(path)
                paths[path] = None
            except ReportError as error:
                problems[str(path)] = str(error)
    if not asked:
        raise ReportError("no run; name run folders, such as runs/<name> or 'runs/*'")
    if not paths:
        raise ReportError(next(iter(problems.values())))
    for problem in problems.values():
        warnings.warn(problem, stacklevel=2)
    return Runs(list(paths), problems)


def _matching(asked: str) -> list[Path]:
    if Path(asked).exists() or not has_magic(asked):
        return [Path(asked)]
    return [path for path in map(Path, sorted(glob(asked, recursive=True))) if path.is_dir()]


def _check(path: Path) -> None:
    """What can be told without reading the answers."""
    if not path.is_dir():
        raise ReportError(f"no folder {path}; name a run folder, such as runs/<name>")
    for name in ("run.json", "arms.json"):
        try:
            json.loads((path / name).read_text("utf-8"))
        except FileNotFoundError:
            raise ReportError(f"{path} is not a run folder: it has no {name}") from None
        except (OSError, ValueError) as error:
            raise ReportError(f"{path}/{name} cannot be read ({error})") from error


def _one(name: str, run: Run) -> pd.DataFrame:
    if name == "records":
        return typed(name, run.records)
    if name not in ("flow", "links"):
        return typed(name, TABLES[name](run))
    if len(run.arm_names) < 2:
        return typed(name, pd.DataFrame(columns=pd.Index(EMPTY[name])))
    arms = dict(zip(("arm_a", "arm_b"), ends(run, ()), strict=True))
    frame = TABLES[name](run)
    for place, (column, arm) in enumerate(arms.items()):
        frame.insert(place, column, arm)
    return typed(name, frame)


EMPTY: dict[str, tuple[str, ...]] = {
    "flow": ("arm_a", "arm_b", "seed", "from", "to", "kind", "count"),
    "links": ("arm_a", "arm_b", "source", "target", "kind", "count"),
}
