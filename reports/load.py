"""A run folder read back. Every table starts here, and nothing but the folder is needed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from evaluation.judge import FORMAT_FAILURES, UNIVERSAL_FAILURES
from evaluation.records import Places, mean_scores, outcomes, places, read_answers
from lm.ledger import Ledger

INFO = (
    *("name", "task", "task_hash", "baseline", "git_commit", "device", "dtype"),
    *("model", "model_fingerprint", "test_opened"),
)

ASKED = ("split", "example_id", "sample", "inputs", "meta", "gold")


class ReportError(ValueError):
    """A run folder that cannot be reported. One line: what, where, what to do instead."""


@dataclass(frozen=True)
class Cells:
    """Four evaluations: base policy, an arm's prompt or weights alone, and the two together."""

    base: str
    prompt: str
    weights: str
    both: str


@dataclass(frozen=True)
class Arm:
    """One arm at one seed: its chain of stage keys, first method first, and its evaluation.

    `cells` are the evaluations of its attribution, None where they were not asked for.
    `test_reads` says how often the test split has judged it.
    """

    arm: str
    seed: int
    stages: tuple[str, ...]
    eval: str
    cells: Cells | None = None
    test_reads: int = 1

    @property
    def evals(self) -> tuple[str, ...]:
        """Its evaluation, then those of its cells; some may be the same."""
        cells = self.cells
        return (self.eval, *(astuple(cells) if cells is not None else ()))


@dataclass(frozen=True)
class Stage:
    """One computed method, which arms with the same beginning share. `told` is stage.json."""

    key: str
    method: str
    kind: str
    ledger: Ledger
    told: dict[str, Any]


@dataclass(frozen=True)
class Audit:
    """What one self-audit of a stage found: `level` is ok, note or tripped, `detail` one line."""

    name: str
    level: str
    step: int | None
    detail: str


@dataclass(frozen=True, eq=False)
class Run:
    """What a run folder holds.

    `info` is run.json. `arms` are the evaluated ones, in the order of the spec; whatever is
    missing is named in `notes`. `answers` and `test_ledgers` go by eval key, `stages`, `metrics`
    (the rows of metrics.jsonl) and `audits` (those of audits.json) by stage key. `answers` are
    columns: one row an answer in stored order, one column a field of `EvalRecord`.
    """

    path: Path
    info: dict[str, Any]
    arms: tuple[Arm, ...]
    stages: dict[str, Stage]
    metrics: dict[str, list[dict[str, Any]]]
    audits: dict[str, list[Audit]]
    answers: dict[str, pd.DataFrame]
    test_ledgers: dict[str, Ledger]
    notes: tuple[str, ...]

    @property
    def records(self) -> pd.DataFrame:
        """Every answer of every arm: columns arm, seed and the fields of `EvalRecord`."""
        own = [self.answers[arm.eval] for arm in self.arms]
        counts = [len(answers) for answers in own]
        frame = pd.concat(own, ignore_index=True)
        frame.insert(0, "arm", repeated([arm.arm for arm in self.arms], counts))
        frame.insert(1, "seed", np.repeat([arm.seed for arm in self.arms], counts))
        return frame

    @cached_property
    def alike(self) -> dict[str, str]:
        """By eval key: the first one that answered the same examples and samples, in its order.

        As a rule all did, and what hangs on the examples alone is worked out for one of them.
        """
        firsts: list[str] = []
        found: dict[str, str] = {}
        for key, answers in self.answers.items():
            same = (one for one in firsts if _asked_alike(self.answers[one], answers))
            found[key] = next(same, key)
            if found[key] == key:
                firsts.append(key)
        return found

    @cached_property
    def places(self) -> dict[str, Places]:
        """Which example each answer is to, by eval key."""
        made = {key: places(self.answers[key]) for key in dict.fromkeys(self.alike.values())}
        return {key: made[first] for key, first in self.alike.items()}

    @cached_property
    def scores(self) -> dict[str, pd.Series]:
        """The mean score of each example over its samples (index: example id), by eval key."""
        return {
            key: mean_scores(answers, self.places[key]) for key, answers in self.answers.items()
        }

    @cached_property
    def outcomes(self) -> dict[str, pd.Series]:
        """What came of each answer (categories, see `evaluation.records.outcomes`), by eval key."""
        return {key: outcomes(answers) for key, answers in self.answers.items()}

    @property
    def arm_names(self) -> list[str]:
        return list(dict.fromkeys(arm.arm for arm in self.arms))

    @property
    def baseline(self) -> str:
        return self.info["baseline"]

    @property
    def format_failures(self) -> frozenset[str]:
        """The failure classes of format; the universal ones alone in runs that name no others."""
        return frozenset(self.info.get("format_failures", FORMAT_FAILURES))

    def meaning(self, failure: str) -> str:
        """The sentence that explains a failure class, the task's own first."""
        own = self.info.get("failure_classes", {})
        return own.get(failure) or UNIVERSAL_FAILURES.get(failure, "")


def repeated(texts: Sequence[str], counts: Sequence[int]) -> pd.Series:
    """A column of texts, each so many times; Arrow repeats them without making Python strings."""
    kind = pa.large_string()
    chunks = [pa.repeat(pa.scalar(text, kind), n) for text, n in zip(texts, counts, strict=True)]
    return pd.Series(pa.chunked_array(chunks, kind), dtype="str")


