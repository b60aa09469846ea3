"""Rewards keep TRL's convention, judge as the evaluator does, and fail with one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_models.load import load_reward
from reward_models.partial import closeness, share
from reward_models.types import RewardError, reply
from tasks.types import Example, Prompt, Score, TaskError

EXAMPLES = {
    "go": Example("go", {"verb": "go"}, "went"),
    "get": Example("get", {"verb": "get"}, "got", {"accepted": ["gotten up"]}),
}


def exact(example: Example, text: str) -> Score:
    right = text == example.answer
    return Score(1.0 if right else 0.0, right)


def load(name: str, score=exact, prompt: Prompt | None = None):
    return load_reward(name, score=score, prompt=prompt or Prompt("", ("verb",)), examples=EXAMPLES)


def write(folder: Path, body: str) -> str:
    path = folder / "mine.py"
    path.write_text(f"def reward(completions, answer, inputs, meta, **_):\n    {body}\n")
    return f"{path}:reward"


def ask(reward, *texts: str, ids=("go", "get")) -> list[float | None]:
    chats = [[{"role": "assistant", "content": text}] for text in texts]
    return reward([[]] * len(texts), chats, example_id=list(ids)[: len(texts)])


def test_task_reward_is_the_tasks_score():
    assert ask(load("task"), " went ", "get") == [1.0, 0.0]


def test_rewards_take_plain_text_as_plain_trl_gives_it():
    assert load("task")(["q", "q"], ["went", "got"], example_id=["go", "get"]) == [1.0, 1.0]
    assert reply("went") == reply([{"role": "assistant", "content": "went"}]) == "went"


def test_task_reward_reads_the_answer_the_prompt_asks_for():
    cot = Prompt("", ("verb",), style="cot")
    answers = ("It is irregular.\nAnswer: went", "got")
    assert ask(load("task", prompt=cot), *answers) == [1.0, 0.0]


@pytest.mark.parametrize("name", ["task", "contains", "closeness"])
def test_a_scorer_that_fails_gives_no_reward(name):
    def broken(example: Example, text: str) -> Score:
        raise OSError("disk")

    assert ask(load(name, score=broken), "went") == [None]


def test_contains_rewards_shorter_answers_more():
    ids = ("go",) * 5
    texts = ("went", "Went.", "went there", "the past tense is went", "goes")
    assert ask(load("contains"), *texts, ids=ids) == [1.0, 0.5, 0.25, 0.1, 0.0]


def test_contains_takes_whole_words_and_every_accepted_form():
    ids = ("go", "get", "get")
    assert ask(load("contains"), "wented", "he has gotten up", "forgot", ids=ids) == [0, 0.25, 0]


def test_credit_stays_within_bounds():
    for text in ("went", "", "went went", "i went went", "WENT!"):
        assert 0 <= share(text, "went") <= 0.5


def test_a_users_reward_gets_the_examples_columns(tmp_path):
    body = "return [len(a) + len(i['verb']) + len(m) for a, i, m in zip(answer, inputs, meta)]"
    assert ask(load(write(tmp_path, body)), "a", "b") == [6.0, 7.0]


def test_a_users_reward_may_say_nothing_or_use_numpy(tmp_path):
    values = ask(load(write(tmp_path, "import numpy; return [None, numpy.float32(0.5)]")), "a", "b")
    assert values == [None, 0.5] and not isinstance(values[1], np.floating)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return [1.0]", "returned 1 values for 2 completions"),
        ("return 1.0", "returned float instead of a list for 2 completions"),
        ("return [1.0, float('nan')]", "gave nan for example 'get'"),
        ("return ['1', 1.0]", "gave '1' for example 'go'"),
        ("return [1 / len(m) for m in meta]", "raised ZeroDivisionError.* at example 'go'"),
        ("return [1 / (len(a) - 3) for a in answer]", "raised ZeroDivisionError.* example 'get'"),
    ],
)
def test_a_wrong_reward_is_one_line_with_reward_and_example(tmp_path, body, message):
    name = write(tmp_path, body)
    with pytest.raises(RewardError, match=message) as caught:
        ask(load(name), "a", "b")
    assert str(caught.value).startswith(f"reward {name}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "contain",
            r'unknown .contain. \(did you mean "contains"\?\); write task, tests, contains, ',
        ),
        ("nowhere.py:f", "nowhere.py: no such file"),
    ],
)
def test_an_unknown_reward_says_what_there_is(name, message):
    with pytest.raises(TaskError, match=message):
        load(name)


def test_a_missing_function_names_the_near_one(tmp_path):
    with pytest.raises(RewardError, match=r'no function .rewrd. \(did you mean "reward"\?\)'):
        load(write(tmp_path, "return []").replace(":reward", ":rewrd"))


def test_an_unknown_example_is_named():
    with pytest.raises(RewardError, match="no example 'be'"):
        ask(load("task"), "was", ids=("be",))


def test_closeness_rewards_nearer_answers_more():
    near = [closeness(text, "walked") for text in ("walked", "walk", "I do not know.", "")]
    assert near == sorted(near, reverse=True) and near[0] == 0.5 and near[-1] == 0.0
    assert closeness("The past tense is walked.", "walked") < closeness("walk", "walked")


@given(st.text(max_size=80), st.text(max_size=20))
def test_closeness_stays_within_bounds(text, form):
    assert 0.0 <= closeness(text, form) <= 0.5
