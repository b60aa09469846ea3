"""Was it the weights, the prompt, or the two together? For arms whose four cells are evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from statistics import fmean

import pandas as pd

from evaluation.attribution import Attribution, Scores, attribute
from evaluation.compare import Contrast
from reports.load import Arm, Cells, ReportError, Run
from reports.once import once_a_run
from reports.render import percent, points

ATTRIBUTION = (
    *("arm", "seed", "n", "base", "tuned_prompt", "tuned_weights", "tuned_both"),
    *("weights_effect", "weights_low", "weights_high", "weights_p"),
    *("prompt_effect", "prompt_low", "prompt_high", "prompt_p"),
    *("interaction_effect", "interaction_low", "interaction_high", "interaction_p"),
)


@once_a_run
def attributions(run: Run) -> dict[Arm, Attribution]:
    """The effects behind every arm whose cells are evaluated.

    Raises ReportError when the cells of an arm answered different examples.
    """
    found: dict[Arm, Attribution] = {}
    for arm in run.arms:
        if arm.cells is not None:
            try:
                found[arm] = attribute(**_scores(run, arm.cells))
            except ValueError as error:
                raise ReportError(f"{run.path}: {arm.arm}, seed {arm.seed}: {error}") from error
    return found


def attribution(run: Run) -> pd.DataFrame:
    """One row for each arm with cells and each seed, columns `ATTRIBUTION`; in score units.

    First the scores of the four cells, then main effects and interaction as defined in
    `evaluation.attribution`, each with its 95 % interval and p. No p is adjusted.
    """
    rows = [_row(run, arm, effects) for arm, effects in attributions(run).items()]
    return pd.DataFrame(rows, columns=pd.Index(ATTRIBUTION))


def attribution_in_words(run: Run) -> dict[str, str]:
    """By arm: one sentence that says what the figures say, and what they cannot tell."""
    by_name: dict[str, list[Arm]] = {}
    for arm in attributions(run):
        by_name.setdefault(arm.arm, []).append(arm)
    return {name: _sentence(run, arms) for name, arms in by_name.items()}


def _scores(run: Run, cells: Cells) -> dict[str, Scores]:
    """The scores of each cell, by the name `attribute` has for it."""
    return {cell: run.scores[key] for cell, key in asdict(cells).items()}


def _means(run: Run, arm: Arm) -> dict[str, float]:
    assert arm.cells is not None  # `attributions` has no others
    return {cell: float(scores.mean()) for cell, scores in _scores(run, arm.cells).items()}


def _row(run: Run, arm: Arm, effects: Attribution) -> dict[str, object]:
    means = _means(run, arm)
    row: dict[str, object] = {
        "arm": arm.arm,
        "seed": arm.seed,
        "n": effects.weights.n,
        "base": means["base"],
        "tuned_prompt": means["prompt"],
        "tuned_weights": means["weights"],
        "tuned_both": means["both"],
    }
    for effect in fields(effects):
        found: Contrast = getattr(effects, effect.name)
        row[f"{effect.name}_effect"] = found.value
        row[f"{effect.name}_low"], row[f"{effect.name}_high"] = found.low, found.high
        row[f"{effect.name}_p"] = found.p
    return row


def _sentence(run: Run, arms: Sequence[Arm]) -> str:
    """What is said of one arm over its seeds."""
    found = [attributions(run)[arm] for arm in arms]
    means = [_means(run, arm) for arm in arms]
    base, both = (percent(fmean(mean[cell] for mean in means)) for cell in ("base", "both"))
    seeds = f" (means of {len(arms)} seeds)" if len(arms) > 1 else ""
    moved = {what: any(_moved(arm, what) for arm in arms) for what in ("weights", "prompt")}
    said = [
        f"from {base} with neither tuned to {both} with both{seeds}",
        _main("weights", [a.weights for a in found], moved["weights"]),
        _main("prompt", [a.prompt for a in found], moved["prompt"]),
        *([_together([a.interaction for a in found])] if all(moved.values()) else []),
    ]
    return "; ".join(said) + "."


def _moved(arm: Arm, what: str) -> bool:
    """Whether the chain ended with other weights, or another prompt, than it began with."""
    return arm.cells is not None and arm.cells.base != getattr(arm.cells, what)


def _main(what: str, found: Sequence[Contrast], moved: bool) -> str:
    if not moved:
        return f"the chain kept the {what} it began with"
    if (doubt := _doubt(found)) is not None:
        return f"whether tuning the {what} changes the score cannot be told ({doubt})"
    other = "prompt" if what == "weights" else "weights"
    said = f"tuning the {what} changes the score by {_span(found)}"
    return f"{said}, averaged over base and tuned {other}"


def _together(found: Sequence[Contrast]) -> str:
    said = "than the sum of what each brings alone"
    if (doubt := _doubt(found)) is not None:
        return f"whether both bring more or less {said} cannot be told (interaction {doubt})"
    more = "more" if found[0].sign > 0 else "less"
    return f"both bring {more} {said} (interaction {_span(found)})"


def _doubt(found: Sequence[Contrast]) -> str | None:
    """The figures and why they are no answer; None where every seed gives the same one."""
    signs = [one.sign for one in found]
    if len(found) == 1:
        return None if signs[0] else f"{_span(found)}, which covers 0"
    if unsure := signs.count(0):
        return f"{_span(found)}; the interval covers 0 at {unsure} of them"
    return None if len(set(signs)) == 1 else f"{_span(found)}, seeds contradict each other"


def _span(found: Sequence[Contrast]) -> str:
    """One seed's figure with its interval, or the mean of several with their lowest and highest."""
    values = [one.value for one in found]
    if len(found) == 1:
        return f"{points(values[0])} points [{points(found[0].low)}, {points(found[0].high)}]"
    return (
        f"{points(fmean(values))} points (mean of {len(values)} seeds, "
        f"{points(min(values))} to {points(max(values))})"
    )