def load_run(path: str | Path) -> Run:
    """Read a run folder, finished or not.

    Raises ReportError, in one line, when there is no such folder, when it is not a run folder or
    holds a file that cannot be read, and when no arm has been evaluated yet.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise ReportError(f"no folder {folder}; name a run folder, such as runs/<name>")
    for name in ("run.json", "arms.json"):
        if not (folder / name).is_file():
            raise ReportError(f"{folder} is not a run folder: it has no {name}")
    try:
        return _load(folder)
    except ReportError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise ReportError(f"{folder} cannot be read ({what}); run the spec again") from error


def _load(folder: Path) -> Run:
    listed = json.loads((folder / "arms.json").read_text("utf-8"))
    arms = tuple(
        Arm(
            *(row["arm"], row["seed"], tuple(row["stages"]), row["eval"]),
            cells=_cells(folder, row),
            test_reads=row.get("test_reads", 1),
        )
        for row in listed
        if row["eval"] is not None and _is_done(folder, row["eval"])
    )
    info = json.loads((folder / "run.json").read_text("utf-8"))
    if not isinstance(info, dict) or not isinstance(info.get("failure_classes", {}), dict):
        raise ReportError(f"{folder}/run.json is no object of ours; run the spec again")
    if not isinstance(info.get("format_failures", []), list):
        raise ReportError(f"{folder}/run.json: format_failures is no list; run the spec again")
    if absent := [name for name in INFO if name not in info]:
        raise ReportError(f"{folder}/run.json has no {absent[0]!r}; run the spec again")
    if not arms:
        raise ReportError(f"{folder}: none of {len(listed)} arms is evaluated yet; run the spec")
    keys = list(dict.fromkeys(key for arm in arms for key in arm.stages))
    evals = list(dict.fromkeys(key for arm in arms for key in arm.evals))
    return Run(
        path=folder,
        info=info,
        arms=arms,
        stages={key: _stage(folder / "stages" / key) for key in keys},
        metrics={key: _metrics(folder / "stages" / key) for key in keys},
        audits={key: _audits(folder / "stages" / key) for key in keys},
        answers=_all_answers(folder, evals),
        test_ledgers={key: _ledger(folder / "evals" / key) for key in evals},
        notes=_notes(listed, arms),
    )


def _is_done(folder: Path, key: str) -> bool:
    return (folder / "evals" / key / "DONE").is_file()


def _cells(folder: Path, row: dict[str, Any]) -> Cells | None:
    found = Cells(**row["cells"]) if row.get("cells") else None
    whole = found is not None and all(_is_done(folder, key) for key in astuple(found))
    return found if whole else None


def _stage(folder: Path) -> Stage:
    row = json.loads((folder / "stage.json").read_text("utf-8"))
    return Stage(folder.name, row["method"], row["kind"], _ledger(folder), row)


def _ledger(folder: Path) -> Ledger:
    return Ledger.from_json((folder / "ledger.json").read_text("utf-8"))


def _all_answers(folder: Path, evals: Sequence[str]) -> dict[str, pd.DataFrame]:
    """By eval key. What was asked is held once where it is the same: it is most of the text.

    (A copy of an array of Arrow's has the same text, and goes its own way when it is written to.)
    """
    found: dict[str, pd.DataFrame] = {}
    for key in evals:
        answers = _answers(folder / "evals" / key)
        first = next(iter(found.values()), answers)
        same = [name for name in ASKED if answers[name].equals(first[name])]
        found[key] = answers.assign(**{name: first[name].array.copy() for name in same})
    return found


def _answers(folder: Path) -> pd.DataFrame:
    answers = read_answers(folder / "records.parquet")
    if answers.empty:
        raise ReportError(f"{folder} holds no answer; delete it and run the spec again")
    return answers


def _asked_alike(a: pd.DataFrame, b: pd.DataFrame) -> bool:
    return all(a[name].equals(b[name]) for name in ("sample", "example_id", "meta"))


def _metrics(folder: Path) -> list[dict[str, Any]]:
    path = folder / "metrics.jsonl"
    text = path.read_text("utf-8") if path.is_file() else ""
    whole = text[: text.rfind("\n") + 1]  # a kill may have torn the last line
    rows = [json.loads(line) for line in whole.split("\n") if line.strip()]
    if not all(isinstance(row, dict) and "step" in row for row in rows):
        raise ReportError(f"{path}: a row has no step; delete {folder} and run the spec again")
    return rows


def _audits(folder: Path) -> list[Audit]:
    path = folder / "audits.json"
    rows = json.loads(path.read_text("utf-8")) if path.is_file() else []
    try:
        found = [Audit(**row) for row in rows]
    except TypeError:
        found = None
    if found is None or not all(map(_is_audit, found)):
        raise ReportError(f"{path} holds no findings of ours; delete it, or run the spec again")
    return found


def _is_audit(found: Audit) -> bool:
    texts = (found.name, found.level, found.detail)
    return all(isinstance(text, str) for text in texts) and isinstance(found.step, int | None)


def _notes(listed: Sequence[dict], arms: Sequence[Arm]) -> tuple[str, ...]:
    done = {(arm.arm, arm.seed): arm for arm in arms}
    arms_missing: list[str] = []
    cells_missing: list[str] = []
    for row in listed:
        arm = done.get((row["arm"], row["seed"]))
        name = f"{row['arm']} (seed {row['seed']})"
        if arm is None and row.get("stopped"):
            continue  # told by `reports.reads.stopped`
        if arm is None:
            arms_missing.append(name)
        elif arm.cells is None and "cells" in row:
            cells_missing.append(name)
    notes = {
        "Not evaluated yet, so absent": arms_missing,
        "Attribution not evaluated yet": cells_missing,
    }
    return tuple(f"{what}: {', '.join(names)}." for what, names in notes.items() if names)
