"""What several tables and the report need is worked out once a run, and forgotten with the run.

`functools.lru_cache` would keep the run itself, and a run may hold a gigabyte of answers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import pandas as pd

from reports.load import Run

P = ParamSpec("P")
T = TypeVar("T")


def once_a_run(make: Callable[Concatenate[Run, P], T]) -> Callable[Concatenate[Run, P], T]:
    """`make(run, …)`, called once for the same run and further arguments.

    Everyone gets a copy of a DataFrame; other results are shared, so they must not be changed.
    """
    made: WeakKeyDictionary[Run, dict[Any, Any]] = WeakKeyDictionary()

    @wraps(make)
    def once(run: Run, *args: P.args, **kwargs: P.kwargs) -> T:
        of_run = made.setdefault(run, {})
        asked = (args, tuple(sorted(kwargs.items())))
        if asked not in of_run:
            of_run[asked] = make(run, *args, **kwargs)
        found = of_run[asked]
        return found.copy() if isinstance(found, pd.DataFrame) else found  # type: ignore[return-value]

    return once
