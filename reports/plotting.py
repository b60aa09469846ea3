"""How figures look: colours, shapes and dashes that tell arms apart, axes, tooltips, sizes.

Colours are Okabe and Ito's (https://jfly.uni-koeln.de/color/), which colour-blind readers can tell
apart; arms also differ by shape and dash. Altair is imported where it is used: it takes a second.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from reports import escape
from reports.load import Run

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A8A8A")
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
DASHES = ([1, 0], [6, 3], [2, 2], [9, 3, 2, 3])
WIDTH, ROW = 560, 30


def config(ink: str = "#1d1d1f") -> dict[str, Any]:
    """How every figure looks; on the page `ink` is currentColor, so that it follows the theme."""
    words = {"labelColor": ink, "titleColor": ink, "labelFontSize": 12, "titleFontSize": 12}
    return {
        "background": "transparent",
        "font": "system-ui, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif",
        "view": {"stroke": None},
        "axis": {
            **words,
            **{"titleFontWeight": 500, "labelLimit": 190, "titlePadding": 10},
            **{"gridColor": ink, "gridOpacity": 0.1, "domain": False},
            **{"tickColor": ink, "tickOpacity": 0.25, "tickSize": 4},
        },
        "legend": {**words, "titleFontWeight": 500, "labelLimit": 220, "orient": "bottom"},
        "text": {"color": ink, "fontSize": 12},
        "title": {"color": ink, "fontSize": 12, "fontWeight": 500, "anchor": "start"},
        "rule": {"color": ink},
    }


def key(run: Run) -> list[tuple[str, str, str]]:
    """How lines tell the arms that were trained apart: name, colour and dashes of each."""
    trained = {arm.arm for arm in run.arms for key in arm.stages if is_trained(run, key)}
    return [
        (named(name), PALETTE[i % len(PALETTE)], " ".join(map(str, DASHES[i % len(DASHES)])))
        for i, name in enumerate(run.arm_names)
        if name in trained
    ]


def is_trained(run: Run, key: str) -> bool:
    return any("loss" in row for row in run.metrics[key])


def named(text: str) -> str:
    """Names come from specs and tasks; a figure shows them without invisible characters.

    Vega keeps values as keys of a plain object, in which one name is taken.
    """
    shown = escape.plain(text, 200)  # what does not fit is cut where it is drawn
    return "__proto__ " if shown == "__proto__" else shown


def by_arm(
    run: Run, *, shape: bool = True, dash: bool = False, legend: bool = True
) -> dict[str, Any]:
    names = [named(name) for name in run.arm_names]
    return styles("arm:N", names, shape=shape, dash=dash, legend=legend)


def styles(
    field: str, domain: list[str], *, shape: bool, dash: bool = False, legend: bool = True
) -> dict[str, Any]:
    """The encodings that tell arms apart."""
    import altair as alt

    def cycled(values: Any) -> list[Any]:
        return [values[i % len(values)] for i in range(len(domain))]

    told: Any = {"title": None} if legend else {"legend": None}
    found: dict[str, Any] = {
        "color": alt.Color(field, scale=alt.Scale(domain=domain, range=cycled(PALETTE)), **told)
    }
    if shape:
        scale = alt.Scale(domain=domain, range=cycled(SHAPES))
        found["shape"] = alt.Shape(field, scale=scale, **told)
    if dash:
        scale = alt.Scale(domain=domain, range=cycled(DASHES))
        found["strokeDash"] = alt.StrokeDash(field, scale=scale, **told)
    return found


def percent_axis() -> Any:
    import altair as alt

    return alt.Axis(format="%", tickCount=6)


def tips(frame: pd.DataFrame) -> list[Any]:
    """A tooltip of all columns, figures with four digits."""
    import altair as alt

    return [
        alt.Tooltip(f"{name}:Q", format=".4~g", title=str(name).replace("_", " "))
        if pd.api.types.is_float_dtype(frame[name])
        else alt.Tooltip(f"{name}:N", title=str(name).replace("_", " "))
        for name in frame.columns
    ]


def sized(chart: Any, rows: float) -> Any:
    return chart.properties(width=WIDTH, height=max(60, round(ROW * rows)))
