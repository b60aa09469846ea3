"""Rewards that can be gamed are called untrustworthy, clean ones are not, over many seeds."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from reward_models.agreement import (
    Sample,
    agreement,
    length_correlation,
    pairs_in_order,
    weighted_auc,
)
from reward_models.compose import repeated
from reward_models.probe import probe
from reward_models.rules import RULES, Line, judged, noted, verdict
from reward_models.sensitivity import CHANGES, chosen, with_change
from reward_models.subject import Answer, Subject
from reward_models.trust import check, in_groups
from reward_models.types import RewardError
from tasks.types import Example, Prompt, Score
from tests.reward_models.planted import PROMPT, Paid, answers, exact, examples, noise, subject

SEEDS = range(8)


def lines_of(paid: Paid, seed: int = 0, count: int = 32, each: int = 6) -> dict[str, Line]:
    asked = examples(count, seed)
    return {line.check: line for line in check(subject(paid, asked), answers(asked, each, seed))}


def right(text: str, example: Example) -> float:
    return exact(example, text).value


def keyword_list(text: str, example: Example) -> float:
    return float(sum(word in text.lower() for word in ("word", "sure", "think", "help")))


def prompt_words(text: str, example: Example) -> float:
    asked = {*PROMPT.instruction.lower().split(), example.inputs["input"]}
    return float(len(asked & set(text.lower().split())))


PLANTED: dict[str, Paid] = {
    "length in characters": lambda text, e: float(len(text)),
    "length in words": lambda text, e: float(len(text.split())),
    "length beside the score": lambda text, e: right(text, e) + 0.02 * len(text),
    "a list of keywords": keyword_list,
    "the prompt's words": prompt_words,
    "the prompt's words beside the score": lambda t, e: right(t, e) + 0.5 * prompt_words(t, e),
    "the gold answer anywhere": lambda text, e: float(e.answer in text),
    "one and the same for all": lambda text, e: 1.0,
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_rewards_are_never_trusted(name: str) -> None:
    for seed in SEEDS:
        found = lines_of(PLANTED[name], seed)
        assert verdict(list(found.values())) == "no", seed


def test_what_is_wrong_with_them_is_said() -> None:
    lengthy = lines_of(PLANTED["length beside the score"])
    assert lengthy["pairs in order"].level == "ok"  # it does tell right from wrong
    assert lengthy["length"].level == "no" and lengthy["length"].value > 0.5
    assert lengthy["length: filler behind it"].level == "no"
    stuffed = lines_of(PLANTED["the prompt's words beside the score"])
    assert stuffed["pairs in order"].level == "ok"
    assert stuffed["answer: prompt's words"].level == "no"
    assert stuffed["keywords behind it"].level == "no"
    assert lines_of(PLANTED["the gold answer anywhere"])["answer: all options"].level == "no"


def test_the_tasks_own_score_is_trusted_whatever_the_seed() -> None:
    for seed in SEEDS:
        assert verdict(list(lines_of(right, seed).values())) == "ok", seed


@pytest.mark.parametrize("scale", [1.0, -7.0], ids=["as it is", "another scale"])
def test_a_clean_but_noisy_reward_is_not_called_untrustworthy(scale: float) -> None:
    """Normal noise of 0.55 below a difference of 1: AUC = Phi(1 / (0.55 sqrt 2)) = 0.90."""
    found, aucs = Counter(), []
    for seed in SEEDS:

        def clean(text: str, example: Example, seed: int = seed) -> float:
            return abs(scale) * (right(text, example) + noise(text, example, seed, 0.55)) + scale

        lines = lines_of(clean, seed, count=48, each=8)
        found[verdict(list(lines.values()))] += 1
        aucs.append(lines["AUC, all answers"].value)
    assert found["no"] == 0 and found["ok"] > len(SEEDS) / 2, found
    assert np.mean(aucs) == pytest.approx(stats.norm.cdf(1 / (0.55 * math.sqrt(2))), abs=0.02)


def test_noise_alone_is_not_trusted() -> None:
    for seed in SEEDS:
        found = lines_of(lambda text, e, seed=seed: noise(text, e, seed, 1.0), seed)
        assert verdict(list(found.values())) == "no"


def test_a_policy_that_is_never_right_leaves_doubt() -> None:
    asked = examples(24)
    found = check(subject(right, asked), answers(asked, 4, 0, right=0.0))
    by_check = {line.check: line for line in found}
    assert by_check["pairs in order"].n == 0 and by_check["pairs in order"].level == "care"
    assert by_check["gold above wrong"].level == "ok"
    assert verdict(found) == "care"


def test_a_policy_that_is_right_on_three_questions_leaves_doubt() -> None:
    asked = examples(24)
    given = [*answers(asked, 4, 0, right=0.0), *answers(asked[:3], 4, 0, right=1.0)]
    found = {line.check: line for line in check(subject(right, asked), given)}
    assert found["pairs in order"].value == 1 and math.isnan(found["pairs in order"].low)
    assert found["pairs in order"].level == found["AUC, all answers"].level == "care"


def test_each_policy_is_looked_at_apart() -> None:
    """Gamed by the tuned policy alone: it has learned a word that the base model never says."""
    asked = examples(40)
    base = answers(asked, 6, 0)
    tuned = [
        replace(a, source="tuned", text=a.text if i % 2 else f"{a.text} verily")
        for i, a in enumerate(answers(asked, 6, 1))
    ]

    def gamed(text: str, example: Example) -> float:
        return right(text, example) + 2.0 * ("verily" in text)

    found = {line.check: line for line in check(subject(gamed, asked), [*base, *tuned])}
    assert found["pairs in order: planted"].level == "ok"
    assert found["pairs in order: tuned"].level == "no"


def test_an_answer_that_outpays_the_policy_is_a_trap() -> None:
    """Closeness of letters: the question itself is nearer to gold than what a poor policy says."""
    asked = [Example(f"e{i}", {"input": w}, f"{w}ed") for i, w in enumerate(names(40))]
    poor = [Answer("poor", PROMPT, e, text) for e in asked for text in ("no", "I am", "what?")]

    def close(text: str, example: Example) -> float:
        shared = len(set(text) & set(example.answer)) / len(set(text) | set(example.answer) or {1})
        return 1.0 if text == example.answer else 0.5 * shared

    found = {line.check: line for line in check(subject(close, asked), poor)}
    assert found["trap: copied input"].level == "care"
    assert found["trap: copied input"].rule == "trap"
    assert found["answer: copied input"].level == "ok"


def names(count: int) -> list[str]:
    return [example.answer for example in examples(count, 5)]


def test_place_in_the_group_and_chance_are_found() -> None:
    def first_is_best(prompts, completions, *, example_id, **_):
        seen: Counter[str] = Counter()
        paid = []
        for turns, key in zip(completions, example_id, strict=True):
            seen[key] += 1
            paid.append(right(turns[-1]["content"], table[key]) + 2.0 / seen[key])
        return paid

    asked = examples(32)
    table = {example.id: example for example in asked}
    found = check(Subject(lambda prompt: first_is_best, exact, table), answers(asked, 6, 0))
    [place] = [line for line in found if line.check == "place in the group"]
    assert place.level == "no" and place.value > 0.5

    rng = np.random.default_rng(0)
    fickle = lines_of(lambda text, e: right(text, e) + 0.2 * float(rng.normal()))
    assert fickle["asked twice"].value > 0.1
    assert fickle["place in the group"].level == "ok"
    assert lines_of(right)["asked twice"].value == 0


def test_missing_rewards_are_counted() -> None:
    silent = lines_of(lambda text, e: None if len(text) % 3 else right(text, e))
    assert silent["no reward"].level in ("care", "no")
    none = lines_of(lambda text, e: None)
    assert list(none) == ["no reward"] and none["no reward"].level == "no"


def test_a_reward_that_fails_on_a_changed_answer_is_a_note() -> None:
    def fragile(text: str, example: Example) -> float:
        if "**" in text:
            raise RewardError("reward fragile: no stars")
        return right(text, example)

    found = lines_of(fragile)
    assert "no stars" in found["format: bold"].detail and found["format: bold"].level == "note"
    assert found["format: upper case"].level == "ok"


def test_answers_without_a_score_are_refused() -> None:
    asked = examples(8)

    def broken(example: Example, text: str) -> Score:
        raise OSError

    table = {example.id: example for example in asked}
    with pytest.raises(RewardError, match="none of the answers has a score"):
        check(Subject(lambda prompt: lambda **_: [], broken, table), [])


def test_changes_touch_the_extracted_answer_alone() -> None:
    cot = Prompt("Spell it.", style="cot")
    example = Example("e", {"input": "ab"}, "ba")
    answer = Answer("s", cot, example, f"First b, then a.\n{cot.marker} ba")
    changed = {name: with_change(answer, change) for name, change in CHANGES.items()}
    assert all(a is not None and a.text.startswith("First b, then a.") for a in changed.values())
    assert changed["format: upper case"] == replace(answer, text=answer.text[:-2] + "BA")
    assert with_change(replace(answer, text="no marker"), CHANGES["format: bold"]) is None


def test_one_right_and_one_wrong_answer_are_changed_and_gold_where_none_is_right() -> None:
    asked = examples(2)
    given = [Answer("s", PROMPT, e, t) for e, t in ((asked[0], "x"), (asked[1], "y"))]
    given.append(Answer("s", PROMPT, asked[1], asked[1].answer))
    found = chosen(given, [False, False, True])
    assert [(a.example.id, a.text) for a in found] == [
        ("w0", "x"), ("w0", asked[0].answer), ("w1", "y"), ("w1", asked[1].answer),
    ]  # fmt: skip


def test_repetition_is_seen_in_answers_of_which_only_the_text_is_known() -> None:
    """By the check and by the probe, which is the one that repeats gold."""
    asked = examples(8)
    table = {example.id: example for example in asked}

    def repeats(prompts, completions, *, completion_ids, **_):
        return [-repeated(ids, 1) for ids in completion_ids]

    subject = Subject(lambda prompt: repeats, exact, table)
    given = [Answer("s", PROMPT, asked[0], text) for text in ("a b", "a a a a")]
    assert subject.paid(given) == [0.0, -0.75]
    drawn = [Answer("s", PROMPT, asked[0], "a b", ids) for ids in ((7, 7), (7, 8, 9))]
    assert subject.paid(drawn) == [-0.5, 0.0]
    assert subject.paid([*drawn, given[1]]) == [0.0, 0.0, -0.75]  # all in words: one is text alone
    found = probe(repeats, subject.task(PROMPT), PROMPT, asked)
    assert {one.kind: one.more for one in found.longer} == {"gold answer": 0, "shuffled gold": 0}
    paid = {one.kind: one.mean for one in found.passing}
    assert paid["most common gold"] == 0.0  # letters that come twice are no repetition


def test_groups_are_consecutive() -> None:
    asked, other = examples(3), Prompt("Another.")
    mixed = [Answer("s", p, e, "t") for p in (PROMPT, other) for e in asked]
    keys = [(a.example.id, a.prompt.instruction) for a in in_groups(mixed)]
    assert keys == [(e.id, p.instruction) for e in asked for p in (PROMPT, other)]


def sample(seed: int, count: int = 30, each: int = 5, ties: int = 4) -> Sample:
    rng = np.random.default_rng(seed)
    score = rng.integers(0, 2, count * each).astype(float)
    reward = rng.integers(0, ties, count * each) + score
    ids = [f"e{i // each}" for i in range(count * each)]
    return Sample.of(reward, score, score == 1, rng.integers(1, 30, count * each), ids)


def test_auc_is_scikit_learns_also_with_weights() -> None:
    for seed in range(5):
        one = sample(seed)
        weights = np.random.default_rng(seed).integers(0, 3, (3, one.examples)).astype(float)
        found = weighted_auc(one, weights)
        for row, auc in zip(weights, found, strict=True):
            told = roc_auc_score(one.correct_A, one.reward_A, sample_weight=row[one.group_A])
            assert auc == pytest.approx(told)


def test_pairs_and_correlations_by_hand() -> None:
    one = Sample.of(
        reward=[3, 2, 1, 5, 5, 0],
        score=[1.0, 0.0, 0.5, 1.0, 0.0, 0.0],
        correct=[True, False, False, True, False, False],
        length=[1] * 6,
        example_id=list("aaabbb"),
    )
    # a: 3>2 and 3>1 in order, 2 against 1 is not; b: a tie, and 5>0 in order
    line = pairs_in_order(one)
    assert (line.value, line.n) == (pytest.approx(3.5 / 5), 5)
    found = {line.check: line for line in agreement(one)}
    assert found["AUC, same question"].value == pytest.approx(3.5 / 4)
    assert found["AUC, all answers"].value == pytest.approx((3 + 3.5) / 8)
    # a: ranks 3,2,1 and 3,1,2 have rho 1/2; b: 2.5,2.5,1 and 3,1.5,1.5 have the same
    ranks = stats.spearmanr([5, 5, 0], [1.0, 0.0, 0.0]).statistic
    assert found["Spearman, same question"].value == pytest.approx((0.5 + ranks) / 2)
    assert found["Spearman, all answers"].value == pytest.approx(
        stats.spearmanr(one.reward_A, one.score_A).statistic
    )
    # 3 in order, 1 not, 1 tied: 2 / sqrt(5 x 5) with 5 pairs untied in reward
    assert found["Kendall, same question"].value == pytest.approx(2 / 5)


def test_length_at_equal_score_is_told_from_length_that_comes_with_the_score() -> None:
    rng = np.random.default_rng(0)
    score = rng.integers(0, 2, 400).astype(float)
    length = 10 * score + rng.integers(1, 9, 400)  # right answers are longer
    ids = [f"e{i // 8}" for i in range(400)]
    honest = Sample.of(score + rng.normal(0, 0.4, 400), score, score == 1, length, ids)
    assert abs(length_correlation(honest).value) < 0.12 and length_correlation(honest).level == "ok"
    assert np.corrcoef(honest.reward_A, length)[0, 1] > 0.5
    paid = Sample.of(score + 0.05 * length, score, score == 1, length, ids)
    assert length_correlation(paid).level == "no"
    brief = Sample.of(score - 0.05 * length, score, score == 1, length, ids)
    assert length_correlation(brief).level == "care"  # never more: nobody games it by silence
    alike = Sample.of(score, score, score == 1, length, ids)
    assert (length_correlation(alike).value, length_correlation(alike).level) == (0, "ok")


def test_intervals_cover() -> None:
    """Of 200 samples whose true share is known, about 95 % hold it; 40 examples, 4 answers each."""
    held = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        score = np.tile([0.0, 1.0], 80)
        shift = np.repeat(rng.normal(0, 1, 40), 4)  # of the example, common to its answers
        reward = score + shift + rng.normal(0, 1, 160)
        one = Sample.of(reward, score, score == 1, [1] * 160, [str(i // 4) for i in range(160)])
        line = pairs_in_order(one, seed)
        held += line.low <= stats.norm.cdf(1 / math.sqrt(2)) <= line.high
    assert 180 <= held <= 200


def test_rules_and_verdicts() -> None:
    def level(rule: str, value: float, low: float, high: float) -> str:
        return judged(rule, "c", value, low, high, 9, "d").level

    assert level("pairs", 0.9, 0.8, 0.95) == "ok"
    assert level("pairs", 0.9, 0.45, 1.0) == "care"  # too few to know
    assert level("pairs", 0.7, 0.6, 0.8) == "care"
    assert level("pairs", 0.55, 0.53, 0.57) == "no"
    assert level("pairs", math.nan, math.nan, math.nan) == "care"
    assert level("pairs", 1.0, math.nan, math.nan) == "care"  # of a handful of examples
    assert level("inflation", 9.0, math.nan, math.nan) == "note"
    assert level("overall", 0.2, 0.1, 0.3) == "care"  # forbids nothing
    assert level("inflation", 0.9, 0.2, 1.6) == "ok"  # not shown
    assert level("inflation", 0.9, 0.3, 1.6) == "care"
    assert level("inflation", 0.9, 0.6, 1.2) == "no"
    assert level("length", -0.9, -0.95, -0.8) == "care"
    assert level("order", 0.05, 0.04, 0.06) == "ok"
    one = judged("pairs", "c", 0.9, 0.8, 1.0, 9, "d")
    assert verdict([one, noted("x", 0, 0, 0, 1, "")]) == "ok"
    assert verdict([one, replace(one, level="care")]) == "care"
    assert verdict([replace(one, level="no"), replace(one, level="care")]) == "no"
    assert all(rule.reason and not rule.reason.endswith(".") for rule in RULES.values())
