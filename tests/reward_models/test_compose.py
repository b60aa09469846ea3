"""Every rule of composition against figures worked out by hand; against TRL where it has one."""

from __future__ import annotations

import math

import pytest
from trl.rewards import get_repetition_penalty_reward, get_soft_overlong_punishment

from reward_models.compose import (
    absolute,
    clipped,
    composed,
    gated,
    overlong,
    repeated,
    standardized,
    weighted_sum,
)
from reward_models.config import Composition, Overlong, parse_reward
from reward_models.load import check_reward, load_reward
from reward_models.types import RewardError, judged_apart
from tasks.types import Example, Prompt, Score

EXAMPLES = {key: Example(key, {"q": key}, key.upper()) for key in ("a", "b")}


def exact(example: Example, text: str) -> Score:
    right = text == example.answer
    return Score(1.0 if right else 0.0, right)


def spec(**options) -> Composition:
    found = parse_reward({"parts": ["task"], **options})
    assert isinstance(found, Composition)
    return found


def load(raw):
    return load_reward(raw, score=exact, prompt=Prompt("", ("q",)), examples=EXAMPLES)


TWO = {"parts": [{"reward": "task", "weight": 2}, {"reward": "contains", "weight": -0.5}]}


def test_weighted_sum():
    terms = spec(**TWO).parts
    said = {"task": [1.0, 0.0], "contains": [0.25, 1.0]}
    assert weighted_sum(terms, said) == [2 * 1 - 0.5 * 0.25, -0.5]


@pytest.mark.parametrize(
    ("optional", "value"), [((), None), (("contains",), 2.0), (("task", "contains"), 2.0)]
)
def test_a_part_that_says_nothing_silences_the_sum_unless_it_is_optional(optional, value):
    parts = [{**part, "optional": part["reward"] in optional} for part in TWO["parts"]]
    assert weighted_sum(spec(parts=parts).parts, {"task": [1.0], "contains": [None]}) == [value]


def test_a_sum_of_nothing_is_nothing():
    parts = [{**part, "optional": True} for part in TWO["parts"]]
    assert weighted_sum(spec(parts=parts).parts, {"task": [None], "contains": [None]}) == [None]


GATE = {"reward": {"format": "tags"}, "at_least": 0.5}


@pytest.mark.parametrize(
    ("tags", "options", "value"),
    [
        (1.0, {}, 0.7),
        (0.5, {}, 0.7),  # reached is enough
        (0.4, {}, 0.0),
        (0.4, {"otherwise": -1}, -1.0),
        (0.4, {"gate": {**GATE, "weight": 0.3}}, 0.3 * 0.4),  # its own value counts by its weight
        (1.0, {"gate": {**GATE, "weight": 0.3}}, 0.3 + 0.7),
        (None, {}, None),
        (None, {"gate": {**GATE, "optional": True}}, 0.7),
    ],
)
def test_content_pays_behind_a_gate_that_holds(tags, options, value):
    found = composed(spec(**{"gate": GATE, **options}), {"tags": [tags], "task": [0.7]}, {}, ["a"])
    assert found == [pytest.approx(value) if value is not None else None]


def test_all_gates_must_hold():
    two = spec(gate=[{"reward": "contains"}, {"reward": "closeness", "at_least": 0.2}])
    said = {"contains": [1.0, 1.0, 0.9], "closeness": [0.2, 0.1, 0.3], "task": [0.7] * 3}
    assert composed(two, said, {}, ["a"] * 3) == [0.7, 0.0, 0.0]


def test_what_content_says_behind_a_shut_gate_does_not_matter():
    assert gated([None, 5.0, None], [False, False, True], 0.0) == [0.0, 0.0, None]


def test_clip():
    assert clipped([-3.0, 0.25, 9.0, None], -1, 1) == [-1.0, 0.25, 1.0, None]


def test_overlong_is_daposs_soft_punishment():
    limits = Overlong(start=80, max=100)
    assert [overlong(n, limits) for n in (0, 80, 85, 90, 100, 500)] == [0, 0, 0.25, 0.5, 1, 1]
    theirs = get_soft_overlong_punishment(100, 20)([[1] * n for n in range(130)])
    assert [-overlong(n, limits) for n in range(130)] == pytest.approx(theirs)


def test_repetition_is_the_share_of_ngrams_seen_before():
    assert repeated(["a", "b", "a", "b", "a", "b"], 2) == 1 - 2 / 5  # ab ba ab ba ab
    assert repeated(["a"] * 4, 3) == 0.5 and repeated(["a"], 2) == 0.0 and repeated([], 1) == 0.0
    ids = [[1, 2, 3, 1, 2, 3, 1], [4, 4, 4], [5, 6]]
    theirs = get_repetition_penalty_reward(2)(completion_ids=ids)
    assert [-repeated(row, 2) for row in ids] == pytest.approx(theirs)


