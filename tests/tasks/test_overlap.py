"""What counts as the same example in two splits: found where planted, and no false alarm."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from itertools import accumulate, pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import SPLITS, Example
from tasks.load import load_task
from tasks.overlap import NEAR, find_overlaps, normal_form

STORY = (
    "My brother left his blue rucksack in the basket of a bike at the harbour last night. Nobody "
    "at the kiosk has seen it, and he needs the papers inside for an exam."
)
SEEN = "Nobody at the kiosk has seen it, and "
MOVED = SEEN.replace(", and", ".") + STORY.replace(SEEN, "")


WORDS = ["".join("abcdefghij"[int(digit)] for digit in str(rank)) for rank in range(20_000)]
WEIGHTS = list(accumulate(1 / (rank + 3) for rank in range(20_000)))


def example(name: str, **inputs: str) -> Example:
    return Example(name, inputs, "x")


def found(train: list[Example], test: list[Example]) -> dict[str, str]:
    return {o.id: o.kind for o in find_overlaps({"train": train, "test": test})}


def kind(a: str, b: str) -> str | None:
    return found([example("a", q=a)], [example("b", q=b)]).get("b")


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (STORY, "exact"),
        (STORY.upper(), "normalized"),
        (STORY.replace(",", " -").replace(".", "!"), "normalized"),
        ("  " + STORY.replace(" ", "\n"), "normalized"),
        (STORY.replace("rucksack", '\N{LEFT DOUBLE QUOTATION MARK}rucksack"'), "normalized"),
        (STORY.replace("blue", "green"), "near"),
        (STORY.replace("Nobody", "But nobody"), "near"),
        (STORY.removesuffix("for an exam."), "near"),
        (
            "Nobody at the kiosk has seen it. "
            + STORY.replace("Nobody at the kiosk has seen it, and ", ""),
            "near",
        ),
        (STORY[: len(STORY) // 2], None),
        (STORY.replace("a bike", "3 bikes"), None),
    ],
)
def test_what_a_planted_copy_is_called(other, expected):
    assert kind(STORY, other) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("go", "goes"),
        ("go", "going"),
        ("What is 23 plus 45?", "What is 23 plus 46?"),
        ("(3 + 4) * 2", "3 + (4 * 2)"),
        ("3 + 4", "3 - 4"),
        ("1.5", "15"),
        ("[[1, 2], 3]", "[1, [2, 3]]"),
        ("( ( ) )", "( ) ( )"),
        ("Is 5! even?", "Is 5 even?"),
        ("C", "C#"),
        ("great :)", "great :("),
        ("apple bird cloud", "cloud bird apple"),
        ("\u0915\u093f", "\u0915\u0940"),  # ki and kii: Hindi vowels are marks, not letters
        ("What is the capital of Austria?", "What is the capital of Australia?"),
        (
            "Tom has 5 apples and buys 3 more at the market in the old town before he goes home.",
            "Tom has 6 apples and buys 3 more at the market in the old town before he goes home.",
        ),
    ],
)
def test_short_and_templated_questions_are_their_own(one, other):
    assert kind(one, other) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("go", "Go."),
        ("3+4", "3 + 4"),
        ("What is 3 + 4?", "what is 3+4"),
        ("Na\u00efve!", "nai\u0308ve"),
    ],
)
def test_what_is_only_written_otherwise_is_the_same(one, other):
    assert kind(one, other) == "normalized"


def test_fields_may_change_places_but_each_must_have_its_like():
    other = STORY.replace("brother", "sister").replace("harbour", "castle").replace("he", "she")
    a = example("a", first=STORY, second=other[::-1])
    assert found([a], [example("b", first=other[::-1], second=STORY)]) == {"b": "near"}
    asked = example("a", passage=STORY, question="What was lost?")
    assert found([asked], [example("b", passage=STORY, question="Where was it lost?")]) == {}
    assert found([asked], [example("b", question="what was lost", passage=STORY)]) == {
        "b": "normalized"
    }


def test_a_frame_that_many_share_is_not_what_is_asked():
    frame = (
        "Read the review, think of what its writer felt, and say whether it is positive or "
        "negative, in one word and without a reason. Review: "
    )
    words = ["lovely", "awful", "dull", "bright", "slow", "quick", "warm", "cold", "odd", "fine"]
    train = [example(f"a{i}", q=f"{frame}{word} film") for i, word in enumerate(words)]
    assert found(train, [example("b", q=f"{frame}{word} book") for word in words[:1]]) == {}
    assert found(train, [example("b", q=f"{frame}Dull film!")]) == {"b": "normalized"}


@pytest.mark.parametrize("name", ["inflection", "bikeshare", "questions"])
def test_the_built_in_tasks_are_clean_and_copies_of_theirs_are_found(name):
    task = load_task(name)
    splits = {split: list(task.split(split)) for split in SPLITS}
    assert find_overlaps(splits) == []
    copies = [replace(e, id=f"copy of {e.id}") for e in splits["train"][:30]]
    overlaps = find_overlaps({**splits, "test": [*splits["test"], *copies]})
    assert [(o.id, o.kind) for o in overlaps] == [(e.id, "exact") for e in copies]


def test_a_changed_word_is_found_in_the_texts_long_enough():
    train = load_task("bikeshare").split("train")
    rng = Random(0)
    changed = []
    for one in train:
        words = one.inputs["message"].split()
        words[rng.randrange(len(words))] = "zebra"
        inputs = {**one.inputs, "message": " ".join(words)}
        changed.append(replace(one, id=f"{one.id} changed", inputs=inputs))
    pairs = {o.id: o.other_id for o in find_overlaps({"train": train, "test": changed})}
    assert all(other == name.removesuffix(" changed") for name, other in pairs.items())
    long = [e.id for e in changed if len(e.inputs["message"].split()) >= 17]
    assert len(long) > 100
    assert sum(name in pairs for name in long) > 0.97 * len(long)


def words_of(rng: Random, count: int) -> list[str]:
    """By Zipf's law, as in a language: the commonest makes up 4 % of all."""
    return rng.choices(WORDS, cum_weights=WEIGHTS, k=count)


