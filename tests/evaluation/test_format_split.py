"""The parts of a difference add up to it, and each answer's difference lies in one part."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from evaluation.compare import compare
from evaluation.format_split import format_split

FORMAT = ("empty", "truncated", "extra_text")


def arm(outcomes: list[str | None], scores=None, samples: int = 1) -> pd.DataFrame:
    """One answer for each outcome, None meaning right; `samples` answers to an example."""
    correct = [outcome is None for outcome in outcomes]
    return pd.DataFrame(
        {
            "example_id": [f"e{i // samples}" for i in range(len(outcomes))],
            "sample": [i % samples for i in range(len(outcomes))],
            "score": scores if scores is not None else np.array(correct, dtype=float),
            "correct": correct,
            "failure": pd.array(outcomes, dtype="str"),
        }
    )


def test_nine_of_fourteen_points_are_format():
    """Of 100: 10 fixed and 1 broken on format, 7 fixed and 2 broken otherwise."""
    a = ["extra_text"] * 6 + ["empty"] * 4 + [None] + ["wrong"] * 7 + [None] * 2
    b = [None] * 10 + ["truncated"] + [None] * 7 + ["wrong"] * 2
    rest = ["wrong"] * 20 + ["empty"] * 10 + [None] * 50
    split = format_split(arm([*a, *rest]), arm([*b, *rest]), FORMAT)
    assert (split.n, split.delta) == (100, pytest.approx(0.14))
    assert split.format == pytest.approx(0.09)
    assert split.capability == pytest.approx(0.05)
    assert split.error == 0.0
    assert (split.format_fixed, split.format_broken) == (10, 1)
    assert (split.capability_fixed, split.capability_broken) == (7, 2)


def test_errors_are_neither():
    split = format_split(arm(["error", "empty", None]), arm([None, "error", "error"]), FORMAT)
    assert (split.error_fixed, split.error_broken, split.format, split.capability) == (1, 1, 0, 0)


def test_a_format_failure_that_turns_into_another_failure_changes_no_right_answer():
    a, b = arm(["empty", "wrong"]), arm(["wrong", "empty"])
    assert format_split(a, b, FORMAT).delta == 0.0


def test_graded_scores_are_split_by_example_in_the_same_way():
    a = arm(["empty", "partial", None], scores=[0.0, 0.4, 1.0])
    b = arm(["partial", None, "partial"], scores=[0.5, 1.0, 0.7])
    split = format_split(a, b, FORMAT, by="score")
    assert split.format == pytest.approx(0.5 / 3)
    assert split.capability == pytest.approx((0.6 - 0.3) / 3)
    assert format_split(a, b, FORMAT).delta == 0.0


@pytest.mark.parametrize("by", ["correct", "score"])
@pytest.mark.parametrize("seed", range(20))
def test_the_parts_are_the_difference_that_the_comparison_tells(seed, by):
    rng = np.random.default_rng(seed)
    classes = [None, "empty", "truncated", "wrong", "error", "extra_text"]
    arms = []
    for _ in "ab":
        outcomes = [classes[i] for i in rng.integers(6, size=240)]
        partial = rng.random(240).round(2)
        scores = [1.0 if o is None else p for o, p in zip(outcomes, partial, strict=True)]
        arms.append(arm(outcomes, scores, samples=4))
    split = format_split(*arms, FORMAT, by=by)
    assert split.delta == pytest.approx(split.format + split.capability + split.error, abs=1e-15)
    means = [frame.groupby("example_id")[by].mean() for frame in arms]
    assert split.n == len(means[0])
    told = compare(*(pd.Series(mean, dtype=float) for mean in means)).delta
    assert split.delta == pytest.approx(told, abs=1e-12)
    fixed = sum(getattr(split, f"{k}_fixed") for k in ("format", "capability", "error"))
    assert fixed == (~arms[0]["correct"] & arms[1]["correct"]).sum()
    back = format_split(arms[1], arms[0], FORMAT, by=by)
    assert back.format == pytest.approx(-split.format)
    assert back.format_fixed == split.format_broken


def test_the_order_of_rows_and_classes_that_nobody_named_play_no_part():
    a, b = arm(["empty", "wrong", None]), arm([None, None, "empty"])
    mixed = format_split(a.sample(frac=1, random_state=1), b, list(FORMAT))
    assert mixed == format_split(a, b, FORMAT)
    none = format_split(a, b, ())
    assert none.format == 0 and none.delta == mixed.delta
    assert dataclasses.astuple(none)[-6:-2] == (0, 0, 2, 1)


def test_arms_without_a_common_answer_are_refused():
    with pytest.raises(ValueError, match="share no answer"):
        format_split(arm([None]), arm([None]).assign(example_id="other"), FORMAT)