def test_normalized_within_each_group():
    values = standardized([1.0, 0.0, None, 5.0, 5.0, 2.0], ["a", "a", "a", "b", "b", "c"])
    half = 0.5 / (math.sqrt(0.5) + 1e-4)  # mean 1/2, deviations of 1/2, n - 1 = 1
    assert values == [pytest.approx(half), pytest.approx(-half), None, 0.0, 0.0, 0.0]


def test_normalization_comes_before_weights_and_behind_the_gate():
    wide = spec(parts=["task", {"reward": "contains", "weight": 3}], normalize="group", gate=GATE)
    said = {"tags": [1.0, 1.0, 0.0], "task": [100.0, 0.0, 50.0], "contains": [0.0, 1.0, 1.0]}
    # behind the gate: task 100, 0, 0 and contains 0, 1, 0
    mean, deviation = 1 / 3, math.sqrt((4 / 9 + 1 / 9 + 1 / 9) / 2)
    high, low = (1 - mean) / deviation, (0 - mean) / deviation
    wanted = [high + 3 * low, low + 3 * high, low + 3 * low]
    assert composed(wide, said, {}, ["a"] * 3) == pytest.approx(wanted, rel=1e-3)


def test_a_reward_without_its_normalization_tells_an_answer_alone():
    reward = load({"parts": ["task", "closeness"], "normalize": "group"})
    assert reward([""], ["A"], example_id=["a"]) == [0.0]
    assert absolute(reward)([""], ["A"], example_id=["a"]) == [2.0]
    assert absolute(load("task"))([""], ["A"], example_id=["a"]) == [1.0]


def test_penalties_come_last_but_for_the_clip():
    found = composed(
        spec(clip=[-0.5, 1], otherwise=0.1, gate=GATE),
        {"tags": [1.0, 0.0, 1.0, 1.0], "task": [1.0, 1.0, None, 1.0]},
        {"overlong": [-0.25, -0.25, -1.0, -9.0], "repetition": [-0.25, 0.0, 0.0, 0.0]},
        ["a"] * 4,
    )
    assert found == [0.5, pytest.approx(-0.15), None, -0.5]


def test_a_composition_from_the_spec_tells_its_parts():
    reward = load(
        {
            "parts": ["task", {"reward": {"format": "length", "max": 2}, "weight": 0.5}],
            "overlong": {"start": 2, "max": 4, "weight": 2},
            "repetition": {"ngram": 1},
        }
    )
    texts = ["A", "no no no"]
    found = judged_apart(reward, ["", ""], texts, example_id=["a", "a"])
    assert found.parts == {
        "task": [1.0, 0.0],
        "length": [1.0, 0.5],
        "overlong": [-0.0, -1.0],
        "repetition": [-0.0, pytest.approx(-2 / 3)],
    }
    assert found.values == [1.5, pytest.approx(0.25 - 1 - 2 / 3)]
    counted = reward(["", ""], texts, example_id=["a", "a"], completion_ids=[[1, 2, 3], [7]])
    assert counted == [0.5, 0.25]  # tokens, not words, where there are some


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return [1.0]", "returned 1 values for 2 completions"),
        ("return [float('inf')] * 2", "gave inf for example 'a'"),
        ("return [0.0, '1']", "gave '1' for example 'b'"),
        ("return [1 / (len(c) - 1) for c in completions]", "raised ZeroDivisionError.* 'b'"),
    ],
)
def test_a_wrong_part_is_one_line_with_part_and_example(tmp_path, body, message):
    path = tmp_path / "mine.py"
    path.write_text(f"def fn(completions, **_):\n    {body}\n")
    reward = load({"parts": ["task", f"{path}:fn"]})
    with pytest.raises(RewardError, match=message) as caught:
        reward(["", ""], ["no", "A"], example_id=["a", "b"])
    assert str(caught.value).startswith(f"reward {path}:fn: ") and "\n" not in str(caught.value)


def test_a_sum_that_overflows_is_one_line_too():
    reward = load(
        {"parts": [{"reward": "task", "weight": 1e308}, {"reward": "contains", "weight": 1e308}]}
    )
    with pytest.raises(RewardError, match=r"reward task\+contains: gave inf for example 'a'"):
        reward([""], ["A"], example_id=["a"])


def test_a_composition_is_checked_before_anything_is_spent():
    facts = {"score": exact, "prompt": Prompt("", ("q",)), "examples": EXAMPLES}
    with pytest.raises(RewardError, match=r"unknown 'tsak'.*task"):
        check_reward({"parts": ["tsak"]}, **facts)
    check_reward({"parts": ["task"], "gate": {"format": "tags"}}, **facts)
