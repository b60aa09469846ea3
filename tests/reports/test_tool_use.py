"""How tools were used, counted by hand."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pandas as pd

from reports.tool_use import TOOL_USE, tool_use

CALL = {"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": {}}]}
TOLD = {"role": "tool", "name": "f", "content": "3"}
BROKEN = {"role": "assistant", "content": "<tool_call>", "malformed": "no JSON"}
LOST = {**TOLD, "name": "", "error": "malformed_call"}
END = {"role": "assistant", "content": "3"}
counted: Any = getattr(tool_use, "__wrapped__")  # noqa: B009


def run_of(*transcripts: list[dict[str, Any]] | None) -> Any:
    texts = [None if t is None else json.dumps(t) for t in transcripts]
    frame = pd.DataFrame({"transcript": pd.Series(texts, dtype="str")})
    arm = SimpleNamespace(arm="a", seed=0, eval="e")
    return SimpleNamespace(arms=(arm,), answers={"e": frame})


def test_turns_calls_and_errors() -> None:
    [row] = counted(
        run_of(
            [CALL, TOLD, END],
            [END],
            [BROKEN, LOST, CALL],
            [CALL, {**TOLD, "error": "bad_arguments"}, CALL, {**TOLD, "error": "tool_error"}, END],
        )
    ).to_dict("records")
    assert row == {
        **{"arm": "a", "seed": 0, "n": 4, "turns": 8 / 4, "tool_calls": 4 / 4},
        **{"calling": 3 / 4, "malformed": 1 / 4, "invalid": 1 / 4, "failed": 1 / 4},
        "unanswered": 1 / 4,
    }


def test_arms_without_tools_have_no_row() -> None:
    frame = counted(run_of(None, None))
    assert frame.empty and tuple(frame.columns) == TOOL_USE
