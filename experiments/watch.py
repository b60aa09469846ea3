"""`tasklift watch RUN`: follow a run from another terminal, or see how it went.

In a terminal one screen that renews itself, elsewhere a line for each step as it comes, so that a
log and a pipe can follow, too. It ends with the run, or when nobody works on it any more.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.following import RunState, StageState, state_of
from experiments.progress import clock, figure, line, of_budget
from reports.escape import plain

if TYPE_CHECKING:
    from rich.console import Group

QUIET = {False: 60, None: 600}  # seconds without a word after which nobody is waited for
BARS = "▁▂▃▄▅▆▇█"


def watch(path: Path, every: float, once: bool) -> int:
    """Show the run until it ends, looking `every` so many seconds; with `once`, as it is now."""
    try:
        return _live(path, every, once) if sys.stdout.isatty() else _lines(path, every, once)
    except KeyboardInterrupt:  # the run goes on
        return 0


def ended(state: RunState) -> str | None:
    """Why there is no more to wait for, None while there is."""
    if state.complete:
        return "complete"
    if state.held is not True and state.quiet > QUIET[state.held]:
        quiet = f"nothing was written for {clock(state.quiet)}"
        return f"nobody works on it here, and {quiet}; tasklift run goes on from there"
    return None


def _live(path: Path, every: float, once: bool) -> int:
    from rich.console import Console
    from rich.live import Live

    console = Console()
    state = state_of(path)
    if once:
        console.print(screen(state, console.width, 10**6))
        return 0
    with Live(screen(state, *console.size), console=console, auto_refresh=False) as live:
        while ended(state) is None:
            time.sleep(every)
            state = state_of(path)
            live.update(screen(state, *console.size), refresh=True)
    return 0


def screen(state: RunState, width: int, height: int) -> Group:
    """What a terminal of that size shows: the methods, one row each, then the arms."""
    from rich.console import Group
    from rich.text import Text

    parts = [p for p in (state.name, state.task, state.model) if p]
    head = Text("  ".join(plain(part) for part in parts), style="bold")
    arms = _arms(state)
    room = max(3, height - arms.row_count - 8)
    shown, hidden = _window(state, room)
    more = [Text(f" … and {hidden} more, {_counts(state)}", style="dim")] if hidden else []
    methods = _methods(shown, state.running, width)
    return Group(head, Text(), methods, *more, Text(), arms, Text(), Text(closing(state)))


def _window(state: RunState, room: int) -> tuple[Sequence[StageState], int]:
    """So many stages around the one at work, or the last ones; and how many are left out."""
    stages = state.stages
    if len(stages) <= room:
        return stages, 0
    at = stages.index(state.running) if state.running else len(stages)
    start = min(max(0, at - room + 2), len(stages) - room)
    return stages[start : start + room], len(stages) - room


def closing(state: RunState) -> str:
    """The last line: is it done, is somebody at work, since when is it silent?"""
    why = ended(state)
    if why is not None:
        return why
    tested = sum(arm.test is not None or arm.stopped for arm in state.arms)
    counts = f"{_counts(state)}, {tested}/{len(state.arms)} arms tested"
    return f"{counts}; last sign of life {clock(state.quiet)} ago"


def _counts(state: RunState) -> str:
    done = sum(stage.state == "done" for stage in state.stages)
    return f"{done}/{len(state.stages)} stages done"


def _table(*columns: str) -> Any:
    """Figures keep their width; where room is short, names give way."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in columns:
        given = name in ("arm", "method")
        left = given or name in ("step", "on dev")
        table.add_column(name, justify="left" if left else "right", no_wrap=not given)
    return table


def _row(table: Any, cells: Sequence[str], style: str = "") -> None:
    from rich.text import Text

    table.add_row(*(Text(c, no_wrap=True, overflow="ellipsis") for c in cells), style=style)


def _methods(stages: Sequence[StageState], running: StageState | None, width: int) -> Any:
    wide = ["best", "on dev"] if width >= 110 else []
    names = ("arm", "seed", "method", "step", "reward", "dev", *wide)
    table = _table(*names, "rollouts", "time", "ETA")
    for stage in stages:
        at_work = running is not None and stage.key == running.key
        dev = [row["dev_score"] for row in stage.rows if row.get("dev_score") is not None]
        shared = f" +{len(stage.arms) - 1}" if len(stage.arms) > 1 else ""
        cells = [
            plain(stage.arms[0], 24) + shared,
            str(stage.seed),
            plain(stage.method, 20),
            _steps(stage),
            _shown(stage.newest("reward")),
            _shown(stage.newest("dev_score")),
            *([_shown(stage.best), bars(dev)] if wide else []),
            _rollouts(stage),
            clock(stage.seconds) if stage.seconds else "",
            clock(stage.left) if at_work and stage.left else "",
        ]
        style = "bold" if at_work else "dim" if stage.state == "waits" else ""
        _row(table, cells, style)
    return table


