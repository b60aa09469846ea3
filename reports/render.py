"""A table as text: for a terminal, for Markdown, LaTeX (latex.py), or as CSV for another program.

The first three round, merge intervals into one cell and escape what a model wrote. CSV keeps every
digit and every character as it was, quoted; a spreadsheet that opens it may take an answer that
starts with `=` for a formula, so open it as text.
"""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reports import escape

Format = Literal["terminal", "markdown", "csv", "latex"]
FORMATS: tuple[Format, ...] = get_args(Format)
Row = dict[str, Any]

_HEADINGS = {
    "delta": "delta (points)",
    "p_adjusted": "p (Holm)",
    "seed_sd": "seed sd",
    "mean_at_k": "mean@k",
    "pass_at_k": "pass@k",
    "p_noninferior": "p (worse)",
    "completion_tokens": "tokens out",
    "prompt_tokens": "tokens in",
    "rate_outside": "rate elsewhere",
    "held_out": "on the held-out half",
    "delta_at_most": "at most (points)",
    "test_delta": "test delta (points)",
    "flops": "FLOPs (est.)",
    "peak_memory_gb": "peak GB",
    "peak_gpu_gb": "peak GB (GPU)",
    "dollars": "$",
}
_EFFECTS = ("weights", "prompt", "interaction")
_HEADINGS |= {f"{name}_effect": f"{name} (points)" for name in _EFFECTS}
_HEADINGS |= {f"{name}_p": "p" for name in _EFFECTS}  # it stands right of its effect
_BOUNDS = {"score": ("ci_low", "ci_high"), "delta": ("delta_low", "delta_high")}
_BOUNDS |= {"mean_at_k": ("mean_low", "mean_high"), "pass_at_k": ("pass_low", "pass_high")}
_BOUNDS |= {name: (f"{name}_low", f"{name}_high") for name in ("resisted", "over_refused")}
_BOUNDS |= {f"{name}_effect": (f"{name}_low", f"{name}_high") for name in _EFFECTS}
_DIFFERENCES = {
    "delta",
    "delta_at_most",
    "test_delta",
    "format",
    "capability",
    "error",
    "change",
    *(f"{name}_effect" for name in _EFFECTS),
}
_SHARES = {
    "test_score",
    *("calling", "malformed", "invalid", "failed", "unanswered"),
    "score",
    "share",
    "rate",
    "rate_outside",
    "used_share",
    "mean_at_k",
    "pass_at_k",
    *("dev_start", "dev_end", "best_dev", "area"),
    *("resisted", "followed", "refused", "derailed", "twin_score", "over_refused"),
    "base",
    "tuned_prompt",
    "tuned_weights",
    "tuned_both",
}
_SIZES = {"seed_sd", "margin"}  # in points, without a sign
_OPTIONAL = {
    "seed_sd",
    "flops",
    "peak_memory_gb",
    "peak_gpu_gb",
    "dollars",
}  # not shown where all unknown
_CHANCES = {"p", "p_adjusted", "p_noninferior", *(f"{name}_p" for name in _EFFECTS)}


def percent(share: float) -> str:
    """0.695 -> '69.5 %'."""
    return f"{100 * share:.1f} %"


def points(delta: float) -> str:
    """0.123 -> '+12.3': a difference of scores in points, its sign always shown."""
    return f"{100 * delta:+.1f}"


