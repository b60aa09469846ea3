"""A planted subgroup is found, noise is not, and what is said of it can be counted by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from evaluation.discovery import ANY, discover
from tests.evaluation.planted import answered, questions

FIVE_TIMES = 0.1, 0.5


def negated(examples: pd.DataFrame) -> np.ndarray:
    return np.array([meta["negated"] for meta in examples["meta"]])


def planted(n: int, seed: int, rates=FIVE_TIMES) -> pd.DataFrame:
    examples = questions(n, seed)
    return answered(examples, np.where(negated(examples), rates[1], rates[0]), seed)


def of_all(answers: pd.DataFrame) -> list[str]:
    return [group.name for group in discover(answers) if group.target == ANY]


def test_a_subgroup_that_fails_five_times_as_often_is_recovered():
    """8 % of 1,000 examples: found, and nothing else beside it, in at least 19 of 20 draws."""
    found = [of_all(planted(1000, seed)) for seed in range(20)]
    assert sum(names == ["negated = True"] for names in found) >= 19


@pytest.mark.slow
@pytest.mark.parametrize(("n", "least"), [(1000, 0.5), (2000, 0.8)])
def test_fewer_failures_need_more_examples(n, least):
    found = [of_all(planted(n, seed, (0.05, 0.25))) for seed in range(20)]
    assert np.mean([names == ["negated = True"] for names in found]) >= least


def test_the_figures_are_those_of_the_records():
    answers = planted(1000, 3)
    [group] = [g for g in discover(answers) if g.target == ANY]
    inside = answers["example_id"].isin(group.examples)
    assert set(answers.loc[inside, "meta"].str.contains('"negated": true')) == {True}
    assert answers["meta"].str.contains('"negated": true').sum() == group.n == inside.sum()
    wrong = ~answers["correct"]
    assert group.failures == (wrong & inside).sum()
    assert group.rate == pytest.approx(wrong[inside].mean())
    assert group.rate_outside == pytest.approx(wrong[~inside].mean())
    assert group.lift == pytest.approx(wrong[inside].mean() / wrong.mean())
    assert group.share == pytest.approx((wrong & inside).sum() / wrong.sum())
    assert group.found.n + group.held.n == group.n
    assert group.found.failures + group.held.failures == group.failures


def test_two_conditions_are_named_where_only_both_together_matter():
    examples = questions(3000, 5)
    both = np.array([m["formal"] and m["source"] in "a" for m in examples["meta"]])
    found = of_all(answered(examples, np.where(both, 0.6, 0.1), 5))
    assert found == ["source = a and formal = True"]


def test_one_cause_is_one_subgroup_however_many_conditions_go_with_it():
    examples = questions(2000, 6)
    rng = np.random.default_rng(6)
    for meta, is_negated in zip(examples["meta"], negated(examples), strict=True):
        meta |= {"twin": bool(is_negated != (rng.random() < 0.01)), "same": bool(is_negated)}
        meta |= {"wide": bool(is_negated or rng.random() < 0.15)}
    rates = np.where(negated(examples), 0.5, 0.1)
    assert of_all(answered(examples, rates, 6)) == ["negated = True"]


def test_a_class_of_failures_has_its_own_subgroups():
    answers = answered(questions(2000, 7), 0.3, 7)
    negative = answers["meta"].str.contains('"negated": true') & ~answers["correct"]
    answers.loc[negative, "failure"] = "odd"
    found = discover(answers)
    assert [(g.target, g.name) for g in found] == [("odd", "negated = True")]


def test_neither_the_order_of_rows_nor_a_second_look_changes_anything():
    answers = planted(1000, 1)
    shuffled = answers.sample(frac=1, random_state=0).reset_index(drop=True)
    assert discover(answers) == discover(shuffled) != []


def noisy(seed: int, n: int = 400) -> pd.DataFrame:
    return answered(questions(n, seed), 0.3, seed)


def test_noise_is_not_reported():
    assert sum(bool(discover(noisy(seed))) for seed in range(40)) <= 2


@pytest.mark.slow
def test_noise_is_not_reported_in_95_of_100_draws():
    assert sum(bool(discover(noisy(seed))) for seed in range(200)) <= 10


def test_many_answers_to_hard_examples_are_no_subgroup():
    """16 samples an example that mostly agree: 200 cases, not 3,200."""
    reported = 0
    for seed in range(20):
        examples = questions(200, seed)
        rng = np.random.default_rng(seed)
        reported += bool(discover(answered(examples, rng.beta(0.3, 0.5, 200), seed, samples=16)))
    assert reported <= 2


def test_too_little_to_say_anything():
    assert discover(planted(12, 0)) == []
    assert discover(answered(questions(100, 0), 0.0, 0)) == []
    assert discover(answered(questions(100, 0), 1.0, 0)) == []
