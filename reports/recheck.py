"""What the arms score on test examples that had no part in any choice, beside that on test."""

from __future__ import annotations

import json
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import pandas as pd
import pyarrow as pa

from evaluation.compare import adjust
from evaluation.records import mean_scores, read_answers
from evaluation.seeds import compare_seeds, score_seeds
from reports.load import ReportError, Run
from reports.reads import listed
from reports.tables import arm_scores, right_or_wrong, said, versus

RECHECK = (
    *("arm", "seeds", "test_score", "test_delta", "n", "score", "ci_low", "ci_high"),
    *("delta", "delta_low", "delta_high", "p", "p_adjusted", "reads"),
)
Row = dict[str, Any]


def recheck(run: Run) -> pd.DataFrame:
    """One row for each arm that `tasklift recheck` has asked; columns `RECHECK`.

    `test_score` and `test_delta` are of test, where arms may have been chosen; all others of the
    `n` examples of test that the run had not asked before: `delta` against the baseline over the
    seeds both have, `p_adjusted` after Holm over these comparisons. `reads` says how often unseen
    examples have judged the arm. Arms changed since are left out. Empty where nothing was asked.
    """
    asked = {name: _of(run, name) for name in run.arm_names}
    found = {
        name: _against_baseline(run, asked[run.baseline], asked[name])
        for name in run.arm_names
        if name != run.baseline and asked.get(run.baseline) and asked[name]
    }
    met = {name: one for name, one in found.items() if one is not None}
    family = dict(zip(met, adjust(list(met.values())), strict=True))
    rows = [_row(run, name, asked[name], family.get(name)) for name in asked if asked[name]]
    return pd.DataFrame(rows, columns=pd.Index(RECHECK))


def _row(run: Run, name: str, asked: dict[int, Row], found: Any) -> Row:
    score = score_seeds([row["scores"] for row in asked.values()])
    on_test = versus(run, run.baseline, name) if name != run.baseline else None
    row: Row = {
        "arm": name,
        "seeds": score.seeds,
        "test_score": fmean(arm_scores(run, name)),
        "test_delta": on_test and on_test.delta,
        **{"n": score.n, "score": score.score, "ci_low": score.low, "ci_high": score.high},
        "reads": max(one["reads"] for one in asked.values()),
    }
    if found is not None:
        row |= {"delta": found.delta, "delta_low": found.low, "delta_high": found.high}
        row |= {"p": found.p, "p_adjusted": found.p_adjusted}
    return row


def _against_baseline(run: Run, base: dict[int, Row], own: dict[int, Row]) -> Any:
    met = [seed for seed in own if seed in base]
    if not met:
        return None
    a_S, b_S = ([asked[seed]["scores"] for seed in met] for asked in (base, own))
    unseen = 1.0 if right_or_wrong(run) else None
    return said(run, "recheck", lambda: compare_seeds(a_S, b_S, unseen=unseen))


def _of(run: Run, name: str) -> dict[int, Row]:
    """What was asked of the arm as it stands, by seed."""
    stands = {arm.seed: [*arm.stages] for arm in run.arms if arm.arm == name}
    exams = {(row["arm"], row["seed"]): row.get("exam") for row in listed(run)}
    return {
        row["seed"]: row
        for row in _read(run)
        if row["arm"] == name
        and stands.get(row["seed"]) == row["stages"]
        and exams.get((name, row["seed"])) == row["exam"]
    }


def _read(run: Run) -> Sequence[Row]:
    path = run.path / "recheck.json"
    try:
        rows = json.loads(path.read_text("utf-8"))["arms"] if path.is_file() else []
        return [
            {
                **{name: row[name] for name in ("arm", "seed", "stages", "exam")},
                "reads": len(row["evals"]),
                "scores": mean_scores(
                    read_answers(run.path / "evals" / row["eval"] / "records.parquet")
                ),
            }
            for row in rows
        ]
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise ReportError(f"{path} cannot be read ({error}); run tasklift recheck again") from error