def p_value(p: float) -> str:
    """Three digits, and never a zero."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def render(
    frame: pd.DataFrame, format: Format, *, title: str = "", width: int | None = None
) -> str:
    """`frame` as text that ends in one line break.

    `width` is the terminal's, in columns; without it at least 120, since a line that wraps is
    easier to read than a number folded digit by digit.
    """
    if format == "csv":
        return frame.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    if format == "markdown":
        return _markdown(frame)
    if format == "latex":
        from reports.latex import latex

        return latex(frame, title)
    return _terminal(frame, title, width or max(120, shutil.get_terminal_size().columns))


def _terminal(frame: pd.DataFrame, title: str, width: int) -> str:
    # an interval goes below its figure: the summary fits into 120 columns only like that
    texts = _Texts(frame, escape.plain, gap="\n")
    table = Table(
        title=title or None,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        pad_edge=False,
        collapse_padding=True,
    )
    for name, number in texts.columns.items():
        # Text, not str: rich would read [markup] in a model's answer
        justify = "right" if number else "left"
        table.add_column(Text(texts.heading(name)), justify=justify, overflow="fold")
    for row in texts.rows():
        table.add_row(*map(Text, row))
    console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().strip("\n").split("\n")) + "\n"


def _markdown(frame: pd.DataFrame) -> str:
    texts = _Texts(frame, escape.markdown, gap=" ")
    lines = [
        [texts.heading(name) for name in texts.columns],
        ["---:" if number else ":---" for number in texts.columns.values()],
        *texts.rows(),
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


@dataclass(frozen=True)
class _Texts:
    """A table's cells as people read them; `gap` breaks headings and intervals."""

    frame: pd.DataFrame
    escaped: Callable[[str], str]
    gap: str

    @cached_property
    def columns(self) -> dict[str, bool]:
        """The columns shown, and whether each holds numbers; bounds share their figure's cell."""
        bounds = {bound for pair in _BOUNDS.values() for bound in pair}
        unknown = _OPTIONAL - set(self.frame.dropna(axis="columns", how="all"))
        names = [str(name) for name in self.frame.columns if name not in bounds | unknown]
        return {name: pd.api.types.is_numeric_dtype(self.frame[name]) for name in names}

    def heading(self, name: str) -> str:
        shown = _HEADINGS.get(name, name.replace("_", " ")).replace(" ", self.gap)
        return f"{shown}{self.gap}[95 % ci]" if self._has_interval(name) else shown

    def rows(self) -> list[list[str]]:
        rows: list[Row] = self.frame.to_dict("records")  # type: ignore[assignment]
        return [[self._cell(name, row) for name in self.columns] for row in rows]

    def _has_interval(self, name: str) -> bool:
        return name in _BOUNDS and _BOUNDS[name][0] in self.frame

    def _cell(self, name: str, row: Row) -> str:
        value = row[name]
        if isinstance(value, str):
            return self.escaped(value)
        if pd.isna(value):
            return ""
        if not self._has_interval(name):
            return _figure(name, value)
        low, high = (row[bound] for bound in _BOUNDS[name])
        bare = points if name in _DIFFERENCES else lambda share: percent(share).removesuffix(" %")
        return f"{_figure(name, value)}{self.gap}[{bare(low)}, {bare(high)}]"


def _figure(name: str, value: float) -> str:
    if name in _SHARES:
        return percent(value)
    if name in _DIFFERENCES:
        return points(value)
    if name in _SIZES:
        return f"{100 * value:.1f}"
    if name in _CHANCES:
        return p_value(value)
    if name == "seconds":
        return f"{value:,.1f}"
    if not isinstance(value, int):
        return f"{value:.4g}"
    return str(value) if name == "seed" else f"{value:,}"


def cells(frame: pd.DataFrame, limit: int = 300) -> tuple[list[tuple[str, bool]], list[list[str]]]:
    """A table's headings, each with whether it holds numbers, and its rows, as people read them.

    Invisible characters show as escapes; markup is not escaped, since that is up to the template.
    """
    texts = _Texts(frame, lambda text: escape.plain(text, limit), gap=" ")
    return [
        (texts.heading(name), is_number) for name, is_number in texts.columns.items()
    ], texts.rows()


def texts(frame: pd.DataFrame, escaped: Callable[[str], str], gap: str) -> _Texts:
    """The cells of a table as people read them, text through `escaped`; for other formats."""
    return _Texts(frame, escaped, gap)
