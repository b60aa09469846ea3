"""What stands out in a table: the best score in bold, and stars for differences beyond luck."""

from __future__ import annotations

import pandas as pd

SCORES = ("score", "mean_at_k", "pass_at_k", "test_score", "area")
WITHIN = ("run", "seed", "k", "axis", "feature", "value")  # scores are compared within these
STARS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))
LEGEND = "* p < 0.05, ** p < 0.01, *** p < 0.001, adjusted for all comparisons of the run (Holm)."


def best(frame: pd.DataFrame) -> dict[str, list[bool]]:
    """By column of scores: is a row the best of those it competes with? Equals are all best.

    Rows of the same run compete, and where a table has them of the same seed, k, axis or slice.
    Nothing is best where nothing competes. Empty of tables whose rows are not arms.
    """
    columns = [name for name in SCORES if name in frame]
    if "arm" not in frame or "answer" in frame or "sample" in frame:
        return {}
    within = [name for name in WITHIN if name in frame]
    groups = frame.groupby(within, dropna=False, sort=False) if within else None
    found = {}
    for name in columns:
        top = groups[name].transform("max") if groups is not None else frame[name].max()
        rivals = groups[name].transform("count") if groups is not None else len(frame)
        found[name] = (frame[name].eq(top) & (rivals > pd.Series(1, frame.index))).tolist()
    return found


def stars(frame: pd.DataFrame) -> list[str]:
    """By row: stars for its adjusted p; '' where there is none. Only beside a `delta`."""
    if "p_adjusted" not in frame or "delta" not in frame:
        return [""] * len(frame)
    return [
        next((star for below, star in STARS if p < below), "") for p in frame["p_adjusted"].tolist()
    ]
