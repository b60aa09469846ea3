"""What the stages before one have already found out about the train examples, at no new cost.

Only a stage's own ancestors count, never other arms, so that its result depends on its chain alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow.parquet as pq

from evaluation.types import PASS_RATES_FILE, PassRate


def pass_rates(stages: Sequence[Path]) -> Mapping[str, PassRate]:
    """Answers and summed scores by example id, over the rollouts of these finished stages."""
    found: dict[str, PassRate] = {}
    for stage in stages:
        for key, rate in _of_stage(stage):
            old = found.get(key, PassRate(0, 0.0))
            found[key] = PassRate(old.answers + rate.answers, old.total + rate.total)
    return found


def _of_stage(stage: Path) -> list[tuple[str, PassRate]]:
    if (stage / PASS_RATES_FILE).is_file():  # of a prompt optimizer
        raw = json.loads((stage / PASS_RATES_FILE).read_text("utf-8"))
        return [(key, PassRate(*rate)) for key, rate in raw.items()]
    if not (stage / "rollouts.parquet").is_file():
        return []
    rows = pq.read_table(stage / "rollouts.parquet", columns=["example_id", "score"]).to_pylist()
    scored = [row for row in rows if row["score"] is not None]
    return [(row["example_id"], PassRate(1, row["score"])) for row in scored]
