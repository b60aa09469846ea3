"""`tasklift report --table`, to a terminal or a file, and `tasklift compare` of two runs."""

from __future__ import annotations

import sys
import warnings
from argparse import Namespace
from glob import has_magic
from pathlib import Path

from experiments.errors import SpecError


def report_table(options: Namespace) -> int:
    """One table of one run as it stands there, or of several runs one below the other."""
    if options.html or options.figures:
        raise SpecError("--html and --figures show a whole run; leave --table out")
    if options.format == "parquet" and options.out is None:
        raise SpecError(f"--format parquet is a file; add --out {options.table}.parquet")
    several = len(options.run) > 1 or (
        has_magic(str(options.run[0])) and not options.run[0].exists()
    )
    one = not several and options.table not in ("records", "rollouts")
    if one and options.format != "parquet":
        from reports import table

        text = table(options.run[0], options.table, options.format)
        if options.out is None:
            print(text, end="")
            return 0
        from experiments.store import write_text

        try:
            write_text(options.out, text)
        except OSError as error:
            raise SpecError(f"{options.out}: cannot be written ({error.strerror})") from error
    else:
        _several(options)
    if options.out is not None:
        print(f"{options.table}: {options.out}")
    return 0


def _several(options: Namespace) -> None:
    from reports import load, write_frame
    from reports.render import render

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said below, a line each
        runs = load(options.run)
        frame = runs.table(options.table)
    for problem in runs.problems.values():
        print(f"not read: {problem}", file=sys.stderr)
    title = f"{', '.join(runs.runs)}: {options.table}"
    if options.out is not None:
        write_frame(frame, options.out, options.format, title)
    else:
        print(render(frame, options.format, title=title), end="")


def compare_two_runs(options: Namespace, margin: float | None) -> int:
    """Two runs of one task, paired where they asked the same examples.

    With one pair of arms the flow of failures follows, as for two arms of one run. What matched
    goes to stderr where the table is for another program.
    """
    from reports import compare_runs, flow, flow_links, load_run
    from reports.render import render

    (run_a, arm_a), (run_b, arm_b) = map(_named, (options.run, options.before))
    found = compare_runs(load_run(run_a), load_run(run_b), arm_a, arm_b, margin)
    one = found.joined[0] if len(found.joined) == 1 else None
    if one is None and options.table in ("flow", "links"):
        raise SpecError(f"--table {options.table} is of two arms; write RUN:ARM RUN:ARM")
    aside = options.format in ("csv", "latex")
    for note in found.notes:
        print(note, file=sys.stderr if aside else sys.stdout)
    if options.table in (None, "pairs"):
        print(render(found.table, options.format, title="pairs"), end="" if options.table else "\n")
    if one is not None and options.table == "links":
        print(render(flow_links(one, *one.arm_names).links, options.format), end="")
    elif one is not None and options.table in (None, "flow"):
        title = "flow, from the first to the second"
        print(render(flow(one, *one.arm_names), options.format, title=title), end="")
    return 0


def _named(words: str) -> tuple[Path, str | None]:
    """RUN or RUN:ARM; a folder whose name holds a colon is that folder."""
    run, colon, arm = words.rpartition(":")
    if not colon or Path(words).is_dir():
        return Path(words), None
    return Path(run), arm
