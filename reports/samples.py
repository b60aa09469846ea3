"""Where an example was answered several times: mean@k and pass@k."""

from __future__ import annotations

import numpy as np
import pandas as pd

from evaluation.passes import pass_at_k
from evaluation.seeds import score_seeds
from reports.load import Run
from reports.once import once_a_run
from reports.tables import estimate, said

SAMPLES = (
    *("arm", "seeds", "n", "samples", "k", "mean_at_k", "mean_low", "mean_high"),
    *("pass_at_k", "pass_low", "pass_high"),
)


@once_a_run
def samples(run: Run) -> pd.DataFrame:
    """One row for each arm and k = 1, 2, 4, … and all its samples, columns `SAMPLES`.

    `samples` are the answers every example has at least. `mean_at_k` is the mean score of k answers
    and so the same for every k; `pass_at_k` the chance that one of k is right, by the unbiased
    estimator. Both with 95 % intervals, over seeds as in `summary`. Empty where every example
    was answered once.
    """
    rows = [row for name in run.arm_names for row in _rows(run, name)]
    return pd.DataFrame(rows, columns=pd.Index(SAMPLES))


def _rows(run: Run, name: str) -> list[dict[str, object]]:
    evals = [arm.eval for arm in run.arms if arm.arm == name]
    samples_SE = [np.bincount(run.places[key].example_A) for key in evals]
    most = min(int(samples_E.min()) for samples_E in samples_SE)
    if most == 1:
        return []
    right_SE = [_right(run, key) for key in evals]
    mean = said(run, name, lambda: estimate(run, tuple(evals)))
    found = []
    for k in sorted({2**power for power in range(most.bit_length())} | {most}):
        passes = [
            pd.Series(pass_at_k(right_E, samples_E, k), run.places[key].ids)
            for key, right_E, samples_E in zip(evals, right_SE, samples_SE, strict=True)
        ]
        at_k = score_seeds(passes)
        found.append(
            {"arm": name, "seeds": mean.seeds, "n": mean.n, "samples": most, "k": k}
            | {"mean_at_k": mean.score, "mean_low": mean.low, "mean_high": mean.high}
            | {"pass_at_k": at_k.score, "pass_low": at_k.low, "pass_high": at_k.high}
        )
    return found


def _right(run: Run, key: str) -> np.ndarray:
    """How many answers to each example are right."""
    correct_A = run.answers[key]["correct"].to_numpy(bool)
    return np.bincount(run.places[key].example_A, weights=correct_A).astype(int)
