"""How often the interval over several seeds holds the truth (`evaluation.seeds`), by simulation.

Many draws at once, so the formulas stand here a second time; tests/evaluation/test_seeds.py holds
them to `compare_seeds`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from evaluation.intervals import chance_above

HALVINGS = 30


@dataclass(frozen=True)
class Seeds:
    """`seeds` runs of 0/1 answers to `n` examples; the baseline is right at `rate`, the other arm
    at `rate + change` in the mean over seeds, whose standard deviation is `sd`. A `shared` baseline
    is the same at all seeds."""

    seeds: int
    n: int
    rate: float
    change: float
    sd: float
    shared: bool


FEW = (  # seeds that differ about as much as the noise of their examples: too few of them
    Seeds(2, 50, 0.5, 0.0, 0.08, False),
    Seeds(2, 200, 0.5, 0.0, 0.06, False),
    Seeds(3, 50, 0.5, 0.0, 0.1, False),
    Seeds(3, 200, 0.5, 0.0, 0.04, False),
)
CASES = (
    Seeds(3, 200, 0.5, 0.0, 0.0, True),
    Seeds(3, 200, 0.5, 0.1, 0.03, True),
    Seeds(3, 200, 0.5, 0.0, 0.1, True),
    Seeds(3, 50, 0.03, 0.0, 0.0, True),
    Seeds(5, 200, 0.5, 0.0, 0.03, False),
    Seeds(5, 50, 0.9, 0.05, 0.02, True),
    Seeds(5, 50, 0.03, 0.0, 0.0, True),
    Seeds(5, 1000, 0.5, 0.02, 0.02, True),
)


def draw(case: Seeds, draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Answers of both arms, (draws, seeds, n): hard and easy examples are common to all."""
    rng = np.random.default_rng(seed)
    hard_D1E = rng.standard_normal((draws, 1, case.n))

    def answers(rate_DS1: float | np.ndarray, seeds: int) -> np.ndarray:
        noise_DSE = rng.standard_normal((draws, seeds, case.n))
        right_DSE = stats.norm.cdf(np.sqrt(0.6) * hard_D1E + np.sqrt(0.4) * noise_DSE) < rate_DS1
        return right_DSE.astype(float)

    a_DSE = answers(case.rate, 1 if case.shared else case.seeds)
    rate_DS1 = case.rate + case.change + case.sd * rng.standard_normal((draws, case.seeds, 1))
    return np.broadcast_to(a_DSE, (draws, case.seeds, case.n)), answers(rate_DS1, case.seeds)


def holds(case: Seeds, a_DSE: np.ndarray, b_DSE: np.ndarray) -> dict[str, np.ndarray]:
    """By draw: is the truth within the interval (`ours`), within that of the examples alone
    (`examples`), and within t with Satterthwaite's degrees of freedom (`satterthwaite`)?"""
    value_DSE = b_DSE - a_DSE
    seeds, n = case.seeds, case.n
    example_DE, seed_DS = value_DSE.mean(axis=1), value_DSE.mean(axis=2)
    mean_D = example_DE.mean(axis=1)
    rest_DSE = value_DSE - seed_DS[:, :, None] - example_DE[:, None] + mean_D[:, None, None]
    rest_D = (rest_DSE**2).sum(axis=(1, 2)) / ((n - 1) * (seeds - 1))
    variance_D = np.maximum(seed_DS.var(axis=1, ddof=1) / seeds - rest_D / (n * seeds), 0)
    high_D = case.change > mean_D
    side_D = np.where(high_D, _limit(example_DE, 0.025), _limit(example_DE, 0.975))
    reach_D = stats.t.ppf(0.975, seeds - 1) * np.sqrt(variance_D)
    off_D = np.abs(case.change - mean_D)
    both_D = example_DE.var(axis=1, ddof=1) / n
    total_D = both_D + variance_D
    parts_D = both_D**2 / (n - 1) + variance_D**2 / (seeds - 1)
    freedom_D = total_D**2 / np.maximum(parts_D, 1e-300)
    return {
        "ours": off_D <= np.hypot(side_D - mean_D, reach_D),
        "examples": off_D <= np.abs(side_D - mean_D),
        "satterthwaite": off_D <= stats.t.ppf(0.975, freedom_D) * np.sqrt(total_D),
    }


def seed_coverage(case: Seeds, draws: int = 2000, seed: int = 0) -> dict[str, float]:
    """The coverage of each interval of `holds`."""
    return {
        name: float(inside.mean()) for name, inside in holds(case, *draw(case, draws, seed)).items()
    }


def _limit(value_DE: np.ndarray, chance: float) -> np.ndarray:
    """By draw: what the mean exceeds with this chance, where differences could be -1 or 1."""
    low_D, high_D = np.full(len(value_DE), -1.0), np.full(len(value_DE), 1.0)
    for _ in range(HALVINGS):
        middle_D = (low_D + high_D) / 2
        above_D = chance_above(value_DE - middle_D[:, None], -1 - middle_D, 1 - middle_D)
        low_D = np.where(above_D > chance, middle_D, low_D)
        high_D = np.where(above_D > chance, high_D, middle_D)
    return (low_D + high_D) / 2


def main(argv: Sequence[str] | None = None) -> None:
    print("| seeds | n | rate | change | sd | shared baseline | ours | Satterthwaite | no seeds |")
    print("|---|---|---|---|---|---|---|---|---|")
    for case in (*CASES, *FEW):
        found = seed_coverage(case)
        about = (
            f"{case.seeds} | {case.n} | {case.rate} | {case.change:+} | {case.sd} | {case.shared}"
        )
        shown = " | ".join(f"{found[name]:.3f}" for name in ("ours", "satterthwaite", "examples"))
        print(f"| {about} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
