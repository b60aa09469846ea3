"""What a change fixed and what it broke: how answers went from class to class between two arms."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd

from evaluation.records import CORRECT
from reports.load import Arm, ReportError, Run

FLOW = ("seed", "from", "to", "kind", "count")
NODES = ("node", "side", "arm", "class", "count")
LINKS = ("source", "target", "kind", "count")
NOT_ASKED = "(not asked)"  # in place of a class: this arm has no answer to that example and sample
UNPAIRED = "unpaired"


@dataclass(frozen=True)
class Links:
    """A flow as a Sankey diagram has it.

    `nodes`, columns `NODES`, are the classes of either side, before and after, right answers
    first, then by count; `links`, columns `LINKS`, lead from a node before to a node after, by
    the name in the column `node`. The links of a node add up to its `count`.
    """

    nodes: pd.DataFrame
    links: pd.DataFrame


def flow(run: Run, a: str, b: str) -> pd.DataFrame:
    """What became of arm a's answers in arm b, by class and seed; columns `FLOW`.

    `kind` is fixed (right in b only), broken (right in a only), still-correct, still (wrong in
    both, same class), changed (wrong in both, another class) or unpaired. Answers are paired by
    example id and sample; one without a partner is unpaired, and the other arm's class is
    `NOT_ASKED`. So every answer of either arm is counted once.

    Raises ReportError when the run has no such arm, or no seed that both were evaluated with.
    """
    for name in (a, b):
        if name not in run.arm_names:
            raise ReportError(f"no arm {name!r} in {run.path}; it has {', '.join(run.arm_names)}")
    both = [(x, y) for x in run.arms for y in run.arms if (x.arm, y.arm) == (a, b)]
    rows = [row for x, y in both if x.seed == y.seed for row in _moves(run, x, y)]
    if not rows:
        raise ReportError(f"{run.path}: {a} and {b} share no seed")
    return pd.DataFrame(rows, columns=pd.Index(FLOW))


def flow_links(run: Run, a: str, b: str) -> Links:
    """The same flow as nodes and links, all seeds that both arms have together.

    Raises ReportError as `flow` does, and for an arm against itself.
    """
    if a == b:
        raise ReportError(f"{a!r} against itself; write two different arms")
    moves: Counter[tuple[str, str, str]] = Counter()
    for _, old, new, kind, count in flow(run, a, b).itertuples(index=False):
        moves[old, new, kind] += count
    links = [
        (_node(a, old), _node(b, new), kind, count)
        for (old, new, kind), count in sorted(moves.items(), key=lambda found: (-found[1], found))
    ]
    before, after = Counter[str](), Counter[str]()
    for (old, new, _), count in moves.items():
        before[old] += count
        after[new] += count
    nodes = [*_nodes("before", a, before), *_nodes("after", b, after)]
    return Links(
        nodes=pd.DataFrame(nodes, columns=pd.Index(NODES)),
        links=pd.DataFrame(links, columns=pd.Index(LINKS)),
    )


def _node(arm: str, name: str) -> str:
    return f"{arm}: {name}"


def _nodes(side: str, arm: str, counts: Counter[str]) -> list[tuple[str, str, str, str, int]]:
    order = sorted(counts, key=lambda name: (name != CORRECT, -counts[name], name))
    return [(_node(arm, name), side, arm, name, counts[name]) for name in order]


def _moves(run: Run, a: Arm, b: Arm) -> list[tuple[int, str, str, str, int]]:
    old, new = run.outcomes[a.eval], run.outcomes[b.eval]
    names = [*sorted({*old.cat.categories, *new.cat.categories}), NOT_ASKED]
    code_a, code_b = (
        pd.Index(names).get_indexer(found.cat.categories)[found.cat.codes] for found in (old, new)
    )
    partner_a = _partners(run.answers[a.eval], run.answers[b.eval])
    target_a = np.where(partner_a < 0, len(names) - 1, code_b[partner_a])
    alone_b = np.ones(len(new), dtype=bool)
    alone_b[partner_a[partner_a >= 0]] = False
    count_XY = np.zeros((len(names), len(names)), dtype=int)
    np.add.at(count_XY, (code_a, target_a), 1)
    np.add.at(count_XY[-1], code_b[alone_b], 1)
    found = [(names[x], names[y], int(count_XY[x, y])) for x, y in np.argwhere(count_XY)]
    found.sort(key=lambda move: (-move[2], move[:2]))
    return [(a.seed, x, y, _kind(x, y), count) for x, y, count in found]


def _partners(a: pd.DataFrame, b: pd.DataFrame) -> np.ndarray:
    """For each answer of a, where in b the one to the same example and sample is; -1: nowhere."""
    if a["example_id"].equals(b["example_id"]) and a["sample"].equals(b["sample"]):
        return np.arange(len(a))  # as a rule: both were asked the same in the same order
    place = b.loc[:, ["example_id", "sample"]].assign(place=np.arange(len(b)))
    found = a.loc[:, ["example_id", "sample"]].merge(place, how="left")
    return found["place"].fillna(-1).to_numpy(dtype=int)


def _kind(old: str, new: str) -> str:
    if NOT_ASKED in (old, new):
        return UNPAIRED
    if old == new:
        return "still-correct" if old == CORRECT else "still"
    if CORRECT in (old, new):
        return "fixed" if new == CORRECT else "broken"
    return "changed"
