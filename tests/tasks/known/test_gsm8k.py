"""GSM8K: the number a reply ends on, as math-verify reads it; which mistake a wrong one shows."""

from __future__ import annotations

from time import process_time

import pytest

from tasks.known.gsm8k import final_number
from tests.tasks.known.passing import assert_checks, assert_class, assert_survives

THINGS = str.split("apples pens cards boats shells lamps coins seeds tiles cups nails books")


def row(n: int) -> dict[str, str]:
    thing, each = THINGS[n % len(THINGS)], n + 3
    question = (
        f"Mia has {n + 2} bags of {each} {thing} and loses 1 {thing[:-1]}. How many are left?"
    )
    total = (n + 2) * each
    solution = f"There are {n + 2}*{each} = <<{n + 2}*{each}={total}>>{total} {thing}.\n"
    solution += f"So {total} - 1 = <<{total}-1={total - 1}>>{total - 1} are left.\n"
    return {"question": question, "answer": f"{solution}#### {total - 1}"}


@pytest.fixture(scope="module")
def task(hub_copy):
    splits = {"train": [row(n) for n in range(12)], "test": [row(n) for n in range(20, 26)]}
    splits["train"].append(splits["test"][0])  # leaked
    splits["test"].append({"question": "A ship costs a lot.", "answer": "Much.\n#### 1,234,567"})
    hub_copy("openai/gsm8k", splits, "main")
    return assert_checks("gsm8k")


def test_dev_is_cut_from_train_and_what_is_in_test_is_left_out(task):
    train, dev, test = (task.split(name) for name in ("train", "dev", "test"))
    assert len(dev) in (1, 2) and len(train) + len(dev) == 12 and len(test) == 7
    assert [e.id for e in test] == [f"test-{n}" for n in range(7)]
    assert "train-12" not in {e.id for e in (*train, *dev)}


def test_an_answer_shows_the_way_and_features_are_flat(task):
    example = task.split("test")[1]
    assert example.answer.endswith("#### 551") and "<<" not in example.answer
    assert "23*24 = 552" in example.answer
    assert (example.meta["gold"], example.meta["steps"]) == ("551", 2)


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("551", None),
        ("23*24 = 552\n552 - 1 = 551\n#### 551", None),
        ("551 shells, out of 552", "stopped_early"),
        ("#### 551 of 552", None),
        ("The answer is 551. I took 2 steps.", None),
        ("\\boxed{551} after 2 steps", None),
        ("551.0", None),
        ("552", "stopped_early"),
        ("23", "copied"),
        ("-551", "wrong_number"),
        ("550", "wrong_number"),
        ("many", "no_number"),
        ("", "empty"),
    ],
)
def test_right_wrong_and_malformed(task, text, failure):
    assert_class(task, task.split("test")[1], text, failure)


def test_hostile_texts_are_wrong_and_harmless(task):
    assert_survives(task, task.split("test")[1])
    assert task.score(task.split("test")[6], "It costs $1,234,567.").correct


REPLIES = """72|#### 72|The answer is 72.|The answer is 71.|48 + 24 = 72 clips. #### 72|72 clips|$72
\\boxed{72}|so \\boxed{72} clips|The answer is \\boxed{71}. Wait, it is 72.|72.0|72.00|72 %|72%
seventy-two||72 and 5|She had 72 in 3 days|1,072|72,|**72**|-72|= 72|x = 72|72 or 73|0.72|72.5
The final answer is 72. I checked 3 times.|the answer is 72, not 71|72 dollars and 50 cents
$72.00|It is 72!|#### $72|#### 72.|#### 72.0|7 2|36 * 2 = 72|Answer: 72|\\boxed{72\\text{ clips}}
Answer: 71|72nd|72 apples - done|The answer is -72|#### -72|\\(72\\)|\\[72\\]|$72$""".replace(
    "\n", "|"
).split("|")


@pytest.mark.parametrize("gold", ["72", "-72", "1072", "71"])
def test_scores_equal_those_of_math_verify(task, gold):
    math_verify = pytest.importorskip("math_verify")
    example = task.build({"question": "?", "answer": f"So.\n#### {gold}"}, "x")
    for reply in REPLIES:
        ours = task.score(example, reply).correct
        theirs = math_verify.verify(math_verify.parse(gold), math_verify.parse(reply))
        assert ours == theirs, (reply, ours)


def test_where_we_read_more_than_math_verify(task):
    """GSM8K's own mark, powers of ten, brackets; and where less: a formula is no number."""
    read_less = "144/2|#### 5/8|The answer is 5 / 8|2+70|#### 75 - 3|\\boxed{\\frac{5}{8}}|20-30"
    read = {"#### 72 in 3 days": 72, "####72": 72, "7.2e1": 72, "(72)": 72, "\\$72": 72}
    for text, number in read.items():
        assert final_number(text) == (number, False)
    for text in read_less.split("|"):
        assert final_number(text) is None


MINUS = "\u2212"
UNLIKE_FIVE = {
    f"#### {MINUS}5": -5,
    f"The answer is {MINUS}5": -5,
    "#### - 5": -5,
    f"#### {MINUS} $5": -5,
    "It is -$5": -5,
    f"\\boxed{{{MINUS} 5}}": -5,
    "#### .5": 0.5,
    "The answer is .5": 0.5,
    "#### 5e3": 5000,
    "#### 5/8": None,
    "#### 5 - 3 = 2": 2,
}


@pytest.mark.parametrize("text", UNLIKE_FIVE)
def test_a_sign_a_point_and_a_power_belong_to_the_number(task, text):
    number = UNLIKE_FIVE[text]
    assert final_number(text) == (None if number is None else (number, False))
    example = task.build({"question": "?", "answer": "So.\n#### 5"}, "x")
    assert not task.score(example, text).correct
    assert task.score(example, "#### 2 + 3 = 5").correct


@pytest.mark.parametrize(
    "text", ["#" * 100_000, "answer:" * 14_000, "####5" * 20_000, "1-" * 50_000]
)
def test_no_text_takes_long(text):
    started = process_time()
    final_number(text)
    assert process_time() - started < 0.7