def test_similarity_is_counted_and_not_estimated():
    """Every near pair is what it says by a count of its own, and none above the line is missed."""
    rng = Random(1)
    base = [words_of(rng, rng.randint(15, 40)) for _ in range(300)]
    train = [example(f"a{i}", q=" ".join(words)) for i, words in enumerate(base)]
    test = []
    for i, words in enumerate(base):
        changed = list(words)
        for _ in range(i % 5):
            changed[rng.randrange(len(changed))] = words_of(rng, 1)[0]
        test.append(example(f"b{i}", q=" ".join([*changed, "end"])))
    near = {o.id: o for o in find_overlaps({"train": train, "test": test})}

    def bag(one: Example) -> set:
        words = normal_form(one.inputs["q"])
        return {*words, *pairwise(words)}

    for a, b in zip(train, test, strict=True):
        jaccard = len(bag(a) & bag(b)) / len(bag(a) | bag(b))
        # without what a twentieth of all texts share, as the search counts it, a little changes
        if b.id in near and near[b.id].kind == "near":
            assert near[b.id].similarity == pytest.approx(jaccard, abs=0.1)
            assert near[b.id].similarity >= NEAR
        assert (b.id in near) or jaccard < NEAR + 0.1
        assert (b.id not in near) or jaccard > NEAR - 0.1
    assert 60 < len(near) < 240


@pytest.mark.slow
def test_a_hundred_thousand_examples_take_seconds():
    rng = Random(2)
    rows = [example(f"{i}", q=" ".join(words_of(rng, 30))) for i in range(100_000)]
    planted = example("planted", q=rows[7].inputs["q"] + " and")
    start = time.process_time()
    overlaps = find_overlaps({"train": rows[:90_000], "test": [*rows[90_000:], planted]})
    assert time.process_time() - start < 20
    assert {o.id: o.other_id for o in overlaps} == {"planted": "7"}


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_has_a_normal_form(one, other):
    assert kind(one, one) == "exact"
    assert (kind(one, other) is not None) == (
        one == other or normal_form(one) == normal_form(other)
    )


def test_naming_a_task_loads_no_numpy():
    code = "import sys, tasks.check, tasks.splits; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
