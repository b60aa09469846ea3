"""Run folders -> pandas tables -> terminal, Markdown, CSV, LaTeX, Parquet. Needs nothing else.

`load("runs/*").summary` is a table of several runs side by side; `load_run` reads one. The
functions that `TABLES` names return DataFrames for notebooks, `flow_links` two of them; `table`,
`tripped` and `report_markdown` return text, `attribution_in_words` and `format_in_words` sentences,
`recommendation` the answer to the whole question.
"""

from reports.answers import failures, slices
from reports.attribution import attribution, attribution_in_words
from reports.audits import audits, tripped
from reports.budget import allocation, budget
from reports.cost import cost, curves
from reports.efficiency import dev_curves, efficiency
from reports.error_types import error_examples, error_types, error_types_by_arm
from reports.files import read_frame, write_frame
from reports.flow import Links, flow, flow_links
from reports.format_split import format_in_words, formats
from reports.load import ReportError, Run, load_run
from reports.reads import reads, stopped
from reports.recheck import recheck
from reports.report import TABLES, recommendation, report_markdown, table
from reports.resistance import resistance
from reports.runs import Runs, load
from reports.samples import samples
from reports.shown import styled
from reports.tables import pairs, seeds, summary
from reports.twins import compare_runs

__all__ = [
    "TABLES",
    "Links",
    "ReportError",
    "Run",
    "Runs",
    "allocation",
    "attribution",
    "attribution_in_words",
    "audits",
    "budget",
    "compare_runs",
    "cost",
    "curves",
    "dev_curves",
    "efficiency",
    "error_examples",
    "error_types",
    "error_types_by_arm",
    "failures",
    "flow",
    "flow_links",
    "format_in_words",
    "formats",
    "load",
    "load_run",
    "pairs",
    "read_frame",
    "reads",
    "recheck",
    "recommendation",
    "report_markdown",
    "resistance",
    "samples",
    "seeds",
    "slices",
    "stopped",
    "styled",
    "summary",
    "table",
    "tripped",
    "write_frame",
]
