"""What the command line asks for: one table as text, or the whole report.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from reports import escape
from reports.answers import failures, slices
from reports.attribution import attribution, attribution_in_words
from reports.audits import audits, noteworthy, tripped_markdown
from reports.budget import allocation, budget
from reports.cost import cost, curves
from reports.efficiency import dev_curves, efficiency
from reports.error_types import error_examples, error_types, error_types_by_arm
from reports.error_words import error_types_markdown, error_types_text
from reports.evidence import evidence
from reports.flow import flow, flow_links
from reports.format_split import format_in_words, formats
from reports.guide import GUIDE
from reports.load import ReportError, Run, load_run
from reports.reads import reads, reads_markdown, stopped
from reports.recheck import recheck
from reports.recommendation import paragraph
from reports.render import FORMATS, Format, render
from reports.resistance import resistance
from reports.samples import samples
from reports.tables import best_arm, pair, pairs, seeds, shared_seeds, summary
from reports.tool_use import tool_use
from reports.wording import MARKDOWN, PLAIN, Style


def ends(run: Run, arms: Sequence[str]) -> tuple[str, str]:
    """From which arm to which: those named, else the baseline and the best other one."""
    if len(arms) not in (0, 2):
        raise ReportError(f"flow goes from one arm to another: name two arms, not {len(arms)}")
    a, b = arms or (run.baseline, best_arm(run, but=run.baseline))
    return a, b


def _flow(run: Run, arms: Sequence[str] = ()) -> pd.DataFrame:
    return flow(run, *ends(run, arms))


def _links(run: Run, arms: Sequence[str] = ()) -> pd.DataFrame:
    return flow_links(run, *ends(run, arms)).links


TABLES: dict[str, Callable[[Run], pd.DataFrame]] = {
    "summary": summary,
    "pairs": pairs,
    "seeds": seeds,
    "samples": samples,
    "resistance": resistance,
    "failures": failures,
    "error_types": error_types,
    "error_types_by_arm": error_types_by_arm,
    "error_examples": error_examples,
    "format": formats,
    "tool_use": tool_use,
    "flow": _flow,
    "links": _links,
    "slices": slices,
    "cost": cost,
    "budget": budget,
    "allocation": allocation,
    "efficiency": efficiency,
    "dev_curves": dev_curves,
    "curves": curves,
    "audits": audits,
    "attribution": attribution,
    "reads": reads,
    "stopped": stopped,
    "recheck": recheck,
}


def table(
    run_path: str | Path,
    name: str = "summary",
    format: Format = "terminal",
    *,
    arms: Sequence[str] = (),
    margin: float | None = None,
) -> str:
    """The table `name` (one of `TABLES`) of a run folder as text, in one of `FORMATS`.

    `arms` keeps the rows about these arms only; adjusted p stay those of the whole family. For
    `flow`, `links` and `pairs` two arms are from and to; without any, the first two go from the
    baseline to the best other arm. Two arms in `pairs` take a `margin` in score units (see
    `tables.pair`). `error_types` are those of the first of `arms`, else of the best. Below
    `attribution` its sentences follow, though not in CSV and LaTeX.

    Raises ReportError on an unknown table, format or arm, and as `load_run` does.
    """
    if name not in TABLES:
        raise ReportError(f"no table {name!r}; write one of {', '.join(TABLES)}")
    if format not in FORMATS:
        raise ReportError(f"no format {format!r}; write one of {', '.join(FORMATS)}")
    run = load_run(run_path)
    if unknown := [arm for arm in arms if arm not in run.arm_names]:
        raise ReportError(
            f"no arm {unknown[0]!r} in {run.path}; write one of {', '.join(run.arm_names)}"
        )
    if len(arms) == 2 and arms[0] == arms[1]:
        raise ReportError(f"{arms[0]!r} against itself; write two different arms")
    title = f"{run.info['name']}: {name}"
    if name == "error_types":  # its arm is the one looked into; a terminal has no room for it all
        arm = arms[0] if arms else None
        if format == "terminal":
            return f"{escape.plain(title)}\n\n{error_types_text(run, arm)}"
        return render(error_types(run, arm), format)
    if name in ("flow", "links"):
        frame = {"flow": _flow, "links": _links}[name](run, arms)
    elif name == "pairs" and len(arms) == 2:
        frame = pair(run, *arms, margin=margin)
    else:
        frame = _about(TABLES[name](run), arms)
    text = render(frame, format, title=escape.plain(title))
    worded = name == "attribution" and format in ("terminal", "markdown")
    said = _in_words(run, format, arms) if worded else ""
    return f"{text}\n{said}" if said else text


def _in_words(run: Run, format: Format, arms: Sequence[str] = ()) -> str:
    """A line for each arm that is taken apart; in a terminal a hint where none is."""
    lines = []
    for arm, sentence in attribution_in_words(run).items():
        if not arms or arm in arms:
            plain = f"{escape.plain(arm)}: {sentence}\n"
            lines.append(
                f"- **{escape.markdown(arm)}**: {sentence}\n" if format == "markdown" else plain
            )
    if not lines and format == "terminal":
        return "No arm is taken apart; write attribution: true into the spec and run it again.\n"
    return "".join(lines)


def recommendation(run: Run, style: Style = PLAIN) -> str:
    """The answer in words, one paragraph. Raises ReportError as the tables do."""
    return paragraph(evidence(run), style)


def report_markdown(run: Run) -> str:
    """The whole report.md: tripped wires, the answer, what was run, and how to read it."""
    wires = tripped_markdown(run)
    parts = [
        f"# {escape.markdown(run.info['name'])}\n",
        *([wires] if wires else []),
        f"{recommendation(run, MARKDOWN)}\n",
        _header(run),
        reads_markdown(run),
        *(f"> {escape.markdown(note, limit=1000)}\n" for note in run.notes),
        _section("Every arm against the baseline", summary(run)),
    ]
    if not (early := stopped(run)).empty:
        parts.append(_section("Stopped early, clearly worse", early))
    if not (again := recheck(run)).empty:
        parts.append(_section("Again, on test examples never seen", again))
    if len(run.arm_names) > 1:
        parts.append(_section("Every pair of arms", pairs(run)))
    if len({arm.seed for arm in run.arms}) > 1:
        parts.append(_section("Every seed", seeds(run)))
    if not (several := samples(run)).empty:
        parts.append(_section("Several answers to an example", several))
    if not (attacked := resistance(run)).empty:
        parts.append(_section("Attacks, and their harmless twins", attacked))
    if not (effects := attribution(run)).empty:
        parts.append(_section("Weights or prompt", effects))
        parts.append(_in_words(run, "markdown"))
    if not (shared_out := allocation(run)).empty:
        parts.append(_section("Who was given the budget", shared_out))
    parts.append(_section("What fails", failures(run)))
    if not (used := tool_use(run)).empty:
        parts.append(_section("How tools were used", used))
    parts.append(error_types_markdown(run))
    if run.baseline in run.arm_names and len(run.arm_names) > 1:
        best = best_arm(run, but=run.baseline)
    else:
        best = None
    if best is not None and shared_seeds(run, run.baseline, best):
        title = f"From {escape.markdown(run.baseline)} to {escape.markdown(best)}"
        parts.append(_section(title, flow(run, run.baseline, best)))
        if said := format_in_words(run, run.baseline, best):
            parts.append(f"{said}.\n")
    if not (sliced := slices(run)).empty:
        parts.append(_section("By feature", sliced))
    parts.append(_section("Cost", cost(run)))
    if not (given := budget(run)).empty:
        parts.append(_section("Budget", given))
    if not (worth := efficiency(run)).empty:
        parts.append(_section("Score against cost", worth))
    if not (noted := noteworthy(run)).empty:
        parts.append(_section("What the audits found", noted))
    return "\n".join([*parts, GUIDE])


def _section(title: str, frame: pd.DataFrame) -> str:
    body = "None.\n" if frame.empty else render(frame, "markdown")
    return f"## {title}\n\n{body}"


def _header(run: Run) -> str:
    info = run.info
    written = datetime.fromtimestamp((run.path / "run.json").stat().st_mtime, UTC)
    facts = {
        "task": f"{info['task']} ({info['task_hash']})",
        "model": f"{info['model']} ({info['model_fingerprint']})",
        "baseline": info["baseline"],
        "n": str(max(summary(run)["n"])),
        "device": f"{info['device']}, {info['dtype']}",
        "commit": info["git_commit"] or "not in a git repository",
        "test split opened": f"{info['test_opened']} times",
        "versions": ", ".join(f"{k} {v}" for k, v in info.get("versions", {}).items()),
        "date": f"{written:%Y-%m-%d %H:%M} UTC",
    }
    lines = (f"| {name} | {escape.markdown(str(v), limit=300)} |\n" for name, v in facts.items())
    return "| | |\n|:---|:---|\n" + "".join(lines)


def _about(frame: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    for column in ("arm", "arm_a", "arm_b"):
        if arms and column in frame:
            frame = frame.loc[frame[column].isin(arms)]
    return frame
