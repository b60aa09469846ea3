"""Watch a run for a reward that is earned without getting better at the task. No torch here.

What can be seen before training is in rl/reward_probe.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import NormalDist, fmean
from typing import Any

from rl.findings import Finding

FALSE_ALARM = 0.02  # of a run of any length whose dev score stays level
WINDOW = 10  # steps
FEWEST = 3  # steps without which a mean says nothing
NAME = "reward up, dev score down"

Rows = Sequence[Mapping[str, Any]]


def reward_up_score_down(rows: Rows, n_dev: int) -> list[Finding]:
    """Whether the training reward rose while the dev score fell; `rows` are those of metrics.jsonl.

    Each dev score is compared with the best one before it. It fell if the drop exceeds z standard
    errors of the difference of two independent means over `n_dev` scores in [0, 1]: as dev
    examples stay the same, the true error is smaller. The reward rose if its mean over the last
    `WINDOW` steps exceeds that over the `WINDOW` steps up to the best dev score by z standard
    errors; the variance of one step is half the mean squared difference of successive steps (von
    Neumann, 1941), which a slow trend leaves alone. z grows with the number k of dev scores: each
    of the k - 1 comparisons of the k-th may err with a chance of FALSE_ALARM / (k (k - 1)^2), which
    sums up to `FALSE_ALARM` however often one looks. No finding for methods without a reward.
    """
    train = [row for row in rows if row["phase"] == "train" and row.get("reward") is not None]
    dev = [row for row in rows if row["phase"] == "dev"]
    if not train or len(dev) < 2:
        return []
    if all(row["reward"] == row.get("score") for row in train):
        return [Finding(NAME, "ok", None, "the reward is the task's own score")]
    for count in range(2, len(dev) + 1):
        if said := _parted(train, dev[:count], n_dev):
            return [Finding(NAME, "tripped", dev[count - 1]["step"], said)]
    return [Finding(NAME, "ok", None, f"not at any of {len(dev)} dev scores")]


def _parted(train: Rows, dev: Rows, n_dev: int) -> str | None:
    """What is wrong at the newest of `dev`, if anything."""
    best, now = max(dev[:-1], key=lambda row: row["dev_score"]), dev[-1]
    k = len(dev)
    z = NormalDist().inv_cdf(1 - FALSE_ALARM / (k * (k - 1) ** 2))
    before, after = best["dev_score"], now["dev_score"]
    error = math.sqrt(_variance(before, n_dev) + _variance(after, n_dev))
    if before - after <= z * error:
        return None
    known = [row for row in train if row["step"] <= now["step"]]
    early, late = _windows(known, best["step"])
    if min(len(early), len(late)) < FEWEST:
        return None
    rewards = [row["reward"] for row in known]
    jumps = [(b - a) ** 2 for a, b in pairwise(rewards)]
    noise = math.sqrt(fmean(jumps) / 2 * (1 / len(early) + 1 / len(late)))
    rise = fmean(late) - fmean(early)
    if rise <= 0 or rise <= z * noise:
        return None
    return (
        f"reward from {fmean(early):.3g} to {fmean(late):.3g} while dev fell from {before:.3f} "
        f"at step {best['step']} to {after:.3f}"
    )


def _windows(train: Rows, best: int) -> tuple[list[float], list[float]]:
    """The rewards around step `best` and the newest ones, no step in both.

    Where the best was the incoming policy, or nearly so, the first half of the steps stands in.
    """
    early = [row["reward"] for row in train if row["step"] <= best]
    late = [row["reward"] for row in train if row["step"] > best]
    if len(early) >= FEWEST:
        return early[-WINDOW:], late[-WINDOW:]
    rewards = [row["reward"] for row in train]
    half = min(WINDOW, len(rewards) // 2)
    return rewards[:half], rewards[-half:] if half else []


def _variance(score: float, n: int) -> float:
    """Of a mean of `n` scores in [0, 1], at most; half an example more keeps 0 and 1 from none."""
    share = (score * n + 0.5) / (n + 1)
    return share * (1 - share) / n
