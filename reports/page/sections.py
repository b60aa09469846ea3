"""What each section of the page says, as plain values: the template only lays it out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from reports import escape
from reports.answers import failures, slices
from reports.attribution import attribution, attribution_in_words
from reports.audits import noteworthy, tripped
from reports.budget import allocation, budget
from reports.cost import cost
from reports.efficiency import efficiency
from reports.error_types import error_examples, error_types, find
from reports.error_words import by_arm_shown, clusters_shown, looked_at, subgroups_shown
from reports.evidence import evidence
from reports.flow import flow_links
from reports.format_split import format_in_words
from reports.guide import GUIDE
from reports.load import Run
from reports.reads import stopped
from reports.recheck import recheck
from reports.recommendation import paragraph
from reports.render import cells
from reports.samples import samples
from reports.sankey import directions
from reports.tables import pairs, seeds, summary
from reports.wording import Style

BOLD, PLAIN_AGAIN = "\ue000", "\ue001"  # private use: `escape.plain` leaves none of them in a name
Pieces = list[tuple[bool, str]]  # (strong, text)


@dataclass(frozen=True)
class Table:
    """A table for the template; `title` is its caption, `fold` hides it until it is asked for."""

    title: str
    headings: list[tuple[str, bool]]
    rows: list[list[str]]
    fold: bool = False


def table(title: str, frame: pd.DataFrame, fold: bool = False) -> Table | None:
    """None of an empty frame."""
    if frame.empty:
        return None
    headings, rows = cells(frame)
    return Table(title, headings, rows, fold)


def several(*tables: Table | None) -> list[Table]:
    return [one for one in tables if one is not None]


def answer(run: Run) -> Pieces:
    """The paragraph on top."""
    marked = Style(
        lambda name: f"{BOLD}{escape.plain(name)}{PLAIN_AGAIN}",
        lambda name: f"{BOLD}{escape.plain(name)}{PLAIN_AGAIN}",
        lambda text: escape.plain(text, 300),
    )
    return pieces(paragraph(evidence(run), marked))


def pieces(text: str) -> Pieces:
    found: Pieces = []
    for i, part in enumerate(text.split(BOLD)):
        strong, end, rest = part.partition(PLAIN_AGAIN) if i else ("", "", part)
        found += [(True, strong)] if end else []
        found += [(False, rest)] if rest else []
    return found


def facts(run: Run) -> list[tuple[str, str]]:
    """What was run, and on what."""
    info = run.info
    written = datetime.fromtimestamp((run.path / "run.json").stat().st_mtime, UTC)
    found = {
        "task": f"{info['task']} ({info['task_hash']})",
        "model": f"{info['model']} ({info['model_fingerprint']})",
        "baseline": info["baseline"],
        "test examples": f"{max(summary(run)['n']):,}",
        "seeds": str(len({arm.seed for arm in run.arms})),
        "device": f"{info['device']}, {info['dtype']}",
        "commit": info["git_commit"] or "not in a git repository",
        "test split opened": f"{info['test_opened']} times",
        "versions": ", ".join(f"{k} {v}" for k, v in info.get("versions", {}).items()),
        "date": f"{written:%Y-%m-%d %H:%M} UTC",
    }
    return [(name, escape.plain(str(value), 300)) for name, value in found.items()]


def warnings(run: Run) -> list[str]:
    """What stands above every figure: tripped wires, a test read twice, what is missing."""
    again = [arm for arm in run.arms if arm.test_reads > 1]
    told = [line[0].upper() + line[1:] for line in tripped(run)]
    if again:
        names = ", ".join(f"{escape.plain(a.arm)} (seed {a.seed})" for a in again)
        told.append(
            f"Test was read more than once for {names}: it may have helped to choose them, so "
            "their scores may be too good and their p too small. tasklift recheck asks examples "
            "that no reading has seen."
        )
    return [*told, *(escape.plain(note, 1000) for note in run.notes)]


def arms(run: Run) -> list[Table]:
    one_seed = len({arm.seed for arm in run.arms}) == 1
    return several(
        table("Every arm against the baseline", summary(run)),
        table("Stopped early, clearly worse", stopped(run)),
        table("Again, on test examples never seen", recheck(run)),
        table("Every pair of arms", pairs(run), fold=True),
        None if one_seed else table("Every seed", seeds(run), fold=True),
        table("Several answers to an example", samples(run)),
    )


def effects(run: Run) -> tuple[list[Table], list[tuple[str, str]]]:
    said = [(escape.plain(arm), text) for arm, text in attribution_in_words(run).items()]
    return several(table("Weights or prompt", attribution(run), fold=True)), said


def failing(run: Run) -> list[Table]:
    return several(
        table("Classes, with an example", failures(run), fold=True),
        table("By kind of question", slices(run), fold=True),
    )


def moved(run: Run) -> tuple[list[tuple[str, str]], str, list[Table]]:
    """The pairs to choose from, what the first one says of format, and its links as a table."""
    found = directions(run)
    if not found:
        return [], "", []
    a, b = found[0]
    told = table(f"From {escape.plain(a)} to {escape.plain(b)}", flow_links(run, a, b).links, True)
    return found, format_in_words(run, a, b) if a == run.baseline else "", several(told)


def kinds_of_errors(run: Run) -> dict[str, Any]:
    """Where the best arm fails: subgroups, clusters, the same in every arm, and examples."""
    arm = find(run, None).arm
    none = error_types(run, None).empty
    return {
        "arm": escape.plain(arm),
        "tables": []
        if none
        else several(
            table("Failures concentrate here", subgroups_shown(run)),
            table("Wrong answers of one kind", clusters_shown(run)),
            table("The same in every arm", by_arm_shown(run), fold=True),
            table("Examples, and what every arm answered", error_examples(run), fold=True),
        ),
        "looked_at": looked_at(run, None),
    }


def spent(run: Run) -> list[Table]:
    return several(
        table("Budget", budget(run)),
        table("Who was given the budget", allocation(run)),
        table("Cost by purpose", cost(run), fold=True),
        table("Score against cost", efficiency(run), fold=True),
    )


def health(run: Run) -> list[Table]:
    return several(table("What the audits found", noteworthy(run)))


def guide() -> str:
    """How to read it, as HTML: our own words, no run's."""
    from markdown_it import MarkdownIt

    _, _, body = GUIDE.partition("\n")
    return MarkdownIt("commonmark", {"html": False}).render(body)


def lines(text: str, limit: int) -> str:
    """Text that keeps its line breaks, invisible characters as escapes."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return "\n".join(escape.plain(line, limit) for line in cut.split("\n"))
