"""Pairs are balanced, distinct, of one question each, and held out by question."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_models import pairs as room
from reward_models.pairs import Answer, Pair, make_pairs, read_pairs, sampled_pairs, split_pairs
from reward_models.types import RewardError
from tasks.types import Demo, Example, Prompt

PROMPT = Prompt("Past tense.", ("verb",))
TRAIN = {
    verb: Example(verb, {"verb": verb}, past)
    for verb, past in (("go", "went"), ("get", "got"), ("be", "was"))
}
ELSEWHERE = [Example("do", {"verb": "do"}, "did")]


def chat(answer: Answer):
    return PROMPT.messages({"verb": answer.example_id})


def answers(**groups: str) -> list[Answer]:
    """go="went+ goed-": texts with + are worth 1, others 0."""
    return [
        Answer(key, text[:-1], float(text[-1] == "+"))
        for key, texts in groups.items()
        for text in texts.split()
    ]


def made(given, most=100, **options) -> list[Pair]:
    return make_pairs(given, chat, most=most, seed=0, **options)


def test_a_pair_is_a_better_and_a_worse_answer_to_one_example():
    [pair] = made(answers(go="goed- went+", get="got+ got+", be="was- is-"))
    assert pair == Pair("go", PROMPT.messages({"verb": "go"}), "went", "goed")


def test_texts_that_differ_by_spaces_are_one_and_count_with_their_mean():
    given = [Answer("go", "went", 1.0), Answer("go", " went\n", 0.5), Answer("go", "goed", 0.8)]
    assert [(p.chosen, p.rejected) for p in made(given)] == [("goed", "went")]


def test_every_example_gives_one_before_any_gives_a_second():
    many = " ".join([*(f"{i}+" for i in range(9)), *(f"x{i}-" for i in range(9))])
    given = answers(go=many, get="a+ b-", be="c+ d- e-")
    assert Counter(p.question for p in made(given, 3)) == {"go": 1, "get": 1, "be": 1}
    assert Counter(p.question for p in made(given, 6)) == {"go": 3, "get": 1, "be": 2}


def test_within_an_example_answers_take_turns():
    given = answers(go="a+ b+ c+ x- y- z-")
    first = made(given, 3)
    assert {p.chosen for p in first} == {"a", "b", "c"}
    assert {p.rejected for p in first} == {"x", "y", "z"}


def test_no_pair_stands_twice():
    given = answers(go="a+ b+ c+ x- y- z-") * 2
    found = [(p.chosen, p.rejected) for p in made(given)]
    assert len(found) == len(set(found)) == 9


def test_a_margin_is_exceeded():
    given = [Answer("go", "a", 0.9), Answer("go", "b", 0.5), Answer("go", "c", 0.4)]
    assert {(p.chosen, p.rejected) for p in made(given, margin=0.4)} == {("a", "c")}
    assert len(made(given)) == 3


def test_across_policies_only():
    given = [
        Answer("go", "went", 1.0, "new"),
        Answer("go", "goes", 0.0, "new"),
        Answer("go", "goed", 0.0, "old"),
        Answer("get", "got", 1.0, "old"),
        Answer("get", "get", 0.0, "old"),
    ]
    assert [(p.chosen, p.rejected) for p in made(given, across=True)] == [("went", "goed")]


def test_an_example_with_very_many_answers_is_thinned(monkeypatch):
    monkeypatch.setattr(room, "MOST_OF_ONE", 5)
    assert len(made(answers(go=" ".join(f"{i}+ x{i}-" for i in range(20))))) == 5


def test_the_seed_says_which_and_the_order_of_answers_does_not():
    given = answers(go="a+ b+ x- y-", get="a+ b+ x- y-", be="a+ b+ x- y-")
    assert made(given, 5) == made(given[::-1], 5)
    others = [make_pairs(given, chat, most=5, seed=seed) for seed in range(5)]
    assert any(other != others[0] for other in others)


@given(st.integers(0, 1000), st.integers(2, 40))
def test_held_out_pairs_are_of_other_questions(seed, count):
    given = [Pair(f"q{i % count}", [], "a", "b") for i in range(3 * count)]
    train, held_out = split_pairs(given, seed)
    assert not {p.question for p in train} & {p.question for p in held_out}
    assert len(train) + len(held_out) == len(given) and train and held_out
    assert len({p.question for p in held_out}) == max(1, round(0.2 * count))


def test_a_sample_of_pairs_has_every_question_first_and_hangs_on_the_seed():
    given = [Pair(f"q{i // 3}", [], f"a{i}", "b") for i in range(30)]  # a question's stand together
    found = sampled_pairs(given, 10, 0)
    assert {p.question for p in found} == {p.question for p in given}
    assert found == sampled_pairs(given, 10, 0) != sampled_pairs(given, 10, 1)
    assert sampled_pairs(given, 30, 0) == given


def test_one_question_cannot_be_split():
    with pytest.raises(RewardError, match="pairs of 1 questions"):
        split_pairs([Pair("q", [], "a", "b")] * 3, 0)


def read(folder, *rows) -> list[Pair]:
    path = folder / "labels.jsonl"
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows))
    return read_pairs(path, PROMPT, TRAIN, ELSEWHERE)


BOTH = {"chosen": "went", "rejected": "goed"}


def test_people_name_the_question_in_three_ways(tmp_path):
    asked = PROMPT.messages({"verb": "go"})
    rows = [
        {"example_id": "go", **BOTH},
        {"inputs": {"verb": "go"}, "chosen": "went", "rejected": "go"},
        {"prompt": asked, "chosen": "went", "rejected": "gone"},
        {"prompt": "Past of go?", **BOTH},
    ]
    found = read(tmp_path, *rows, "", rows[0])
    assert [p.chat for p in found] == [asked] * 3 + [[{"role": "user", "content": "Past of go?"}]]
    assert [p.question for p in found[:3]] == ["go"] * 3 and found[3].question != "go"


def test_other_words_in_front_or_another_id_make_no_other_question(tmp_path):
    other = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": " go"}]
    found = read(tmp_path, {"example_id": "go", **BOTH}, {"prompt": other, **BOTH})
    assert [p.question for p in found] == ["go"]
    with pytest.raises(RewardError, match="the other way round"):
        turned = {"prompt": other, "chosen": "goed", "rejected": "went"}
        read(tmp_path, {"example_id": "go", **BOTH}, turned)
    twins = [Answer(key, text, score) for key in "xy" for text, score in (("a", 1.0), ("b", 0.0))]
    same = make_pairs(twins, lambda _: PROMPT.messages({"verb": "go"}), most=9, seed=0)
    with pytest.raises(RewardError, match="pairs of 1 questions"):
        split_pairs(same, 0)


def test_a_line_ends_where_json_lines_end(tmp_path):
    row = {"example_id": "go", "chosen": "went\u2028there\x85", "rejected": "goed"}
    [pair] = read(tmp_path, json.dumps(row, ensure_ascii=False))
    assert pair.chosen == row["chosen"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "labels.jsonl:1: is no JSON"),
        ("[]", "labels.jsonl:1: is no JSON object"),
        ({"example_id": "go", "chosen": "went"}, "rejected must be a text"),
        ({"example_id": "go", "chosen": 1, "rejected": "x"}, "chosen must be a text"),
        ({"example_id": "go", "chosen": "a", "rejected": " a"}, "the same answer"),
        ({"example_id": "see", **BOTH}, "train has no example 'see'"),
        ({"example_id": ["go"], **BOTH}, r"train has no example \['go'\]"),
        ({"example_id": "do", **BOTH}, "'do' is of dev or test"),
        ({"inputs": {"verb": "do"}, **BOTH}, "asks a question of dev or test"),
        ({"prompt": "do", **BOTH}, "asks a question of dev or test"),
        ({"inputs": {"word": "go"}, **BOTH}, "inputs must map verb to texts"),
        ({"inputs": "go", **BOTH}, "inputs must map verb to texts"),
        ({"prompt": [{"role": "user"}], **BOTH}, "no question; write example_id"),
        (BOTH, "no question; write example_id"),
        ("", "holds no pairs"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, row, message):
    with pytest.raises(RewardError, match=message) as caught:
        read(tmp_path, row)
    assert "\n" not in str(caught.value)


def test_people_must_not_contradict_themselves(tmp_path):
    turned = {"example_id": "go", "chosen": "goed", "rejected": "went"}
    with pytest.raises(RewardError, match="the other way round"):
        read(tmp_path, {"example_id": "go", **BOTH}, turned)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RewardError, match="cannot be read"):
        read_pairs(tmp_path / "none.jsonl", PROMPT, TRAIN, [])


def test_the_question_may_be_put_as_it_was_sent():
    sent = PROMPT.with_demos([Demo({"verb": "run"}, "ran")])
    given = answers(go="went+ goed-")
    [pair] = make_pairs(given, lambda a: sent.messages({"verb": a.example_id}), most=1, seed=0)
    assert len(pair.chat) == 4
