"""All nine prompt methods on all tasks of examples/prompt-methods, run or gone on with, as tables.

For each method its test score, what it gained on zero-shot (McNemar's exact test, Holm over
all pairs of arms), answers asked for by purpose, how often the metric was called, and seconds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.workload import ROOT
from experiments.run import run
from experiments.spec import load_spec
from reports import load_run, summary
from reports.load import Run
from reports.render import p_value, percent, points, render

FOLDER = ROOT / "examples" / "prompt-methods"
PURPOSES = ("metric", "proposal", "reflection")
HEAD = ("method", "test", "gain", "p (Holm)", *PURPOSES, "metric calls", "seconds", "ended")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where run folders go")
    parser.add_argument("--set", action="append", default=[], help="a change to every spec")
    chosen = parser.parse_args(argv)
    for path in sorted(FOLDER.glob("*.yaml")):
        found = load_run(run(load_spec(path, chosen.set), FOLDER, chosen.out))
        print(f"\n{path.name}\n\n{render(table(found), 'markdown')}", flush=True)


def table(found: Run) -> pd.DataFrame:
    """One row an arm."""
    scores = summary(found).set_index("arm")
    rows = []
    for arm in found.arms:
        score: Any = scores.loc[arm.arm]
        row = {"method": arm.arm, "test": percent(score["score"])}
        if arm.stages:
            row |= _searched(found, arm.stages[-1], score)
        rows.append(row)
    return pd.DataFrame(rows, columns=pd.Index(HEAD)).fillna("")


def _searched(found: Run, key: str, score: Any) -> dict[str, str]:
    ledger = found.stages[key].ledger
    told = json.loads((found.path / "stages" / key / "search.json").read_text())
    asked = {p: f"{u.completions}" for p, u in ledger.usage.items() if p in PURPOSES}
    return {
        "gain": points(score["delta"]),
        "p (Holm)": p_value(score["p_adjusted"]),
        **asked,
        "metric calls": str(told["metric_calls"]),
        "seconds": f"{ledger.seconds:.0f}",
        "ended": "cap" if "budget" in told["ended"] else told["ended"],
    }


if __name__ == "__main__":
    main()
