"""Run folders -> pandas tables -> terminal, Markdown, CSV. Needs the folder and nothing else.

`load_run` reads one; `summary`, `pairs`, `failures`, `flow`, `slices`, `cost`, `curves`,
`audits`, `reads` and `attribution` return DataFrames for notebooks, `flow_links` two of them;
`table`, `tripped` and `report_markdown` return text, `attribution_in_words` a sentence for each
arm.
"""

from reports.answers import failures, slices
from reports.attribution import attribution, attribution_in_words
from reports.audits import audits, tripped
from reports.cost import cost, curves
from reports.flow import Links, flow, flow_links
from reports.load import ReportError, Run, load_run
from reports.reads import reads
from reports.report import TABLES, report_markdown, table
from reports.tables import pairs, summary

__all__ = [
    "TABLES",
    "Links",
    "ReportError",
    "Run",
    "attribution",
    "attribution_in_words",
    "audits",
    "cost",
    "curves",
    "failures",
    "flow",
    "flow_links",
    "load_run",
    "pairs",
    "reads",
    "report_markdown",
    "slices",
    "summary",
    "table",
    "tripped",
]
