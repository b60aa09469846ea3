"""Figures of what came out: scores, effects, failures, slices and cost."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pandas as pd

from reports.answers import failures, slices
from reports.attribution import attribution
from reports.cost import cost
from reports.load import Run
from reports.plotting import PALETTE, by_arm, named, percent_axis, sized, styles, tips
from reports.render import percent
from reports.tables import seeds, summary

MOST_CLASSES = 12


def scores(run: Run) -> Any:
    """Each arm's score on test with its 95 % interval; small: its seeds; dashed: the baseline."""
    import altair as alt

    table: Any = summary(run)
    shown = table.loc[:, ["arm", "n", "score", "ci_low", "ci_high", "delta", "p_adjusted"]]
    shown = shown.assign(label=table["score"].map(percent))
    shown["arm"] = shown["arm"].map(named)
    y = alt.Y("arm:N", sort=None, title=None, axis=alt.Axis(ticks=False, labelPadding=8))
    x = alt.X("score:Q", title="score on test", axis=percent_axis(), scale=alt.Scale(zero=False))
    base = alt.Chart(shown).encode(y=y)
    line = base.mark_rule(strokeWidth=2, opacity=0.65).encode(x=alt.X("ci_low:Q"), x2="ci_high:Q")
    dot = base.mark_point(filled=True, size=110, opacity=1).encode(
        x=x, **by_arm(run, legend=False), tooltip=tips(shown)
    )
    words = base.mark_text(align="left", dx=9).encode(x="ci_high:Q", text="label:N")
    layers: list[Any] = []
    mean = table.loc[table["arm"] == run.baseline, "score"]
    if len(mean):
        at = pd.DataFrame({"score": [float(mean.iloc[0])]})
        layers.append(alt.Chart(at).mark_rule(strokeDash=[4, 4], opacity=0.45).encode(x="score:Q"))
    if table["seeds"].max() > 1:
        each = seeds(run).loc[:, ["arm", "seed", "score"]]
        each["arm"] = each["arm"].map(named)
        ticks = alt.Chart(each).mark_tick(thickness=1.5, size=12, opacity=0.55)
        layers.append(ticks.encode(x="score:Q", y=y, **by_arm(run, legend=False, shape=False)))
    return sized(alt.layer(*layers, line, dot, words), len(shown))


def effects(run: Run) -> Any:
    """What the weights, the prompt, and the two together bring: effects with 95 % intervals."""
    import altair as alt

    table: Any = attribution(run)
    if table.empty:
        return None
    long = pd.concat(
        [
            table.loc[:, ["arm", "seed"]].assign(
                effect=name,
                points=100 * table[f"{name}_effect"],
                low=100 * table[f"{name}_low"],
                high=100 * table[f"{name}_high"],
            )
            for name in ("weights", "prompt", "interaction")
        ],
        ignore_index=True,
    )
    long["arm"] = [
        named(arm) if table["seed"].nunique() == 1 else f"{named(arm)} (seed {seed})"
        for arm, seed in zip(long["arm"], long["seed"], strict=True)
    ]
    domain = list(dict.fromkeys(long["arm"]))
    y = alt.Y("effect:N", sort=["weights", "prompt", "interaction"], title=None)
    offset = alt.YOffset("arm:N", sort=domain)
    base = alt.Chart(long).encode(y=y, yOffset=offset, **styles("arm:N", domain, shape=True))
    zero = alt.Chart(pd.DataFrame({"points": [0.0]})).mark_rule(opacity=0.5).encode(x="points:Q")
    whole = base.mark_rule(strokeWidth=2).encode(x="low:Q", x2="high:Q")
    dot = base.mark_point(filled=True, size=80, opacity=1).encode(
        x=alt.X("points:Q", title="points of score"), tooltip=tips(long)
    )
    return sized(alt.layer(zero, whole, dot), 3 * max(1.5, len(domain) * 0.8))


def classes(run: Run) -> Any:
    """How often each arm fails in which way, in percent of its answers, over its seeds."""
    import altair as alt

    table: Any = failures(run)
    if table.empty:
        return None
    counts = Counter[tuple[str, str]]()
    for name, failure, count in zip(table["arm"], table["failure"], table["count"], strict=True):
        counts[name, failure] += count
    total = Counter[str]()
    for (_, failure), count in counts.items():
        total[failure] += count
    rows = []
    for name in run.arm_names:
        answered = sum(len(run.answers[arm.eval]) for arm in run.arms if arm.arm == name)
        for title, inside in _columns([failure for failure, _ in total.most_common()]):
            count = sum(counts[name, failure] for failure in inside)
            share = count / answered
            rows.append((named(name), title, count, share, _rounded(share)))
    shown = pd.DataFrame(rows, columns=pd.Index(["arm", "failure", "count", "share", "label"]))
    top = max(row[3] for row in rows)
    base = alt.Chart(shown).encode(
        x=alt.X("failure:N", sort=None, title=None,
                axis=alt.Axis(orient="top", labelAngle=-35, ticks=False, labelPadding=6)),
        y=alt.Y("arm:N", sort=None, title=None, axis=alt.Axis(ticks=False, labelPadding=8)),
    )  # fmt: skip
    cell = base.mark_rect(cornerRadius=3).encode(
        color=alt.value(PALETTE[0]),
        opacity=alt.Opacity("share:Q", scale=alt.Scale(domain=[0, top], range=[0.03, 0.6]),
                            legend=None),
        tooltip=tips(shown.loc[:, ["arm", "failure", "count", "share"]]),
    )  # fmt: skip
    words = base.mark_text().encode(
        text="label:N", opacity=alt.condition("datum.count > 0", alt.value(1), alt.value(0.35))
    )
    return sized(alt.layer(cell, words), len(run.arm_names))


