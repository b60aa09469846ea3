"""Every figure, once, as an Altair chart: the page shows its Vega-Lite, papers get SVG and PNG.

Each is a function of the run that returns None where the run has nothing to draw.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from reports.load import ReportError, Run
from reports.plotting import config
from reports.result_figures import classes, effects, features, scores, spending, worth
from reports.sankey import sankey
from reports.training_figures import AXES, HEALTH, learning, training

Figure = Callable[[Run], Any]
FIGURES: dict[str, Figure] = {
    "scores": scores,
    **{f"learning_{axis}": partial(learning, axis=axis) for axis in AXES},
    "attribution": effects,
    "failures": classes,
    "slices": features,
    "flow": sankey,
    "cost": spending,
    "score_cost": worth,
    **{f"training_{name}": partial(training, name=name) for name in HEALTH},
}


def specs(run: Run, ink: str = "currentColor") -> dict[str, dict[str, Any]]:
    """The Vega-Lite of every figure that the run has something for, by name."""
    import altair as alt

    charts = {name: make(run) for name, make in FIGURES.items()}
    with alt.data_transformers.enable("default", max_rows=None):
        return {
            name: chart.to_dict(validate=False) | {"config": config(ink)}
            for name, chart in charts.items()
            if chart is not None
        }


def write_figures(run: Run, folder: Path, scale: float = 2.0) -> list[Path]:
    """Write every figure as `<name>.svg` and `<name>.png` into `folder`; returns the files.

    Raises ReportError when the folder cannot be written.
    """
    import vl_convert

    files = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, spec in specs(run, "#1d1d1f").items():
            spec["background"] = "white"
            svg, png = folder / f"{name}.svg", folder / f"{name}.png"
            svg.write_text(vl_convert.vegalite_to_svg(spec), encoding="utf-8")
            png.write_bytes(vl_convert.vegalite_to_png(spec, scale=scale))
            files += [svg, png]
    except OSError as error:
        raise ReportError(f"{folder}: cannot be written ({error.strerror or error})") from error
    return files
