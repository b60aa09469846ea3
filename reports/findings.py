"""What the tables say, in a few plain sentences made by rule: no judgment beyond the figures."""

from __future__ import annotations

from statistics import fmean

from reports import escape
from reports.answers import still_failing
from reports.load import Run
from reports.render import p_value, percent, points
from reports.tables import arm_scores, best_arm, versus

LEVEL = 0.05


def findings(run: Run) -> list[str]:
    """Markdown sentences: the best arm, what it gained and how surely, what still fails most."""
    best = best_arm(run)
    said = [_best(run, best)]
    if best != run.baseline:
        parents = dict.fromkeys([run.baseline, _parent(run, best)])
        said += [_gain(run, parent, best) for parent in parents if parent is not None]
    elif len(run.arm_names) > 1:
        said.append("No arm beats the baseline.")
    return [sentence for sentence in [*said, _worst(run, best)] if sentence]


def _best(run: Run, best: str) -> str:
    scores = arm_scores(run, best)
    verb = "scores best:" if len(run.arm_names) > 1 else "is the only arm yet:"
    said = f"**{escape.markdown(best)}** {verb} {percent(fmean(scores))}"
    if len(scores) == 1:
        return f"{said}."
    low, high = percent(min(scores)), percent(max(scores))
    return f"{said}, mean of {len(scores)} seeds ({low} to {high})."


def _parent(run: Run, best: str) -> str | None:
    """The arm that `best` goes on from: the longest other chain that its chain begins with."""
    chain = next(arm for arm in run.arms if arm.arm == best)
    begun = [
        arm
        for arm in run.arms
        if arm.seed == chain.seed
        and arm.arm != best
        and len(arm.stages) < len(chain.stages)
        and arm.stages == chain.stages[: len(arm.stages)]
    ]
    return max(begun, key=lambda arm: len(arm.stages)).arm if begun else None


def _gain(run: Run, parent: str, best: str) -> str:
    found = versus(run, parent, best)
    if found is None:
        return ""
    said = f"Against **{escape.markdown(parent)}** it gains {points(found.delta)} points"
    if found.seeds > 1:
        said += f" (mean of {found.seeds} seeds, sd {100 * found.seed_sd:.1f})"
    span = f"[{points(found.low)}, {points(found.high)}]"
    claim = "beyond noise" if found.p_adjusted < LEVEL else "not beyond noise"
    return f"{said} {span}, {claim} (p {_relation(found.p_adjusted)} after Holm)."


def _relation(p: float) -> str:
    return p_value(p) if p < 0.001 else f"= {p_value(p)}"


def _worst(run: Run, best: str) -> str:
    counts = still_failing(run, best)
    if not counts:
        return "It leaves no answer wrong."
    [(failure, count)] = counts.most_common(1)
    said = f"What still fails most there is *{escape.markdown(failure)}*"
    meaning = escape.markdown(run.meaning(failure), limit=300)
    return f"{said}, {count} of {counts.total()} wrong answers. {meaning}".strip()
