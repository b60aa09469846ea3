"""Run folders -> pandas tables -> terminal, Markdown, CSV. Needs the folder and nothing else.

`load_run` reads one; `summary`, `pairs`, `failures`, `flow`, `slices`, `cost`, `budget`, `curves`,
`efficiency`, `dev_curves`, `allocation`, `audits` and `attribution` return DataFrames for
notebooks; `table`, `tripped` and `report_markdown` return text, `attribution_in_words` a sentence
for each arm.
"""

from reports.answers import failures, flow, slices
from reports.attribution import attribution, attribution_in_words
from reports.audits import audits, tripped
from reports.budget import allocation, budget
from reports.cost import cost, curves
from reports.efficiency import dev_curves, efficiency
from reports.load import ReportError, Run, load_run
from reports.report import TABLES, report_markdown, table
from reports.tables import pairs, summary

__all__ = [
    "TABLES",
    "ReportError",
    "Run",
    "allocation",
    "attribution",
    "attribution_in_words",
    "audits",
    "budget",
    "cost",
    "curves",
    "dev_curves",
    "efficiency",
    "failures",
    "flow",
    "load_run",
    "pairs",
    "report_markdown",
    "slices",
    "summary",
    "table",
    "tripped",
]
