"""The error types as people read them: a few columns, and counts as "65 of 228"."""

from __future__ import annotations

import pandas as pd

from reports import escape
from reports.error_types import ALL, Found, error_types, error_types_by_arm, find
from reports.load import Run
from reports.render import render

NOTHING = "Nothing that the second half of the examples confirmed.\n"
SUBGROUPS = ("where", "failure", "fails", "rate", "rate_outside", "share", "p_adjusted", "held_out")
KINDS = ("answer", "count", "share", "mostly", "where", "p_adjusted", "held_out", "examples")
ARMS = ("error_type", "arm", "fails", "rate", "change")


def subgroups_shown(run: Run, arm: str | None = None) -> pd.DataFrame:
    """The subgroups of `error_types`, columns `SUBGROUPS`; counts are texts, "110 of 228"."""
    frame = error_types(run, arm)
    frame = frame.loc[frame["kind"] == "subgroup"]
    columns = {"where": frame["name"], "fails": _of(frame), "held_out": _of(frame, "held_")}
    return frame.assign(**columns).loc[:, list(SUBGROUPS)]


def clusters_shown(run: Run, arm: str | None = None) -> pd.DataFrame:
    """The clusters of `error_types`, columns `KINDS`."""
    frame = error_types(run, arm)
    frame = frame.loc[frame["kind"] == "cluster"]
    columns = {"answer": frame["name"], "count": _of(frame), "held_out": _of(frame, "held_")}
    return frame.assign(**columns).loc[:, list(KINDS)]


def by_arm_shown(run: Run, arm: str | None = None) -> pd.DataFrame:
    """`error_types_by_arm`, columns `ARMS`; an error type is named once, in its first row."""
    frame = error_types_by_arm(run, arm)
    named = frame["name"].mask(frame["failure"] != ALL, frame["name"] + ": " + frame["failure"])
    repeated = frame.duplicated(["kind", "name", "failure"])
    columns = {"error_type": named.mask(repeated, ""), "fails": _of(frame)}
    return frame.assign(**columns).loc[:, list(ARMS)]


def error_types_text(run: Run, arm: str | None = None) -> str:
    """What `--table error_types` prints in a terminal: the tables above, one below another."""
    name = escape.plain(find(run, arm).arm)
    parts = [f"{looked_at(run, arm)}\n"]
    if error_types(run, arm).empty:
        return f"{name}: {NOTHING}{parts[0]}"
    for title, frame in (
        (f"{name}: where failures concentrate", subgroups_shown(run, arm)),
        (f"{name}: kinds of wrong answers", clusters_shown(run, arm)),
        ("the same in every arm", by_arm_shown(run, arm)),
    ):
        parts.append(render(frame, "terminal", title=title) if len(frame) else f"{title}: none\n")
    return "\n".join([*parts[1:], parts[0]])


def error_types_markdown(run: Run, arm: str | None = None) -> str:
    """The section of the report: subgroups, clusters, and both in every arm."""
    name = escape.markdown(find(run, arm).arm)
    groups, kinds = subgroups_shown(run, arm), clusters_shown(run, arm)
    parts = [f"## Where {name} fails\n"]
    if groups.empty and kinds.empty:
        return "\n".join([*parts, NOTHING, f"{looked_at(run, arm)}\n"])
    if not groups.empty:
        parts += ["Failures concentrate here:\n", render(groups, "markdown")]
    if not kinds.empty:
        parts += ["Wrong answers of one kind:\n", render(kinds, "markdown")]
    parts += ["The same in every arm:\n", render(by_arm_shown(run, arm), "markdown")]
    return "\n".join([*parts, f"{looked_at(run, arm)}\n"])


def looked_at(run: Run, arm: str | None) -> str:
    found = find(run, arm)
    most = 1 + max(run.answers[seed.eval]["sample"].to_numpy().max() for seed in run.arms)
    few = (
        f" Of {most:,} answers to an example at a seed the first {found.samples:,} were looked at "
        f"and the first {found.read_samples:,} read."
    )
    said = _examples_in_words(found)
    return said + few if min(found.samples, found.read_samples) < most else said


def _examples_in_words(found: Found) -> str:
    if found.looked_at == found.examples and found.read_examples == found.examples:
        return f"Looked for in all {found.examples:,} examples."
    return (
        f"Looked for in {found.looked_at:,} of {found.examples:,} examples, drawn at random; "
        f"answers to {found.read_examples:,} of these were read for kinds of wrong answers."
    )


def _of(frame: pd.DataFrame, half: str = "") -> list[str]:
    pairs = zip(frame[f"{half}failures"], frame[f"{half}n"], strict=True)
    return [f"{int(a):,} of {int(b):,}" for a, b in pairs]
