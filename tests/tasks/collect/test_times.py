"""Times as people write them: one reading for a whole column, or a line that says why not."""

from __future__ import annotations

import pytest

from tasks import TaskError
from tasks.collect.times import read_times

DAYS = [(day, month) for month in range(1, 7) for day in (1, 5, 9, 12, 13, 20, 28)]
SPELLED = {
    "{0:02}/{1:02}/2026": DAYS,
    "{1}/{0}/2026 10:00": DAYS,
    "{0}-{1}-26": DAYS,
    "{0:02}.{1:02}.2026, 10:00": DAYS,
    "{0}.{1}.26": [(day, month) for day, month in DAYS if day < 13],
    "2026/{1}/{0}": DAYS,
    "{0} March 2026": [(day, 3) for day in range(1, 29)],
}


@pytest.mark.parametrize("spelling", SPELLED)
def test_all_dates_of_a_column_are_read_in_one_way(spelling: str) -> None:
    days = SPELLED[spelling]
    times = read_times({str(n): spelling.format(*day) for n, day in enumerate(days)})
    wanted = sorted(range(len(days)), key=lambda n: days[n][::-1])
    assert sorted(range(len(days)), key=lambda n: times[str(n)]) == wanted


def test_dates_that_can_be_read_in_two_ways_are_refused() -> None:
    def read(*texts: str) -> dict[str, float]:
        return read_times({f"r{n}": text for n, text in enumerate(texts)})

    with pytest.raises(
        TaskError, match=r'such as "01/02/2026", may have the day or the month first'
    ):
        read("01/02/2026", "02/01/2026")
    with pytest.raises(TaskError, match="the day neither always before the month"):
        read("13/02/2026", "02/13/2026")
    with pytest.raises(TaskError, match='r1: the time is "2026-13-02"'):
        read("2026-01-02", "2026-13-02")
    assert list(read("01/01/2026", "02/02/2026", "2026-03-01").values()) == sorted(
        read("01/01/2026", "02/02/2026", "2026-03-01").values()
    )
    assert read("31/12/99", "01/01/01")["r0"] < 1e9 < read("31/12/99", "01/03/05")["r1"]
