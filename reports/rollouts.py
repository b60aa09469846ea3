"""What the methods of a run drew to learn from, as stages/*/rollouts.parquet keeps it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from reports.load import ReportError, Run

OF = ("arms", "seed", "method", "stage")
COLUMNS = (
    *("step", "example_id", "prompt_id", "sample", "text", "token_ids", "mask", "logprobs"),
    *("reward", "score", "advantage", "finish", "parts", "transcript"),
)


def of_stage(run: Run, key: str, columns: Sequence[str]) -> pd.DataFrame | None:
    """The rollouts of one stage, columns `OF` and those asked for; None where it drew none.

    `arms` are those that use the stage, `seed` is the stage's. Raises ReportError on an unknown
    column and on a file that cannot be read.
    """
    if unknown := [name for name in columns if name not in COLUMNS]:
        raise ReportError(f"rollouts: no column {unknown[0]!r}; write some of {', '.join(COLUMNS)}")
    path = run.path / "stages" / key / "rollouts.parquet"
    if not path.is_file():
        return None
    try:
        there = set(pq.read_schema(path).names)
        frame = pq.read_table(path, columns=[c for c in columns if c in there]).to_pandas()
    except (OSError, pa.ArrowException) as error:
        raise ReportError(f"{path} cannot be read ({error}); run the spec again") from error
    frame = frame.reindex(columns=pd.Index(columns))
    arms = ", ".join(dict.fromkeys(arm.arm for arm in run.arms if key in arm.stages))
    seed, method = run.stages[key].told.get("seed"), run.stages[key].method
    for place, (name, value) in enumerate(zip(OF, (arms, seed, method, key), strict=True)):
        frame.insert(place, name, value)
    return frame
