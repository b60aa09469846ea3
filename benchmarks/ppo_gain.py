"""What PPO adds on dev to a bootstrapped prompt: examples/policy-gradient, run or gone on with.

Prints for each seed and each method, PPO with a low-rank adapter and with all weights among them,
the dev score it began with, the best one and at which step. Some eight minutes a seed on two cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.workload import ROOT
from experiments.run import run
from experiments.spec import load_spec
from experiments.store import RunFolder

SPEC = ROOT / "examples" / "policy-gradient" / "spec.yaml"
SMALL = ["model=tiny-random", "splits.train=16", "splits.dev=8", "splits.test=8", "seeds=[0]",
         "methods.bootstrap.candidates=1", "methods.grpo.steps=1", "methods.ppo.steps=2",
         "methods.ppo-full.steps=2",
         "sampling.max_tokens=4"]  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where the run folder goes")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all?")
    chosen = parser.parse_args(argv)
    spec = load_spec(SPEC, SMALL if chosen.quick else [])
    folder = RunFolder(run(spec, SPEC.parent, chosen.out))
    gains: dict[str, list[float]] = {}
    for arm in folder.arms():
        if arm["arm"] == "prompt":
            continue
        before, best, step = dev_gain(folder.stage(arm["stages"][-1]))
        gains.setdefault(arm["arm"], []).append(best - before)
        print(
            f"{arm['arm']} seed {arm['seed']}: dev {100 * before:.1f} % before, "
            f"{100 * best:.1f} % at step {step}"
        )
    for name, found in gains.items():
        mean, worst = 100 * statistics.fmean(found), 100 * min(found)
        print(
            f"gain {name} {mean:.1f} points on dev, at least {worst:.1f}, over {len(found)} seeds"
        )


def dev_gain(stage: Path) -> tuple[float, float, int]:
    """Dev score at step 0, the best one, and the first step that had it."""
    rows = [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]
    scores = [(row["dev_score"], row["step"]) for row in rows if row["phase"] == "dev"]
    best, step = max(scores, key=lambda found: (found[0], -found[1]))
    return scores[0][0], best, step


if __name__ == "__main__":
    main()
