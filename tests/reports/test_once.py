"""Worked out once a run, handed out as copies, and gone with the run."""

from __future__ import annotations

import gc
import weakref

import pandas as pd
import pytest

from reports import TABLES, load_run, report_markdown, summary
from reports.once import once_a_run


def test_once_for_the_same_run_and_arguments(folder):
    asked = []

    @once_a_run
    def squares(run, n, *, minus=0):
        asked.append((run, n, minus))
        if n < 0:
            raise ValueError("write 0 or more")
        return pd.DataFrame({"square": [n * n - minus]})

    run, other = load_run(folder), load_run(folder)
    assert squares(run, 3)["square"][0] == squares(run, 3)["square"][0] == 9
    assert squares(run, 3, minus=1)["square"][0] == 8 and squares(other, 3)["square"][0] == 9
    assert asked == [(run, 3, 0), (run, 3, 1), (other, 3, 0)]
    for _ in range(2):
        with pytest.raises(ValueError):
            squares(run, -1)
    assert asked[3:] == [(run, -1, 0)] * 2


def test_a_changed_table_is_the_callers_own(folder):
    run = load_run(folder)
    mine = summary(run)
    mine.loc[0, "score"] = 7.0
    assert summary(run)["score"][0] == pytest.approx(0.2)


def test_nothing_keeps_a_run_that_nobody_needs(folder):
    run = load_run(folder)
    for make in TABLES.values():
        make(run)
    report_markdown(run)
    gone = weakref.ref(run)
    del run
    gc.collect()
    assert gone() is None
