"""What a stage's self-audits found, kept beside its metrics in audits.json.

    [{"name": "reward: empty answer", "level": "ok", "step": null, "detail": "..."}, ...]

A finding informs whoever reads the report. It never picks or drops a checkpoint and stops nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Level = Literal["ok", "note", "tripped"]
AUDITS_FILE = "audits.json"
_GRAVITY: dict[Level, int] = {"ok": 0, "note": 1, "tripped": 2}


@dataclass(frozen=True)
class Finding:
    """One result of the audit `name`.

    `note` is worth a look, `tripped` says that the result may not be what it seems. `step` is the
    first training step it holds of, None where it concerns the whole stage. `detail` is one line.
    """

    name: str
    level: Level
    step: int | None
    detail: str


def write_findings(folder: Path, findings: Sequence[Finding]) -> None:
    """Put `findings` into audits.json, which is replaced as a whole.

    A finding takes the place of an older one with the same name and step, so saying it twice, as a
    run does that was killed and goes on, changes nothing. Of an audit that has found something its
    `ok`s are dropped, of others the latest is kept.
    """
    merged = {(f.name, f.step): f for f in [*read_findings(folder), *findings]}
    kept = [f for f in merged.values() if f.level != "ok"]
    seen = {f.name for f in kept}
    passed = {f.name: f for f in sorted(merged.values(), key=_step) if f.name not in seen}
    rows = sorted([*kept, *passed.values()], key=lambda f: (-_GRAVITY[f.level], f.name, _step(f)))
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{AUDITS_FILE}.draft"
    draft.write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")
    os.replace(draft, folder / AUDITS_FILE)


def read_findings(folder: Path) -> list[Finding]:
    """The findings in audits.json, the gravest first; none where there is no such file."""
    path = folder / AUDITS_FILE
    if not path.exists():
        return []
    return [Finding(**row) for row in json.loads(path.read_text("utf-8"))]


def _step(finding: Finding) -> int:
    return -1 if finding.step is None else finding.step
