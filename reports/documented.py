"""docs/tables.md, printed: `python -m reports.documented > docs/tables.md`."""

from __future__ import annotations

from reports.answers import FAILURES, SLICES
from reports.attribution import ATTRIBUTION
from reports.audits import AUDITS
from reports.budget import ALLOCATION, BUDGET
from reports.columns import LEADING, tables_markdown
from reports.cost import COST, CURVES
from reports.efficiency import EFFICIENCY, POINTS
from reports.error_types import BY_ARM, ERROR_TYPES, EXAMPLES
from reports.format_split import FORMAT
from reports.reads import READS, STOPPED
from reports.recheck import RECHECK
from reports.resistance import RESISTANCE
from reports.rollouts import OF
from reports.runs import EMPTY, RECORDS, ROLLOUTS
from reports.samples import SAMPLES
from reports.tables import PAIRS, SEEDS, SUMMARY
from reports.tool_use import TOOL_USE
from reports.twins import COMPARE

_OF_A_RUN: dict[str, tuple[str, ...]] = {
    "summary": SUMMARY,
    "pairs": PAIRS,
    "seeds": SEEDS,
    "samples": SAMPLES,
    "resistance": RESISTANCE,
    "failures": FAILURES,
    "error_types": ERROR_TYPES,
    "error_types_by_arm": BY_ARM,
    "error_examples": EXAMPLES,
    "format": FORMAT,
    "tool_use": TOOL_USE,
    **EMPTY,
    "slices": SLICES,
    "cost": COST,
    "budget": BUDGET,
    "allocation": ALLOCATION,
    "efficiency": EFFICIENCY,
    "dev_curves": POINTS,
    "curves": CURVES,
    "audits": AUDITS,
    "attribution": ATTRIBUTION,
    "reads": READS,
    "stopped": STOPPED,
    "recheck": RECHECK,
    "records": RECORDS,
    "rollouts": (*OF, *ROLLOUTS),
}
COLUMNS: dict[str, tuple[str, ...]] = {
    **{name: (*LEADING, *columns) for name, columns in _OF_A_RUN.items()},
    "compare": COMPARE,
}

if __name__ == "__main__":
    print(tables_markdown(COLUMNS), end="")
