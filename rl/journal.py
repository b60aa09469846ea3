"""What a stage of RL leaves on disk, and how it is taken back to its newest checkpoint.

    metrics.jsonl             one row per train step and per dev evaluation
    rollouts/000012.parquet   the rollouts of step 12, merged into rollouts.parquet at the end
    best/                     the weights with the best dev score so far
    checkpoints/checkpoint-10/          written by the trainer, by number of optimizer updates
    checkpoints/checkpoint-10/stage/    mark.json, and best/ as it was then
    result.json               the mark of a stage that has ended

A checkpoint counts once its mark.json is there: it is written last, by renaming. Whatever came
after the newest one is dropped on the way back, so the steps are taken again as if undisturbed.
Of several processes the first alone writes.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lm.ledger import Ledger
from lm.ranks import barrier, from_first, is_first
from lm.staging import link_or_copy, staged_folder


@dataclass(frozen=True)
class Mark:
    """Where a stage stands: `best_step` 0 is the incoming policy; `ledger` its counts as JSON."""

    step: int
    best_step: int
    best_score: float
    ledger: str


class Journal:
    """The files of one stage, below `folder`."""

    def __init__(self, folder: Path):
        self.metrics = folder / "metrics.jsonl"
        self.parts = folder / "rollouts"
        self.rollouts = folder / "rollouts.parquet"
        self.best = folder / "best"
        self.checkpoints = folder / "checkpoints"
        self.result = folder / "result.json"

    def log(self, row: dict[str, Any]) -> None:
        """Append one row to metrics.jsonl."""
        if not is_first():
            return
        self.metrics.parent.mkdir(parents=True, exist_ok=True)
        with self.metrics.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def rows(self) -> list[dict[str, Any]]:
        """What was logged so far."""
        if not self.metrics.exists():
            return []
        return [json.loads(line) for line in self.metrics.read_text().splitlines()]

    def keep_rollouts(self, step: int, table: pa.Table) -> None:
        if is_first():
            self.parts.mkdir(parents=True, exist_ok=True)
            _write_table(self.parts / f"{step:06d}.parquet", table)

    def keep_best(self, save: Callable[[Path], None]) -> None:
        """Replace best/ by what `save(folder)` writes."""
        if is_first():
            with staged_folder(self.best) as draft:
                save(draft)

    def seal(self, mark: Mark, update: int) -> None:
        """Complete the checkpoint the trainer has just written after `update` updates."""
        barrier()  # each process has put its part in
        if not is_first():
            return
        stage = self.checkpoints / f"checkpoint-{update}" / "stage"
        if self.best.exists():
            shutil.copytree(
                self.best, stage / "best", dirs_exist_ok=True, copy_function=link_or_copy
            )
        stage.mkdir(exist_ok=True)
        _write_text(stage / "mark.json", json.dumps(asdict(mark)))

    def newest(self) -> Mark | None:
        """The mark of the newest complete checkpoint."""
        marks = [_read_mark(path / "stage" / "mark.json") for path in self._saved()]
        return max((m for m in marks if m is not None), key=lambda m: m.step, default=None)

    def rewind(self) -> tuple[Path | None, Mark | None]:
        """Go back to the newest complete checkpoint, or to nothing when there is none.

        Returns the checkpoint's folder and its mark.
        """
        return from_first(self._rewind)

    def _rewind(self) -> tuple[Path | None, Mark | None]:
        marks = {path: _read_mark(path / "stage" / "mark.json") for path in self._saved()}
        for path in [path for path, mark in marks.items() if mark is None]:
            shutil.rmtree(path)
        whole = {path: mark for path, mark in marks.items() if mark is not None}
        newest = max(whole, key=lambda path: whole[path].step, default=None)
        self._drop_after(whole[newest].step if newest else -1)
        shutil.rmtree(self.best, ignore_errors=True)
        if newest is None:
            return None, None
        if (newest / "stage" / "best").exists():
            with staged_folder(self.best) as draft:
                shutil.copytree(
                    newest / "stage" / "best",
                    draft,
                    dirs_exist_ok=True,
                    copy_function=link_or_copy,
                )
        return newest, whole[newest]

    def finished(self) -> Mark | None:
        """The mark of a stage that has ended, else None."""
        return from_first(lambda: _read_mark(self.result))

    def finish(self, mark: Mark) -> None:
        """Merge the rollouts, write the result, and remove what only resuming needs."""
        if not is_first():
            return
        parts = sorted(self.parts.glob("*.parquet"))
        if parts:
            tables = [pq.read_table(part) for part in parts]
            # a part that an older version wrote may lack a column
            whole = pa.concat_tables(tables, promote_options="default")
            _write_table(self.rollouts, whole)
        _write_text(self.result, json.dumps(asdict(mark)))
        self.tidy()

    def tidy(self) -> None:
        if not is_first():
            return
        for folder in (self.parts, self.checkpoints):
            shutil.rmtree(folder, ignore_errors=True)

    def _saved(self) -> list[Path]:
        return list(self.checkpoints.glob("checkpoint-*"))

    def _drop_after(self, step: int) -> None:
        for part in self.parts.glob("*"):  # drafts of a killed write too
            if not part.stem.isdigit() or int(part.stem) > step:
                part.unlink()
        if self.metrics.exists():
            kept = [line for line in self.metrics.read_text().splitlines() if _until(line, step)]
            _write_text(self.metrics, "".join(f"{line}\n" for line in kept))


def restore_counts(ledger: Ledger, text: str) -> None:
    """Set the counts of `ledger` in place to those in `text`.

    `wall_seconds` stays: it belongs to the stage over all its restarts.
    """
    saved = Ledger.from_json(text)
    ledger.usage.clear()
    ledger.usage.update(saved.usage)
    ledger.train_tokens = saved.train_tokens
    ledger.optimizer_steps = saved.optimizer_steps
    ledger.train_seconds = saved.train_seconds


def _until(line: str, step: int) -> bool:
    try:
        return json.loads(line)["step"] <= step
    except ValueError:
        return False  # the last line of a killed run


def _read_mark(path: Path) -> Mark | None:
    return Mark(**json.loads(path.read_text())) if path.exists() else None


def _write_text(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text)
    os.replace(draft, path)


def _write_table(path: Path, table: pa.Table) -> None:
    draft = path.with_name(f".{path.name}.draft")
    pq.write_table(table, draft)
    os.replace(draft, path)
