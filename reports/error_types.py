"""Systematic errors of an arm, found rather than declared, and what every arm made of them.

*Subgroups* are kinds of questions where its failures concentrate (`evaluation.discovery`),
*clusters* are kinds of wrong answers (`evaluation.clusters`). Both were found on one half of the
examples and confirmed on the other; what is listed here was confirmed, and often nothing is.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from evaluation.clusters import Cluster, clusters, rule_holds
from evaluation.discovery import ANY, Subgroup, discover
from reports.answers import asked
from reports.load import ReportError, Run
from reports.once import once_a_run
from reports.tables import best_arm

ERROR_TYPES = (
    *("arm", "kind", "name", "failure", "n", "failures", "rate", "rate_outside", "lift", "share"),
    *("p_adjusted", "found_n", "found_failures", "held_n", "held_failures"),
    *("mostly", "where", "terms", "examples"),
)
BY_ARM = ("kind", "name", "failure", "arm", "n", "failures", "rate", "change")
EXAMPLES = ("kind", "name", "failure", "example_id", "input", "gold", "arm", "answer", "correct")
MOST_EXAMPLES = 10_000  # looked at for subgroups: more would find what is too small to matter
MOST_READ = 2_000  # of them, those whose answers are read for clusters
SHOWN = 3
ALL = "all"
READ = ["example_id", "sample", "correct", "failure", "inputs", "meta", "gold", "answer", "text"]
Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Found:
    """The error types of one arm; frames of answers by arm, all seeds, of the examples looked at.

    The frames have the columns `READ`.

    `read` are the places of the answers that were read for clusters, to `read_examples` of the
    `looked_at` of all `examples`. Of an example that an arm answered more often at one seed, the
    first `samples` were looked at and the first `read_samples` read.
    """

    arm: str
    subgroups: tuple[Subgroup, ...]
    clusters: tuple[Cluster, ...]
    where: dict[str, Subgroup]
    answers: dict[str, pd.DataFrame]
    read: dict[str, np.ndarray]
    looked_at: int
    read_examples: int
    examples: int
    samples: int
    read_samples: int


@once_a_run
def find(run: Run, arm: str | None = None) -> Found:
    """Look for the error types of `arm`, by default the best one.

    Of more than `MOST_EXAMPLES` examples so many are drawn, always the same. Where examples have
    many samples, as many are looked at as make `MOST_EXAMPLES` answers at a seed, but one at least.
    Raises ReportError when the run has no such arm.
    """
    name = arm or best_arm(run)
    if name not in run.arm_names:
        raise ReportError(f"no arm {name!r} in {run.path}; it has {', '.join(run.arm_names)}")
    keys = [seed.eval for seed in run.arms if seed.arm == name]
    asked = [run.answers[key]["example_id"].unique().tolist() for key in keys]
    ids = sorted(dict.fromkeys(chain(*asked)))  # which stored order makes short work
    drawn = [ids[i] for i in np.random.default_rng(0).permutation(len(ids))[:MOST_EXAMPLES]]
    read_ids = drawn[:MOST_READ]
    samples, read_samples = max(1, MOST_EXAMPLES // len(ids)), max(1, MOST_READ // len(ids))
    kept = {key: _among(run.answers[key], drawn, samples) for key in set(run.alike.values())}
    inside = {
        key: _among(run.answers[key], read_ids, read_samples)[kept_A]
        for key, kept_A in kept.items()
    }
    firsts = {o: [run.alike[s.eval] for s in run.arms if s.arm == o] for o in run.arm_names}
    answers = {other: _of_arm(run, other, kept) for other in firsts}
    read = {
        other: np.flatnonzero(np.concatenate([inside[key] for key in keys]))
        for other, keys in firsts.items()
    }
    mine = answers[name].iloc[read[name]].reset_index(drop=True)
    kinds = clusters(mine)
    return Found(
        arm=name,
        subgroups=tuple(discover(answers[name])),
        clusters=tuple(kinds),
        where=_where(mine, kinds),
        answers=answers,
        read=read,
        looked_at=len(drawn),
        read_examples=len(read_ids),
        examples=len(ids),
        samples=samples,
        read_samples=read_samples,
    )


def error_types(run: Run, arm: str | None = None) -> pd.DataFrame:
    """The confirmed error types of `arm` (default: the best), columns `ERROR_TYPES`.

    Counted are the answers looked at (see `find`). Of a *subgroup*, `n` counts the answers to its
    examples and `failures` those that fail as `failure` says (a class, or all). Of a *cluster*, `n`
    counts all failing answers and `failures` those in it; `where` is the subgroup in which it
    concentrates. `share` is of all such failures, `p_adjusted` that of the held-out half after
    Holm. `mostly` is the most frequent class among them. The columns `found_*` and `held_*` say the
    same of the two halves.
    """
    found = find(run, arm)
    rows = [_subgroup_row(found, group) for group in found.subgroups]
    rows += [_cluster_row(found, kind) for kind in found.clusters]
    return pd.DataFrame(rows, columns=pd.Index(ERROR_TYPES))


@once_a_run
def error_types_by_arm(run: Run, arm: str | None = None) -> pd.DataFrame:
    """Each error type of `arm` in every arm, columns `BY_ARM`.

    `n` counts the arm's answers to the examples of a subgroup, to all examples for a cluster, and
    `failures` those of them that fail so. `rate` is their ratio, `change` the rate minus the
    baseline's (missing where the baseline is not evaluated).
    """
    found = find(run, arm)
    rows = [row for group in found.subgroups for row in _by_arm(run, found, group)]
    rows += [row for kind in found.clusters for row in _by_arm(run, found, kind)]
    return pd.DataFrame(rows, columns=pd.Index(BY_ARM)).astype({"change": float})


def error_examples(run: Run, arm: str | None = None) -> pd.DataFrame:
    """Examples of each error type, and what every arm answered to them; columns `EXAMPLES`.

    Of each arm the first answer to the example is shown, at its first seed.
    """
    found = find(run, arm)
    rows: list[Row] = []
    for kind, name, failure, shown in _typical(found):
        named: Row = {"kind": kind, "name": name, "failure": failure}
        for example in _rows(shown):
            of = {"example_id": example["example_id"], "gold": example["gold"]}
            for other, frame in found.answers.items():
                first = _first(frame, example["example_id"])
                if first is not None:
                    told = {"answer": _answer(first), "correct": first["correct"]}
                    rows.append({**named, **of, "input": _input(first), "arm": other, **told})
    return pd.DataFrame(rows, columns=pd.Index(EXAMPLES))


def _of_arm(run: Run, name: str, kept: dict[str, np.ndarray]) -> pd.DataFrame:
    """The answers of an arm that are looked at: seeds one after another."""
    frames: list[pd.DataFrame] = []
    for arm in run.arms:
        if arm.arm == name:
            answers, kept_A = run.answers[arm.eval].loc[:, READ], kept[run.alike[arm.eval]]
            frames.append(answers if kept_A.all() else answers.loc[kept_A])
    return pd.concat(frames, ignore_index=True)


def _among(answers: pd.DataFrame, ids: list[str], samples: int) -> np.ndarray:
    """Which are the first `samples` answers to some examples, at each seed.

    Arrow looks them up in a tenth of the time of pandas.
    """
    options = pc.SetLookupOptions(value_set=pa.array(ids, pa.string()))
    inside = pc.call_function("is_in", [pa.array(answers["example_id"])], options)
    return inside.to_numpy(zero_copy_only=False) & (answers["sample"].to_numpy() < samples)


def _where(answers: pd.DataFrame, kinds: list[Cluster]) -> dict[str, Subgroup]:
    """By cluster: the kind of question that it concentrates on, where there is one."""
    targets = {kind.name: np.isin(np.arange(len(answers)), kind.members) for kind in kinds}
    best: dict[str, Subgroup] = {}
    for group in discover(answers, targets=targets, depth=1):
        if group.target not in best or group.p < best[group.target].p:
            best[group.target] = group
    return best


def _subgroup_row(found: Found, group: Subgroup) -> dict[str, object]:
    failing = _failing(found.answers[found.arm], group)
    classes = Counter(failing["failure"].fillna("unclassified").tolist())
    mostly, count = min(classes.items(), key=lambda item: (-item[1], item[0]))
    return {
        "arm": found.arm,
        "kind": "subgroup",
        "name": group.name,
        "failure": group.target or ALL,
        "n": group.n,
        "failures": group.failures,
        "rate": group.rate,
        "rate_outside": group.rate_outside,
        "lift": group.lift,
        "share": group.share,
        "p_adjusted": group.p_adjusted,
        "found_n": group.found.n,
        "found_failures": group.found.failures,
        "held_n": group.held.n,
        "held_failures": group.held.failures,
        "mostly": f"{mostly}, {count} of {len(failing)}",
        "where": "",
        "terms": "",
        "examples": _shown(_some(failing)),
    }


def _cluster_row(found: Found, kind: Cluster) -> dict[str, object]:
    where = found.where.get(kind.name)
    return {
        "arm": found.arm,
        "kind": "cluster",
        "name": kind.name,
        "failure": ALL,
        "n": kind.failing,
        "failures": kind.count,
        "share": kind.share,
        "p_adjusted": kind.p_adjusted,
        "found_n": kind.found.n,
        "found_failures": kind.found.failures,
        "held_n": kind.held.n,
        "held_failures": kind.held.failures,
        "mostly": f"{kind.failure}, {kind.of_class} of {kind.count}",
        "where": f"{where.name} ({where.failures} of {kind.count})" if where else "",
        "terms": "; ".join(kind.others),
        "examples": _shown(_typical_of(found, kind)),
    }


def _first(answers: pd.DataFrame, example_id: str) -> Row | None:
    """The first answer to an example. Arrow stops looking there."""
    place = pa.array(answers["example_id"]).index(example_id).as_py()
    if place < 0:
        return None
    shown = {name: answers[name].iloc[place] for name in ("inputs", "answer", "text")}
    return shown | {"correct": bool(answers["correct"].iloc[place])}


def _failing(answers: pd.DataFrame, group: Subgroup) -> pd.DataFrame:
    fails = ~answers["correct"].astype(bool)
    if group.target != ANY:
        fails &= answers["failure"].eq(group.target).fillna(False).astype(bool)
    return answers.loc[fails & answers["example_id"].isin(list(group.examples))]


def _some(failing: pd.DataFrame) -> pd.DataFrame:
    """A few, of different examples: the first in the order of the run."""
    return failing.drop_duplicates("example_id").head(SHOWN)


def _by_arm(run: Run, found: Found, kind: Subgroup | Cluster) -> list[dict[str, object]]:
    counts = {arm: _count(found, arm, kind) for arm in run.arm_names}
    base = counts.get(run.baseline)
    rate = {arm: failures / n if n else float("nan") for arm, (n, failures) in counts.items()}
    named = {
        "kind": "subgroup" if isinstance(kind, Subgroup) else "cluster",
        "name": kind.name,
        "failure": (kind.target or ALL) if isinstance(kind, Subgroup) else ALL,
    }
    rows: list[dict[str, object]] = []
    for arm, (n, failures) in counts.items():
        change = rate[arm] - rate[run.baseline] if base else None
        told = {"arm": arm, "n": n, "failures": failures, "rate": rate[arm], "change": change}
        rows.append({**named, **told})
    return rows


def _count(found: Found, arm: str, kind: Subgroup | Cluster) -> tuple[int, int]:
    """(answers, those that fail so) of an arm."""
    frame = found.answers[arm]
    if isinstance(kind, Cluster):
        read_A = found.read[arm]
        failing_A = read_A[~frame["correct"].to_numpy(bool)[read_A]]
        failing = frame.loc[:, ["inputs", "gold", "answer"]].iloc[failing_A]
        return len(read_A), int(rule_holds(kind.rule, failing).sum())
    inside = frame.loc[frame["example_id"].isin(list(kind.examples))]
    return len(inside), len(_failing(frame, kind))


def _typical(found: Found) -> list[tuple[str, str, str, pd.DataFrame]]:
    mine = found.answers[found.arm]
    groups = [
        ("subgroup", group.name, group.target or ALL, _some(_failing(mine, group)))
        for group in found.subgroups
    ]
    kinds = [("cluster", c.name, ALL, _typical_of(found, c)) for c in found.clusters]
    return [*groups, *kinds]


def _typical_of(found: Found, kind: Cluster) -> pd.DataFrame:
    return found.answers[found.arm].iloc[found.read[found.arm][list(kind.typical)]]


def _shown(answers: pd.DataFrame) -> str:
    """'keep: keeped (gold kept); …'"""
    return "; ".join(
        f"{_cut(_input(row))}: {_cut(_answer(row))} (gold {_cut(row['gold'])})"
        for row in _rows(answers)
    )


def _cut(text: str, limit: int = 40) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _rows(answers: pd.DataFrame) -> list[Row]:
    return [{str(k): v for k, v in row.items()} for row in answers.to_dict("records")]


def _input(row: Row) -> str:
    return asked(row["inputs"])


def _answer(row: Row) -> str:
    return row["answer"] or row["text"]
