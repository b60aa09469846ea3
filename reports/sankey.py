"""The Sankey diagram of a flow: where its boxes and ribbons lie for each pair of arms, and how they
are drawn. Positions are shares of the height."""

from __future__ import annotations

from typing import Any

import pandas as pd

from reports.flow import Links, flow_links
from reports.load import Run
from reports.once import once_a_run
from reports.plotting import PALETTE, named, sized
from reports.tables import best_arm, shared_seeds

KINDS = {  # blue for what got better, orange for what got worse, grey for what stayed
    "fixed": "#0072B2",
    "broken": "#D55E00",
    "still-correct": "#9CC3DA",
    "changed": "#E69F00",
    "still": "#A9A9A9",
    "unpaired": "#D9D9D9",
}
GAP = 0.034  # between two boxes, in shares of the height
MOST_ARMS = 12  # with more, only what leads from the baseline is drawn
RIBBONS = ("from_arm", "to_arm", "old", "new", "kind", "count", "a0", "a1", "b0", "b1")
BOXES = ("from_arm", "to_arm", "side", "name", "count", "top", "bottom")


@once_a_run
def directions(run: Run) -> list[tuple[str, str]]:
    """The pairs (from, to) that a Sankey can be drawn of, the one to show first in front."""
    names = run.arm_names
    pairs = [(a, b) for a in names for b in names if a != b and shared_seeds(run, a, b)]
    if len(names) > MOST_ARMS:
        pairs = [(a, b) for a, b in pairs if a == run.baseline]
    if not pairs or run.baseline not in names:
        return pairs
    first = (run.baseline, best_arm(run, but=run.baseline))
    return [pair for pair in pairs if pair == first] + [pair for pair in pairs if pair != first]


@once_a_run
def layout(run: Run) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ribbons (columns `RIBBONS`) and boxes (`BOXES`) of every pair of `directions`.

    A ribbon leads from a0..a1 on the left to b0..b1 on the right, heights from the top, 0 to 1.
    """
    ribbons: list[tuple] = []
    boxes: list[tuple] = []
    for a, b in directions(run):
        links = flow_links(run, a, b)
        place = _boxes(links)
        for node, side, _, name, count in links.nodes.itertuples(index=False, name=None):
            boxes.append((a, b, side, name, count, *place[node, side]))
        ribbons += [(a, b, *found) for found in _ribbons(links, place)]
    return (
        pd.DataFrame(ribbons, columns=pd.Index(RIBBONS)),
        pd.DataFrame(boxes, columns=pd.Index(BOXES)),
    )


def _boxes(links: Links) -> dict[tuple[str, str], tuple[float, float]]:
    """(top, bottom) of each node, by its name and side."""
    found = {}
    for side, nodes in links.nodes.groupby("side", sort=False):
        room = 1 - GAP * (len(nodes) - 1)
        total, top = nodes["count"].sum(), 0.0
        for node, count in zip(nodes["node"], nodes["count"], strict=True):
            bottom = top + room * count / total
            found[node, str(side)] = (top, bottom)
            top = bottom + GAP
    return found


def _ribbons(
    links: Links, place: dict[tuple[str, str], tuple[float, float]]
) -> list[tuple[str, str, str, int, float, float, float, float]]:
    """(old class, new class, kind, count, a0, a1, b0, b1); ribbons of a node do not cross."""
    name = dict(zip(links.nodes["node"], links.nodes["class"], strict=True))
    size = dict(
        zip(zip(links.nodes["node"], links.nodes["side"], strict=True), links.nodes["count"],
            strict=True)
    )  # fmt: skip
    rows = list(links.links.itertuples(index=False, name=None))
    rows.sort(key=lambda row: (place[row[0], "before"], place[row[1], "after"]))
    used: dict[tuple[str, str], int] = {}
    found = []
    for source, target, kind, count in rows:
        ends = []
        for end in ((source, "before"), (target, "after")):
            top, bottom = place[end]
            scale = (bottom - top) / size[end]
            begin = used.get(end, 0)
            used[end] = begin + count
            ends += [top + scale * begin, top + scale * used[end]]
        found.append((name[source], name[target], kind, count, *ends))
    return found


def _numbered(frame: pd.DataFrame, pairs: list[tuple[str, str]]) -> pd.DataFrame:
    """With the pair's number in the place of its arms: the figure is told a number to show."""
    ends = zip(frame["from_arm"], frame["to_arm"], strict=True)
    rest = frame.drop(columns=["from_arm", "to_arm"])
    return rest.assign(pair=[pairs.index(both) for both in ends])


def sankey(run: Run) -> Any:
    """How answers went from class to class between two arms, a ribbon a kind of change.

    All pairs are in its data; the parameter `pair` chooses one, by its place in `directions`.
    """
    import altair as alt

    pairs = directions(run)
    if not pairs:
        return None
    ribbons, boxes = (_numbered(frame, pairs) for frame in layout(run))
    chosen = alt.param(name="pair", value=0)
    y = alt.Y("y0:Q", axis=None, scale=alt.Scale(domain=[1, 0], nice=False))
    x = alt.X("t:Q", axis=None, scale=alt.Scale(domain=[0, 1], nice=False))
    told = {"old": "before", "new": "after", "kind": "what", "count": "answers"}
    tips = [alt.Tooltip(f"{name}:N", title=title) for name, title in told.items()]
    kinds = [kind for kind in KINDS if kind in set(ribbons["kind"])]
    ribbons = ribbons.assign(link=range(len(ribbons)))
    band = (
        alt.Chart(ribbons)
        .transform_filter("datum.pair === pair")
        .transform_calculate(t="sequence(0, 1.001, 0.05)")
        .transform_flatten(["t"])
        .transform_calculate(
            y0="datum.a0 + (datum.b0 - datum.a0) * datum.t * datum.t * (3 - 2 * datum.t)",
            y1="datum.a1 + (datum.b1 - datum.a1) * datum.t * datum.t * (3 - 2 * datum.t)",
        )
        .mark_area(orient="vertical", opacity=0.62, line=False)
        .encode(x=x, y=y, y2="y1:Q", detail="link:N", tooltip=tips,
                color=alt.Color("kind:N", title=None,
                    scale=alt.Scale(domain=kinds, range=[KINDS[kind] for kind in kinds])))
    )  # fmt: skip
    sides = boxes.assign(
        x=[0.0 if side == "before" else 0.985 for side in boxes["side"]],
        y0=boxes["top"],
        middle=(boxes["top"] + boxes["bottom"]) / 2,
        label=[f"{named(n)} {c:,}" for n, c in zip(boxes["name"], boxes["count"], strict=True)],
    )
    sides["x2"] = sides["x"] + 0.015
    sides["at"] = [0.025 if side == "before" else 0.975 for side in sides["side"]]
    base = alt.Chart(sides).transform_filter("datum.pair === pair")
    box = base.mark_rect(opacity=0.75).encode(
        x=alt.X("x:Q", scale=alt.Scale(domain=[0, 1])), x2="x2:Q", y=y, y2="bottom:Q",
        color=alt.value(PALETTE[-1]),
    )  # fmt: skip
    left = base.transform_filter("datum.side === 'before'").mark_text(align="left", limit=200)
    right = base.transform_filter("datum.side === 'after'").mark_text(align="right", limit=200)
    words = [mark.encode(x="at:Q", y="middle:Q", text="label:N") for mark in (left, right)]
    return sized(alt.layer(band, box, *words).add_params(chosen), 13)