def features(run: Run) -> Any:
    """Mean score by kind of question, as the examples' `meta` tells kinds, over seeds."""
    import altair as alt

    table: Any = slices(run)
    if table.empty:
        return None
    table = table.assign(total=table["score"] * table["n"])
    grouped = table.groupby(["feature", "value", "arm"], sort=False)
    shown = grouped[["n", "total"]].sum().reset_index()
    shown["score"] = shown["total"] / shown["n"]
    shown["kind"] = [
        f"{named(f)}: {named(v)}" for f, v in zip(shown["feature"], shown["value"], strict=True)
    ]
    shown["arm"] = shown["arm"].map(named)
    shown = shown.loc[:, ["kind", "arm", "n", "score"]]
    x = alt.X("score:Q", title="score on test", axis=percent_axis())
    y = alt.Y("kind:N", sort=None, title=None, axis=alt.Axis(ticks=False, grid=True))
    base = alt.Chart(shown).encode(y=y)
    span = base.mark_rule(opacity=0.25, strokeWidth=2).encode(x="min(score):Q", x2="max(score):Q")
    dots = base.mark_point(filled=True, size=60, opacity=0.9)
    return sized(
        alt.layer(span, dots.encode(x=x, **by_arm(run), tooltip=tips(shown))),
        0.7 * shown["kind"].nunique(),
    )


def spending(run: Run) -> Any:
    """The seconds an arm took by what they went into, a seed's on average."""
    import altair as alt

    table: Any = cost(run)
    per_seed = table.groupby(["arm", "purpose"], sort=False)["seconds"].sum().reset_index()
    count = pd.Series([arm.arm for arm in run.arms]).value_counts()
    per_seed["seconds"] /= per_seed["arm"].map(count)
    if not per_seed["seconds"].sum() > 0:
        return None
    per_seed["arm"] = per_seed["arm"].map(named)
    purposes = list(dict.fromkeys(per_seed["purpose"]))
    colours = [*PALETTE[:-1], "#F0E442", "#000000", "#999999"]
    chart = alt.Chart(per_seed).mark_bar(height=14).encode(
        y=alt.Y("arm:N", sort=None, title=None, axis=alt.Axis(ticks=False, labelPadding=8)),
        x=alt.X("seconds:Q", title="seconds", axis=alt.Axis(tickCount=5)),
        color=alt.Color("purpose:N", title=None, scale=alt.Scale(
            domain=purposes, range=[colours[i % len(colours)] for i in range(len(purposes))])),
        order=alt.Order("place:Q"),
        tooltip=tips(per_seed),
    )  # fmt: skip
    chart.data = per_seed.assign(place=per_seed["purpose"].map(purposes.index))
    return sized(chart, len(run.arm_names))


def worth(run: Run) -> Any:
    """Score on test against the seconds it took to get there."""
    import altair as alt

    table: Any = summary(run)
    if not table["seconds"].max() > 0 or len(table) < 2:
        return None
    shown = table.loc[:, ["arm", "score", "ci_low", "ci_high", "seconds", "rollouts"]]
    shown["arm"] = shown["arm"].map(named)
    base = alt.Chart(shown).encode(
        x=alt.X(
            "seconds:Q", title="seconds to make the arm", axis=alt.Axis(grid=False, tickCount=5)
        )
    )
    y = alt.Y("score:Q", title="score on test", axis=percent_axis(), scale=alt.Scale(zero=False))
    line = base.mark_rule(opacity=0.4).encode(y=alt.Y("ci_low:Q"), y2="ci_high:Q")
    dot = base.mark_point(filled=True, size=110, opacity=1)
    return sized(alt.layer(line, dot.encode(y=y, **by_arm(run), tooltip=tips(shown))), 8)


def _columns(failures: list[str]) -> list[tuple[str, list[str]]]:
    """The classes that get a column each, and one for all that are rarer."""
    if len(failures) <= MOST_CLASSES:
        return [(named(failure), [failure]) for failure in failures]
    shown, rest = failures[: MOST_CLASSES - 1], failures[MOST_CLASSES - 1 :]
    return [*((named(failure), [failure]) for failure in shown), (f"{len(rest)} more", rest)]


def _rounded(share: float) -> str:
    """Percent; what is there but rounds to nothing is not called nothing."""
    return "<1" if 0 < share < 0.005 else f"{100 * share:.0f}"
