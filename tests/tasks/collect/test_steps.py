"""What is dropped, how splits are cut, and which scorer is guessed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from tasks import SPLITS, TaskError
from tasks.collect.card import histogram
from tasks.collect.clean import (
    Dropped,
    Item,
    drop_contradictions,
    drop_leaks,
    drop_repeats,
    merge_spellings,
)
from tasks.collect.cut import HOW, deal, parse_shares, sample
from tasks.collect.guess import guess_scorer
from tasks.collect.times import read_times
from tasks.scorers import build_scorer
from tasks.values import as_answers, as_text

SHARES = parse_shares("0.6,0.2,0.2")
STORY = (
    "My brother left his blue rucksack in the basket of a bike at the harbour last night, and "
    "nobody at the kiosk has seen it."
)


def item(n: int, text: str = "", answer: str = "a", **more) -> Item:
    return Item(f"r{n}", {"text": text or f"question {n}"}, [answer], {}, **more)


def ids(items: Sequence[Item]) -> list[str]:
    return [item.id for item in items]


def test_texts_are_cleaned() -> None:
    assert as_text(" \ufeffa\u00a0b \r\n\r\n\r\n\r\n  code\x00 \r") == "a b\n\n  code"
    assert as_text("e\u0301") == "é" and as_text("\ud800") == "\ufffd"
    assert [as_text(v) for v in (None, float("nan"), True, 3.0, 0.5, b"x")] == [
        *("", "", "true", "3", "0.5", ""),
    ]
    assert as_text(["a", None, 2]) == "a\n2" and as_text({"k": [1]}) == '{"k": [1]}'
    assert as_answers(["a", "a ", "", "b"]) == ["a", "b"] and as_answers(None) == []


def test_rows_that_ask_the_same_and_differ_in_the_answer_all_go() -> None:
    dropped = Dropped()
    rows = [item(0, "Hello"), item(1, " hello!", "b"), item(2, "bye"), item(3, "bye.", "A")]
    assert ids(drop_contradictions(rows, dropped)) == ["r2", "r3"]  # A is a, but for its case
    assert dropped.counts == {"contradiction": 2}


def test_repeats_go_and_the_first_stays() -> None:
    dropped = Dropped()
    rows = [
        *(item(0, STORY), item(1, STORY), item(2, STORY.upper()), item(3, "short one")),
        *(item(4, STORY.replace("blue", "green"), "b"), item(5, "short two")),
    ]
    assert ids(drop_repeats(rows, dropped)) == ["r0", "r3", "r5"]
    assert dropped.counts == {"exact": 1, "normalized": 1, "near": 1}
    assert "answers b and a" in dropped.shown["near"][0]


def test_what_is_near_a_dropped_row_only_stays() -> None:
    """Each text has two more words replaced, so that only neighbours in the chain are near."""
    words = STORY.replace(",", "").split()
    fresh = ["amber", "birch", "cedar", "dahlia", "elder", "fern"]
    chain = [" ".join([*fresh[: 2 * step], *words[2 * step :]]) for step in range(4)]
    rows = [item(n, text) for n, text in enumerate(chain)]
    assert ids(drop_repeats(rows, Dropped())) == ["r0", "r2"]


def test_of_a_repeat_the_one_in_test_stays() -> None:
    rows = [
        item(0, STORY, split="train"),
        item(1, STORY, split="dev"),
        item(2, STORY, split="test"),
    ]
    assert ids(drop_repeats(rows, Dropped())) == ["r2"]


def test_a_large_family_of_near_texts_is_one_row() -> None:
    rng = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(rng.choices(letters, k=6)) for _ in range(3000)]
    others = [item(100 + n, " ".join(rng.choices(words, k=30))) for n in range(900)]
    base = rng.choices(words, k=40)
    family = [item(n, " ".join([*base[:-1], f"{letters[n]}{letters[n]}"])) for n in range(26)]
    kept = drop_repeats([*family, *others], Dropped())
    assert ids(kept) == ["r0", *ids(others)]


def test_what_still_leaks_leaves_train_and_dev() -> None:
    dropped = Dropped()
    splits = {
        "train": [item(0, STORY), item(1)],
        "dev": [item(2, STORY.upper()), item(3)],
        "test": [item(4, STORY.replace("blue", "green"))],
    }
    found = drop_leaks(splits, dropped)  # type: ignore[arg-type]
    assert [ids(found[split]) for split in SPLITS] == [["r1"], ["r3"], ["r4"]]
    assert dropped.counts["leak"] == 2


def test_labels_get_their_usual_spelling() -> None:
    rows = [
        item(0, answer="Yes"),
        item(1, answer="yes"),
        item(2, answer="yes"),
        item(3, answer="no"),
    ]
    merged, told = merge_spellings(rows)
    assert [row.answers[0] for row in merged] == ["yes", "yes", "yes", "no"]
    assert told == ['"Yes" → "yes" (1 rows)']


def stratified(count: int = 400) -> list[Item]:
    return [item(n, stratum="abcd"[min(3, n % 10)], key=f"g{n // 5}") for n in range(count)]


@pytest.mark.parametrize("how", HOW)
def test_the_same_rows_in_any_order_give_the_same_splits(how: str) -> None:
    rows = [replace(row, key=f"2026-03-{1 + n % 28:02}") for n, row in enumerate(stratified())]
    shuffled = random.Random(1).sample(rows, len(rows))
    assert deal(rows, SHARES, how, 3) == deal(shuffled, SHARES, how, 3)
    assert how == "time" or deal(rows, SHARES, how, 3) != deal(rows, SHARES, how, 4)


def test_strata_are_as_frequent_in_each_split() -> None:
    dealt = deal(stratified(), SHARES, "random", 0)
    assert [len(dealt[split]) for split in SPLITS] == [240, 80, 80]
    whole = Counter(row.stratum for row in stratified())
    for split in SPLITS:
        for stratum, count in Counter(row.stratum for row in dealt[split]).items():
            assert abs(count - SHARES[split] * whole[stratum]) <= 2


def test_a_group_is_one_however_it_is_spelled() -> None:
    names = [
        "Anna",
        "anna",
        "ANNA ",
        "Bob",
        "bob",
        "Cid",
        "\u00c9va",
        "E\u0301VA",
        "eva",
        "\u00e9va",
    ]
    rows = [item(n, key=names[n % len(names)]) for n in range(200)]
    dealt = deal(rows, SHARES, "group", 0)
    keys = [{row.key.strip().casefold() for row in dealt[split]} for split in SPLITS]
    keys = [{key.replace("e\u0301", "\u00e9") for key in split} for split in keys]
    assert not (keys[0] & keys[1] or keys[0] & keys[2] or keys[1] & keys[2])


def test_own_splits_are_in_the_order_of_time_or_refused() -> None:
    def rows(months: str) -> list[Item]:
        days = [
            (s, f"2026-0{m}-{1 + n:02}")
            for s, m in zip(SPLITS, months, strict=True)
            for n in range(9)
        ]
        return [item(n, key=day, split=split) for n, (split, day) in enumerate(days)]

    assert deal(rows("159"), SHARES, "time", 0)
    for months in ("951", "195", "519"):
        with pytest.raises(TaskError, match=r"is later than .* as the source has them"):
            deal(rows(months), SHARES, "time", 0)
    late = [replace(row, split="train" if row.split == "dev" else row.split) for row in rows("195")]
    with pytest.raises(TaskError, match=r'of dev \("2026-09-\d\d"\) is later than .* of test'):
        deal(late, SHARES, "time", 0)


DAYS = [(day, month) for month in range(1, 7) for day in (1, 5, 9, 12, 13, 20, 28)]
SPELLED = {
    "{0:02}/{1:02}/2026": DAYS,
    "{1}/{0}/2026 10:00": DAYS,
    "{0}-{1}-26": DAYS,
    "{0:02}.{1:02}.2026, 10:00": DAYS,
    "{0}.{1}.26": [(day, month) for day, month in DAYS if day < 13],
    "2026/{1}/{0}": DAYS,
    "{0} March 2026": [(day, 3) for day in range(1, 29)],
}


@pytest.mark.parametrize("spelling", SPELLED)
def test_all_dates_of_a_column_are_read_in_one_way(spelling: str) -> None:
    days = SPELLED[spelling]
    times = read_times({str(n): spelling.format(*day) for n, day in enumerate(days)})
    wanted = sorted(range(len(days)), key=lambda n: days[n][::-1])
    assert sorted(range(len(days)), key=lambda n: times[str(n)]) == wanted


def test_dates_that_can_be_read_in_two_ways_are_refused() -> None:
    def read(*texts: str) -> dict[str, float]:
        return read_times({f"r{n}": text for n, text in enumerate(texts)})

    with pytest.raises(
        TaskError, match=r'such as "01/02/2026", may have the day or the month first'
    ):
        read("01/02/2026", "02/01/2026")
    with pytest.raises(TaskError, match="the day neither always before the month"):
        read("13/02/2026", "02/13/2026")
    with pytest.raises(TaskError, match='r1: the time is "2026-13-02"'):
        read("2026-01-02", "2026-13-02")
    assert list(read("01/01/2026", "02/02/2026", "2026-03-01").values()) == sorted(
        read("01/01/2026", "02/02/2026", "2026-03-01").values()
    )
    assert read("31/12/99", "01/01/01")["r0"] < 1e9 < read("31/12/99", "01/03/05")["r1"]


def test_many_small_strata_do_not_add_up_to_another_share() -> None:
    rows = [item(n, stratum=f"label {n % 77}") for n in range(77 * 4)]
    dealt = deal(rows, SHARES, "random", 0)
    assert all(abs(len(dealt[split]) - SHARES[split] * len(rows)) < 1 for split in SPLITS)
    assert len({row.stratum for row in dealt["train"]}) == 77


def test_groups_stay_whole_and_strata_even() -> None:
    dealt = deal(stratified(1000), SHARES, "group", 0)
    keys = [{row.key for row in dealt[split]} for split in SPLITS]
    assert not (keys[0] & keys[1] or keys[0] & keys[2] or keys[1] & keys[2])
    for split in SPLITS:
        assert abs(len(dealt[split]) - 1000 * SHARES[split]) <= 5
        share = sum(row.stratum == "d" for row in dealt[split]) / len(dealt[split])
        assert abs(share - 0.7) < 0.03


def test_one_large_group_does_not_break_the_shares() -> None:
    rows = [item(n, key="z big" if n < 150 else f"g{n}") for n in range(300)]
    dealt = deal(rows, SHARES, "group", 0)
    assert [len(dealt[split]) for split in SPLITS] == [180, 60, 60]


def test_groups_of_many_small_strata_do_not_add_up_to_another_share() -> None:
    rows = [item(n, stratum=f"label {n % 77}", key=f"g{n}") for n in range(77 * 4)]
    dealt = deal(rows, SHARES, "group", 0)
    assert all(abs(len(dealt[split]) - SHARES[split] * len(rows)) < 3 for split in SPLITS)


def test_test_is_latest_and_no_moment_is_in_two_splits() -> None:
    rows = [item(n, key=f"2026-{1 + n // 98:02}-{1 + n % 98 // 7:02}") for n in range(300)]
    dealt = deal(random.Random(0).sample(rows, 300), SHARES, "time", 0)
    times = [{row.key for row in dealt[split]} for split in SPLITS]
    assert max(times[0]) < min(times[1]) and max(times[1]) < min(times[2])
    numbers = deal([item(n, key=str(n)) for n in range(100)], SHARES, "time", 0)
    assert {int(row.key) for row in numbers["test"]} == set(range(80, 100))


def test_own_splits_stay_and_missing_ones_are_cut_from_train() -> None:
    rows = [item(n, split="test" if n < 50 else "train") for n in range(250)]
    dealt = deal(rows, SHARES, "random", 0)
    assert sorted(ids(dealt["test"])) == sorted(f"r{n}" for n in range(50))
    assert len(dealt["train"]) == 150 and len(dealt["dev"]) == 50


def test_bad_splits_are_one_line() -> None:
    with pytest.raises(TaskError, match="no row is left for the split 'test'"):
        deal([item(0), item(1)], SHARES, "random", 0)
    with pytest.raises(TaskError, match='r1: the time is "soon"'):
        deal([item(0, key="2026-01-01"), item(1, key="soon")], SHARES, "time", 0)
    rows = [item(n, key="same", split=SPLITS[n % 3]) for n in range(9)]
    with pytest.raises(TaskError, match='the group "same" stands in train and dev'):
        deal(rows, SHARES, "group", 0)
    rows = [
        item(n, key="Anna "[:4].upper() if n % 2 else "Anna", split=SPLITS[n % 3]) for n in range(9)
    ]
    with pytest.raises(TaskError, match='the group "anna" stands in train and dev'):
        deal(rows, SHARES, "group", 0)
    for text in ("0.5,0.5", "a,b,c", "1,0,1", "nan,1,1", "inf,1,1"):
        with pytest.raises(TaskError, match="three shares"):
            parse_shares(text)


def test_a_sample_is_drawn_by_chance_and_the_same_again() -> None:
    rows = [item(n) for n in range(100)]
    found = sample(rows, 10, 0)
    assert found == sample(rows[::-1], 10, 0)[::-1] and ids(found) != ids(rows[:10])


GOLD = {
    "choice": ["late", "refund", "not late"] * 10,
    "number": [str(n * 3.5) for n in range(30)],
    "exact": [f"name {n}" for n in range(30)],
    "f1": [f"It is the answer of row {n}, in a sentence." for n in range(30)],
    "json": [f'{{"name": "n{n}", "count": {n}}}' for n in range(30)],
    "regex": [f"AB-{1000 + n}/x" for n in range(30)],
    "regex of codes": [f"{501 * n:05}" for n in range(30)],
    "exact codes": [f"0{n}" for n in range(0, 300, 7)],
    "regex and a note": [f"{10 + n},5{n % 10}" for n in range(30)],
    "exact and a note": [f"{n},5{n}" for n in range(30)],
}


@pytest.mark.parametrize("name", GOLD)
def test_the_scorer_suits_the_answers(name: str) -> None:
    rows = [item(n, answer=answer) for n, answer in enumerate(GOLD[name])]
    guess = guess_scorer(rows)
    case, name = name, name.split()[0]
    assert guess.scorer == name and guess.why and bool(guess.note) == ("note" in case)
    assert guess_scorer(rows, name).scorer == name
    scorer = build_scorer(guess.scorer, guess.choices, guess.pattern)
    assert all(scorer([answer], answer).correct for answer in GOLD[case])
    if name not in ("choice", "f1"):  # whose instruction names the labels
        assert not any(answer in guess.instruction for answer in GOLD[name])


def test_a_code_is_not_its_number() -> None:
    codes = [f"{501 * n:05}" for n in range(30)]
    guess = guess_scorer([item(n, answer=code) for n, code in enumerate(codes)])
    scorer = build_scorer(guess.scorer, guess.choices, guess.pattern)
    assert scorer(["00501"], "It is 00501.").correct and not scorer(["00501"], "501").correct


def test_a_decimal_comma_is_told_and_never_read_as_a_number() -> None:
    rows = [item(n, answer=f"{n},5{n}") for n in range(30)]
    assert '"0,50" is compared as text' in guess_scorer(rows).note
    with pytest.raises(TaskError, match='scorer number: "0,50" has a decimal comma'):
        guess_scorer(rows, "number")
    assert guess_scorer([item(n, answer=f"{n},250") for n in range(30)]).scorer == "number"


def test_reasoning_that_ends_with_a_number() -> None:
    rows = [item(n, answer=f"{n} and 2 are {n + 2}.\n#### {n + 2}") for n in range(20)]
    assert guess_scorer(rows).scorer == "number" and "####" in guess_scorer(rows).instruction


def test_marks_among_other_words_are_no_form() -> None:
    rows = [item(n, answer=f"AB-{n}" if n else "none") for n in range(20)]
    assert guess_scorer(rows).scorer == "exact"
    with pytest.raises(TaskError, match="no form in common"):
        guess_scorer(rows, "regex")


def test_one_answer_for_all_is_refused() -> None:
    with pytest.raises(TaskError, match="nothing to learn"):
        guess_scorer([item(n, answer="yes") for n in range(9)])


def test_a_histogram_counts_every_number_once() -> None:
    numbers = [random.Random(0).randint(1, 50) for _ in range(100)] + [1000, 3, 4]
    lines = list(histogram(numbers))
    assert sum(int(line.split()[1].replace(",", "")) for line in lines) == len(numbers)
    assert len(lines) <= 9 and list(histogram([7])) == ["7        1  " + "#" * 40]
