"""The page of a run, from its folder alone: words and tables as HTML, figures and answers as data.

What can be read stands in the file as it is and needs no script. Scripts draw the figures and the
browser of answers from two blocks of gzipped data behind it. Whatever a model, task or spec wrote
is escaped by the template or set as text by the scripts, and the policy in the head keeps the
browser from running anything but our own scripts.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from reports import escape
from reports.efficiency import dev_curves
from reports.figures import specs
from reports.load import ReportError, Run
from reports.page import bundle, sections
from reports.page.answers import packed, packed_answers
from reports.page.prompts import changes, programs
from reports.plotting import key
from reports.training_figures import AXES, HEALTH

_SURROGATES = re.compile("[\ud800-\udfff]")


def page(run: Run) -> str:
    """The whole report.html. Raises ReportError as the tables do."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    scripts = (bundle.vega(), bundle.own())
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(bundle.read("page.html.j2"))
    text = template.render(
        **_said(run),
        policy=bundle.policy(scripts, (bundle.style(),)),
        style=Markup(bundle.style()),
        scripts=[Markup(script) for script in scripts],
        guide=Markup(sections.guide()),
    )
    return _SURROGATES.sub("\ufffd", text)


def write_page(run: Run, path: Path) -> None:
    """Write the page to `path`, whole or not at all. Raises ReportError, also where it cannot."""
    text = page(run)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, path)
    except OSError as error:
        raise ReportError(
            f"{path}: cannot be written ({error.strerror or error}); name another file"
        ) from error
    finally:
        draft.unlink(missing_ok=True)


def _said(run: Run) -> dict[str, Any]:
    """Everything the template shows."""
    figures = specs(run)
    effects, effects_said = sections.effects(run)
    flows, flow_said, flow_tables = sections.moved(run)
    return {
        "name": escape.plain(run.info["name"]),
        "task": escape.plain(run.info["task"]),
        "model": escape.plain(run.info["model"]),
        "warnings": sections.warnings(run),
        "answer": sections.answer(run),
        "facts": sections.facts(run),
        "figures": figures,
        "arms": sections.arms(run),
        "axes": {axis: title for axis, title in AXES.items() if f"learning_{axis}" in figures},
        "axes_missing": [] if dev_curves(run).empty else _missing(figures),
        "effects": effects,
        "effects_said": effects_said,
        "failing": sections.failing(run),
        "flows": flows,
        "flow_said": flow_said,
        "flow_tables": flow_tables,
        "errors": sections.kinds_of_errors(run),
        "spent": sections.spent(run),
        "training": [f"training_{name}" for name in HEALTH if f"training_{name}" in figures],
        "health": sections.health(run),
        "changes": changes(run),
        "programs": programs(run),
        "several_seeds": len({arm.seed for arm in run.arms}) > 1,
        "key": key(run),
        "start": escape.plain,
        "lines": sections.lines,
        "answers": packed_answers(run),
        "specs": packed({"figures": figures, "flows": flows}),
    }


def _missing(figures: dict[str, Any]) -> list[str]:
    return [title for axis, title in AXES.items() if f"learning_{axis}" not in figures]
