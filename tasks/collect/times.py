"""The times of a column as numbers: numbers, or dates of whatever spelling, all read in one way."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from tasks.text import shorten
from tasks.types import TaskError

# 31/12/2026, 12-31-26; and what stands behind it
PARTS = re.compile(r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4}|\d{2})(?!\d)(.*)", re.DOTALL)
YEAR_FIRST = re.compile(r"(\d{4})([/.-])(\d{1,2})\2(\d{1,2})(?!\d)(.*)", re.DOTALL)
PIVOT = 69  # of years of two digits: 69 is 1969, 68 is 2068, as in C
Day = tuple[int, int, int]


def read_times(texts: Mapping[str, str]) -> dict[str, float]:
    """Seconds or any other number, by the same keys as `texts`.

    Days before months or behind them, but the same in all of a column. Raises TaskError for a time
    that nobody can read, and when both readings are possible and give another order.
    """
    try:
        numbers = {id: float(text) for id, text in texts.items()}
        if all(map(math.isfinite, numbers.values())):
            return numbers
    except ValueError:
        pass
    found = {id: match for id, text in texts.items() if (match := PARTS.fullmatch(text))}
    readings = _readings(list(found.values()))
    sample = shorten(next((match[0] for match in found.values()), ""), 40)
    if found and not readings:
        raise TaskError(
            f'the times, such as "{sample}", have the day neither always before the month nor '
            "always behind it; write 2026-03-01"
        )
    times = [_as_numbers(texts, dict(zip(found, days, strict=True))) for days in readings]
    if not times:
        return _as_numbers(texts, {})
    if len(times) == 2 and _order(times[0]) != _order(times[1]):
        raise TaskError(
            f'the times, such as "{sample}", may have the day or the month first, which is another '
            "order; write 2026-03-01"
        )
    return times[0]


def _readings(matches: Sequence[re.Match[str]]) -> list[list[Day]]:
    """Day first and month first, where all have such a day. With points between, day first is what
    is meant wherever it is possible."""
    first = [(_year(m[4]), int(m[3]), int(m[1])) for m in matches]
    second = [(_year(m[4]), int(m[1]), int(m[3])) for m in matches]
    fit = [days for days in (first, second) if days and all(map(_is_day, days))]
    return fit[:1] if all(m[2] == "." for m in matches) else fit


def _year(text: str) -> int:
    return int(text) if len(text) == 4 else int(text) + (1900 if int(text) >= PIVOT else 2000)


def _is_day(day: Day) -> bool:
    return 1 <= day[1] <= 12 and 1 <= day[2] <= 31


def _as_numbers(texts: Mapping[str, str], days: Mapping[str, Day]) -> dict[str, float]:
    """With `days` read already, and the rest left to pandas."""
    import pandas as pd

    plain = {id: _plain(text, days.get(id)) for id, text in texts.items()}
    read = pd.to_datetime(
        pd.Series(list(plain.values()), dtype="str"), errors="coerce", utc=True, format="mixed"
    )
    for id, time in zip(plain, read, strict=True):
        if pd.isna(time):
            raise TaskError(
                f'{id}: the time is "{shorten(texts[id], 40)}"; write numbers, or dates such as '
                "2026-03-01 or 2026-03-01T12:00"
            )
    return {id: time.timestamp() for id, time in zip(plain, read, strict=True)}


def _plain(text: str, day: Day | None) -> str:
    """2026-03-01 and what stands behind it; '' for a day that there is not."""
    match = PARTS.fullmatch(text) if day else YEAR_FIRST.fullmatch(text)
    if not match:
        return text
    day = day or (int(match[1]), int(match[3]), int(match[4]))
    return "{:04}-{:02}-{:02}".format(*day) + match[5].removeprefix(",") if _is_day(day) else ""


def _order(times: Mapping[str, float]) -> list[int]:
    places = {time: place for place, time in enumerate(sorted(set(times.values())))}
    return [places[time] for time in times.values()]