def _arms(state: RunState) -> Any:
    """An arm a row, its seeds side by side."""
    seeds = list(dict.fromkeys(arm.seed for arm in state.arms))
    found = {(arm.arm, arm.seed): _verdict(arm) for arm in state.arms}
    table = _table("arm", *(f"test, seed {seed}" for seed in seeds))
    for name in dict.fromkeys(arm.arm for arm in state.arms):
        row = [plain(name, 24), *(found.get((name, seed), "") for seed in seeds)]
        _row(table, row)
    return table


def _verdict(arm: Any) -> str:
    if arm.test is not None:
        return f"{100 * arm.test:.1f} %"
    return "stopped: clearly worse" if arm.stopped else "waits"


def bars(values: Sequence[float], most: int = 12) -> str:
    """Scores in [0, 1] as a row of bars, the newest `most` of them."""
    top = len(BARS) - 1
    return "".join(BARS[min(top, max(0, round(value * top)))] for value in values[-most:])


def _steps(stage: StageState) -> str:
    if stage.state != "begun":
        return stage.state
    if not stage.rows:
        return "begun"
    return f"{stage.step}/{stage.total}" if stage.total else str(stage.step)


def _rollouts(stage: StageState) -> str:
    """What its arms have drawn, out of their budget; without one, what the stage has drawn."""
    if not stage.rows and stage.state != "done":
        return ""
    return of_budget(stage.rollouts + (stage.before if stage.cap else 0), stage.cap)


def _shown(value: Any) -> str:
    return figure(value) if isinstance(value, float) else "" if value is None else plain(str(value))


def _lines(path: Path, every: float, once: bool) -> int:
    told: dict[str, int] = {}
    while True:
        state = state_of(path)
        for text in news(state, told):
            print(text, flush=True)
        if once or ended(state) is not None:
            print(closing(state), flush=True)
            return 0
        time.sleep(every)


def news(state: RunState, told: dict[str, int]) -> Iterator[str]:
    """A line for whatever has happened since `told`, which notes what has been said.

    At first of each finished stage its end alone, of the others their newest step.
    """
    for number, stage in enumerate(state.stages, 1):
        label = f"{number}/{len(state.stages)} {plain(stage.arms[0])} · {plain(stage.method)}, "
        label += f"seed {stage.seed}"
        yield from _stage_news(stage, label, told)
    for arm in state.arms:
        key = f"arm {arm.arm} {arm.seed}"
        if key not in told and (arm.test is not None or arm.stopped):
            told[key] = 1
            yield f"[test {plain(arm.arm)}, seed {arm.seed}] {_verdict(arm)}"


def _stage_news(stage: StageState, label: str, told: dict[str, int]) -> Iterator[str]:
    if told.get(f"done {stage.key}"):
        return
    newest = max(0, len(stage.rows) - 1)
    since = min(told.get(stage.key, newest), len(stage.rows))  # a resumed run drops some
    if stage.state != "done":
        for row in stage.rows[since:]:
            yield line(label, row["step"], stage.total, _figures(row, stage), stage.left)
        told[stage.key] = len(stage.rows)
    else:
        told[f"done {stage.key}"] = 1
        seconds = f" in {clock(stage.seconds)}" if stage.seconds else ""
        dev = f"  best dev {figure(stage.best)}" if stage.best is not None else ""
        yield f"[{label}] done{seconds}{dev}  rollouts {_rollouts(stage)}"


def _figures(row: Any, stage: StageState) -> dict[str, float | str]:
    names = {"reward": "reward", "score": "score", "loss": "loss", "dev_score": "dev"}
    found = {to: row[name] for name, to in names.items() if isinstance(row.get(name), float)}
    if "reward" in found:
        found.pop("loss", None)
    drawn = row.get("rollouts")
    if isinstance(drawn, int):
        found["rollouts"] = of_budget(drawn + (stage.before if stage.cap else 0), stage.cap)
    return found
