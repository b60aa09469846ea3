"""Figures of how arms learned: dev score against cost, and the training steps."""

from __future__ import annotations

from typing import Any

from reports.cost import curves
from reports.efficiency import dev_curves
from reports.load import Run
from reports.plotting import by_arm, is_trained, named, percent_axis, sized, tips

AXES = {"rollouts": "rollouts", "completion_tokens": "tokens written", "seconds": "seconds"}
HEALTH = {
    "reward": "Reward",
    "score": "Task score of rollouts",
    "kl": "KL to the start",
    "entropy": "Entropy",
    "completion_tokens": "Tokens in an answer",
    "dead_groups": "Groups with nothing to learn",
    "clipped": "Answers cut short",
    "grad_norm": "Gradient norm",
}
MOST_STEPS = 400
SMOOTH = 5  # steps that a line of training is averaged over


def learning(run: Run, axis: str = "rollouts") -> Any:
    """Best dev score so far against what it had cost: steps, and the single measurements."""
    import altair as alt

    found: Any = dev_curves(run)
    found = found.loc[found[axis].notna()].reset_index(drop=True)
    if found.empty or not found[axis].max() > 0:
        return None
    columns = ["arm", "seed", "method", "step", "dev_score", "best_dev", axis]
    shown = found.loc[:, columns].assign(arm=found["arm"].map(named))
    x = alt.X(f"{axis}:Q", title=AXES[axis], axis=alt.Axis(grid=False, tickCount=6))
    y = alt.Y("best_dev:Q", title="dev score", axis=percent_axis(), scale=alt.Scale(zero=False))
    base = alt.Chart(shown).encode(x=x, detail="seed:N")
    line = base.mark_line(interpolate="step-after", strokeWidth=2, opacity=0.85)
    points = base.mark_point(filled=True, size=34, opacity=0.75)
    styled = by_arm(run, shape=False, dash=True)
    return sized(
        alt.layer(
            line.encode(y=y, **styled),
            points.encode(y="dev_score:Q", **by_arm(run), tooltip=tips(shown)),
        ),
        9,
    )


def training(run: Run, name: str) -> Any:
    """One figure of the training steps, `name` as in metrics.jsonl: a thin line a seed, a thick one
    for the mean over seeds and `SMOOTH` steps."""
    import altair as alt

    table: Any = curves(run)
    trained = {key for key in run.stages if is_trained(run, key)}
    found = table.loc[(table["name"] == name) & table["stage"].isin(trained)]
    found = found.loc[found["value"].notna()].drop_duplicates(["stage", "step"])
    if found.empty:
        return None
    shown = found.loc[:, ["arm", "seed", "stage", "step", "value"]]
    shown = shown.assign(arm=shown["arm"].map(named)).reset_index(drop=True)
    mean = shown.groupby(["arm", "step"])["value"].mean().reset_index()
    rolled = mean.groupby("arm", sort=False)["value"].rolling(SMOOTH, min_periods=1, center=True)
    mean["smooth"] = rolled.mean().reset_index(level=0, drop=True)
    stride = -(-int(shown["step"].max()) // MOST_STEPS) or 1  # what a line cannot show is left out
    shown, mean = (frame.loc[frame["step"] % stride == 0] for frame in (shown, mean))
    x = alt.X("step:Q", title="step", axis=alt.Axis(grid=False, tickCount=5))
    y = {"title": None, "scale": alt.Scale(zero=False), "axis": alt.Axis(tickCount=4)}
    styled = by_arm(run, shape=False, dash=True, legend=False)
    each = alt.Chart(shown).mark_line(strokeWidth=1, opacity=0.22)
    main = alt.Chart(mean).mark_line(strokeWidth=2)
    chart = alt.layer(
        each.encode(x=x, y=alt.Y("value:Q", **y), detail="stage:N", color=styled["color"]),
        main.encode(x=x, y=alt.Y("smooth:Q", **y), tooltip=tips(mean), **styled),
    )
    return sized(chart, 5).properties(title=HEALTH[name])
