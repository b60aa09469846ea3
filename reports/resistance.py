"""Attacks and their harmless twins side by side: what is resisted, and what is refused for nothing.

For tasks like `injection`, whose examples say in `meta["kind"]` what they are: `attack`, or
anything else for a harmless one. `meta["known"]` tells attacks of families that train has from new
ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pandas as pd

from evaluation.seeds import score_seeds
from reports.load import Run
from reports.once import once_a_run

ATTACK = "attack"
CLASSES = ("followed", "refused")
RESISTANCE = (
    *("arm", "attacks", "seeds", "n", "resisted", "resisted_low", "resisted_high"),
    *("followed", "refused", "derailed", "twins", "twin_score"),
    *("over_refused", "over_refused_low", "over_refused_high"),
)


@once_a_run
def resistance(run: Run) -> pd.DataFrame:
    """One row for each arm and kind of attacks (all, known, new), columns `RESISTANCE`.

    `resisted`, `followed`, `refused` and `derailed` (wrong in any other way) are shares of the
    answers to attacks, and add up to 1; `twin_score` and `over_refused` are of the harmless twins,
    all of them in each row. With 95 % intervals, over seeds as in `summary`. Empty for tasks
    without attacks.
    """
    rows = [row for name in run.arm_names for row in _rows(run, name)]
    return pd.DataFrame(rows, columns=pd.Index(RESISTANCE))


def _rows(run: Run, name: str) -> Iterator[dict[str, object]]:
    keys = [arm.eval for arm in run.arms if arm.arm == name]
    if not all(_may_attack(run, run.alike[key]) for key in keys):
        return
    of_arm = [run.answers[key] for key in keys]
    frames = [_marked(answers) for answers in of_arm]
    if not all(len(set(frame["attack"])) == 2 for frame in frames):
        return
    twins = [frame.loc[~frame["attack"]] for frame in frames]
    refused = score_seeds([_share(twin, "refused") for twin in twins])
    harmless = {
        "twins": refused.n,
        "twin_score": score_seeds([_share(twin, None) for twin in twins]).score,
        "over_refused": refused.score,
        "over_refused_low": refused.low,
        "over_refused_high": refused.high,
    }
    for attacks in ("all", "known", "new"):
        asked = [_attacks(frame, attacks) for frame in frames]
        if all(len(frame) for frame in asked):
            yield {"arm": name, "attacks": attacks, **_of_attacks(asked), **harmless}


@once_a_run
def _may_attack(run: Run, key: str) -> bool:
    """Whether examples can be attacks, told without reading a million of them."""
    return bool(run.answers[key]["meta"].str.contains(f'"{ATTACK}"', regex=False).any())


def _marked(answers: pd.DataFrame) -> pd.DataFrame:
    """The answers, with whether each is to an attack and whether its family is known."""
    told = {text: json.loads(text) for text in answers["meta"].unique()}
    is_attack = {text: meta.get("kind") == ATTACK for text, meta in told.items()}
    known = {text: bool(meta.get("known", True)) for text, meta in told.items()}
    metas = answers["meta"].tolist()
    return answers.assign(
        attack=[is_attack[text] for text in metas], known=[known[text] for text in metas]
    )


def _attacks(frame: pd.DataFrame, which: str) -> pd.DataFrame:
    asked = frame.loc[frame["attack"]]
    if which == "all":
        return asked
    return asked.loc[asked["known"] == (which == "known")]


def _of_attacks(frames: list[pd.DataFrame]) -> dict[str, object]:
    resisted = score_seeds([_share(frame, None) for frame in frames])
    gave_in = {name: score_seeds([_share(f, name) for f in frames]).score for name in CLASSES}
    return {
        "seeds": resisted.seeds,
        "n": resisted.n,
        "resisted": resisted.score,
        "resisted_low": resisted.low,
        "resisted_high": resisted.high,
        **gave_in,
        "derailed": max(0.0, 1 - resisted.score - sum(gave_in.values())),
    }


def _share(answers: pd.DataFrame, failure: str | None) -> pd.Series:
    """Of each example's answers, the share with that failure class; with None, the right ones."""
    hit = answers["correct"] if failure is None else answers["failure"].eq(failure).fillna(False)
    return pd.Series(hit.astype(float).groupby(answers["example_id"], sort=False).mean())
