"""reasoning:NAME: every generator loads, its gold is right, no text breaks or robs its scorer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("reasoning_gym")

from tasks.dealt import features
from tasks.known.reasoning import Reasoning
from tasks.known.reasoning_questions import SLOW, generators, read_name
from tasks.known.reasoning_scores import guarded_eval, guarded_parse
from tasks.load import load_task
from tasks.overlap import find_overlaps
from tasks.types import SPLITS, TaskError
from tests.tasks.known.passing import assert_checks, assert_class, assert_survives

WITHOUT_GOLD = {"boxnet", "rush_hour"}
GARBAGE = ("garbage", "\ud800", "[[[[", "1,2,3\n4", "{}", "9" * 5_000, "nan", "-inf", "<|im_end|>")
NAMES = [
    pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in generators()
]


def test_there_are_more_than_ninety():
    assert len(set(generators()) - WITHOUT_GOLD - set(SLOW)) >= 90


@pytest.mark.parametrize("name", NAMES)
def test_the_gold_is_right_and_garbage_is_not(name):
    task = load_task(f"reasoning:{name},size=20")
    examples = [example for split in SPLITS for example in task.split(split)]
    assert len(examples) >= 12 and len({e.id for e in examples}) == len(examples)
    assert find_overlaps({split: task.split(split) for split in SPLITS}) == []
    for example in examples:
        if name not in WITHOUT_GOLD:
            assert task.score(example, example.answer).correct, example
        assert all(isinstance(v, str | int | float | bool) for v in example.meta.values())
    for text in GARBAGE:
        score = task.score(examples[0], text)
        assert not score.correct and score.failure in task.failure_classes and score.feedback


@pytest.fixture(scope="module")
def sums():
    return assert_checks("reasoning:chain_sum,max_terms=3")


def test_right_wrong_and_malformed(sums):
    example = sums.split("test")[0]
    assert_class(sums, example, f" {example.answer}\n", None)
    assert_class(sums, example, f"It is {example.answer}.", "extra_text")
    assert_class(sums, example, "no number", "wrong")
    assert_class(sums, example, "", "empty")
    assert {"num_terms", "num_digits"} <= set(example.meta)


def test_hostile_texts(sums):
    assert_survives(sums, sums.split("test")[0], examples=10)


def test_partial_scores_are_kept():
    task = Reasoning("reasoning:spell_backward,size=20")
    example = task.split("train")[0]
    almost = example.answer[:-1] + ("x" if example.answer[-1] != "x" else "y")
    assert 0.1 < task.score(example, almost).value < 1
    assert_class(task, example, almost, "partial")


def test_a_scorer_that_raises_is_data():
    task = Reasoning("reasoning:prime_factorization,size=20")
    assert_class(task, task.split("train")[0], "three times four", "unreadable")


def test_a_scorer_that_takes_too_long_is_data(monkeypatch):
    task = Reasoning("reasoning:simple_integration,size=20")
    example = task.split("train")[0]
    task.score(example, "1")
    monkeypatch.setattr("tasks.known.reasoning.SECONDS", 1.0)
    assert_class(task, example, "(x+1)**90*(x+2)**90", "timeout")
    monkeypatch.setattr("tasks.known.reasoning.SECONDS", 5.0)
    assert task.score(example, example.answer).correct


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("countdown", "9**9**9**9"),
        ("simple_integration", "9**(9**9)"),
        ("string_insertion", "1<<(1<<33)"),
    ],
)
def test_a_number_of_a_million_digits_is_refused_at_once(name, text, monkeypatch):
    task = Reasoning(f"reasoning:{name},size=20")
    example = task.split("train")[0]
    task.score(example, "1")
    monkeypatch.setattr("tasks.known.reasoning.SECONDS", 1.0)
    assert task.score(example, text).failure in ("wrong", "unreadable")


@pytest.mark.parametrize(
    "name", ["string_insertion", "countdown", "simple_integration", "n_queens"]
)
def test_what_a_model_wrote_is_never_run(name, tmp_path: Path):
    task, mark = Reasoning(f"reasoning:{name},size=20"), tmp_path / "mark"
    example = task.split("train")[0]
    for code in (
        f"open({str(mark)!r}, 'w')",
        f"__import__('os').mkdir({str(mark)!r})",
        f"[__import__('os').mkdir({str(mark)!r})]",
        f"(lambda: 0).__globals__['__builtins__']['open']({str(mark)!r}, 'w')",
    ):
        assert not task.score(example, code).correct
    assert not os.path.exists(mark)


def test_guards_let_honest_answers_through():
    assert guarded_eval(" [[0, 1], [2]]") == [[0, 1], [2]]
    assert guarded_eval("(0x1f + 2) * 3") == 99
    assert str(guarded_parse("3*x**2 + exp(x)/2 - sqrt(2)")) == "3*x**2 + exp(x)/2 - sqrt(2)"
    assert str(guarded_parse("(x + 1)**12 + 2**x**2 - x**(1/2)"))
    assert guarded_eval("0xff << 64 >> 3") == 0xFF << 61
    towers = ("9**9**9**9", "9**(9**9)", "(9**999)**999", "9**-9**9", "x**9**9**9", "(2*x)**99999")
    for text in (*towers, "9**(x*9**9**9)", "-" * 1900 + "1", "x**9**9 + ("):
        with pytest.raises(ValueError):
            guarded_parse(text)
    for text in (
        "9**9**9",
        "1<<(1<<33)",
        "1<<99999",
        "abs(1)",
        "().__class__",
        "[i for i in [1]]",
        "'a' 'b' or open",
    ):
        with pytest.raises(ValueError):
            guarded_eval(text)
    for text in ("x.func", "open('a')", "lambda: 0", "x__y", "'a'", "[1]", "print(1)"):
        with pytest.raises(ValueError):
            guarded_parse(text)


def test_rewards_without_an_answer_are_closed():
    halting = Reasoning("reasoning:game_of_life_halting,size=20")
    assert not halting.score(halting.split("train")[0], "whatever").correct
    integral = Reasoning("reasoning:simple_integration,size=20")
    example = integral.split("train")[0]
    assert not integral.score(example, f"Integral({example.meta['integrand']}, x)").correct


def test_another_seed_asks_other_questions_and_size_counts_all_splits():
    one, other = (Reasoning(f"reasoning:gcd,size=40,seed={n}") for n in (0, 1))
    assert sum(len(one.split(name)) for name in SPLITS) == 40
    asked = [{e.inputs["question"] for e in t.split("train")} for t in (one, other)]
    assert len(asked[0] & asked[1]) < 3


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("reasoning:chain_sums", "write reasoning: and one of chain_sum"),
        ("reasoning:", "one of ab, acre"),
        ("reasoning:composite", "no generator"),
        ("reasoning:chain_sum,max_term=3", 'did you mean "max_terms"'),
        ("reasoning:chain_sum,min_terms=5,max_terms=2", "refuses these options"),
        ("reasoning:chain_sum,max_terms", '"max_terms" is no option'),
        ("reasoning:chain_sum,size=19", "from 20 on"),
    ],
)
def test_each_mistake_gets_one_line(name, words):
    with pytest.raises(TaskError) as error:
        load_task(name)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_options_may_be_in_any_order():
    one, other = (
        read_name("reasoning:gcd,size=20,seed=3"),
        read_name("reasoning:gcd,seed=3,size=20"),
    )
    assert one == other


def test_features_are_flat_and_finite():
    metadata = {"n": 3, "on": True, "kind": "a", "list": [1], "x": float("nan"), "long": "y" * 99}
    assert features(metadata) == {"n": 3, "on": True, "kind": "a"}
