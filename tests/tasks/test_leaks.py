"""The guard finds what was planted in a prompt, names it in one line, and lets clean ones pass."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest

from tasks.inflection import Inflection
from tasks.leaks import check_prompt
from tasks.types import Demo, Example, Prompt, SplitName, TaskError

TASK = Inflection()
VERBS = Prompt.of(TASK)
WORDS = ["river", "stone", "lamp", "copper", "winter", "orchard"]
WORDS += ["engine", "violet", "harbour", "paper", "silver", "candle"]


def leak(
    prompt: Prompt, before: Prompt, train: Sequence[Example], **held_out: Sequence[Example]
) -> str:
    """What the guard says; "" when it lets the prompt pass."""
    splits: dict[SplitName, Sequence[Example]] = {
        "dev": held_out.get("dev", ()),
        "test": held_out["test"],
    }
    try:
        check_prompt(prompt, before, train, splits)
    except TaskError as error:
        assert str(error).startswith("prompt: ") and "\n" not in str(error)
        return str(error)
    return ""


def verbs_leak(instruction: str = VERBS.instruction, demos: Sequence[Demo] = ()) -> str:
    prompt = replace(VERBS, instruction=instruction, demos=tuple(demos))
    splits = {name: TASK.split(name) for name in ("train", "dev", "test")}
    return leak(prompt, VERBS, splits["train"], dev=splits["dev"], test=splits["test"])


def demo(example: Example, output: str | None = None, reasoning: str = "") -> Demo:
    return Demo(example.inputs, example.answer if output is None else output, reasoning)


def sentences(split: str, count: int, length: int = 12) -> list[Example]:
    """Long inputs of common words, open answers of one word."""
    draw = random.Random(split)
    texts = [" ".join(draw.choices(WORDS, k=length)).capitalize() + "." for _ in range(count)]
    return [Example(f"{split}-{i}", {"input": t}, f"{split}{i}") for i, t in enumerate(texts)]


TRAIN, TEST = sentences("train", 40), sentences("test", 40)
LONG = TEST[7].inputs["input"]
START = Prompt("Read the text and answer.")


def long_leak(addition: str, train: Sequence[Example] = TRAIN, start: Prompt = START) -> str:
    prompt = replace(start, instruction=f"{start.instruction} Pay attention.\n{addition}\nNow go.")
    return leak(prompt, start, train, test=TEST)


# Short inputs


GO = next(e for e in TASK.split("test") if e.answer != e.inputs["verb"])
VERB, PAST = GO.inputs["verb"], GO.answer


@pytest.mark.parametrize(
    "text",
    [
        "{v} -> {p}",
        "{v} → {p}",
        "{v}: {p}",
        "{v}, {p}",
        "| {v} | {p} |",
        '{{"{v}": "{p}"}}',
        "{v} becomes {p}",
        "Input: {v}\nOutput: {p}",
        "Verb: {v}\n  Past tense: {p}",
        "the past tense of '{v}' is '{p}'",
        "**{p}** is the past tense of **{v}**",
        "{V} => {P}",
    ],
)
def test_a_test_verb_with_its_past(text: str) -> None:
    shown = text.format(v=VERB, p=PAST, V=VERB.upper(), P=PAST.upper())
    line = verbs_leak(f"Give the past tense, for example {shown} and so on.")
    assert "the instruction holds test example" in line
    assert f'"{GO.id}"' in line and VERB in line.lower() and PAST in line.lower()


def test_dev_is_held_out_too() -> None:
    example = TASK.split("dev")[3]
    line = verbs_leak(f"Give the past tense ({example.inputs['verb']} -> {example.answer}).")
    assert f'dev example "{example.id}"' in line


def test_a_verb_whose_past_is_the_verb() -> None:
    train, test = [Example("a", {"verb": "cut"}, "cut")], [Example("b", {"verb": "put"}, "put")]
    for text, wrong in (("put -> put", True), ("put the word where you put it", False)):
        prompt = replace(VERBS, instruction=f"Give the past tense: {text}.")
        assert bool(leak(prompt, VERBS, train, test=test)) == wrong


def test_a_test_verb_and_its_past_by_chance() -> None:
    texts = ["{v}. {p} it was", "{v}, then {p}", "{p}: {v}", "{v}: do as you were told, {p}"]
    for text in [*texts, "{p} from {v}"]:
        assert verbs_leak(f"Past tense. To {text.format(v=VERB, p=PAST)} again.") == "", text


@pytest.mark.parametrize(
    "instruction",
    [
        "",
        "Give the past tense of the verb. Answer with one word.",
        "Give, in one word, the past tense. Do not answer with a sentence, do not explain.",
        "You will be given a verb. Write its simple past form. Think of how the verb is used, and "
        "check whether it is irregular. If it ends in -e, add -d; if it ends in a consonant and y, "
        "change y to i and add -ed. Never add quotes. Use lower case and type one word only.",
        "Return only the past tense. Stop after that word. Do not repeat the verb you were given; "
        "say what a speaker would say if the action were finished, completed, or ended yesterday.",
        "Task: inflection. Input: an English verb. Output: the past. Remember: some verbs change "
        "their vowel, others do not change at all; a few are replaced by another word. Make sure "
        "that the form you made is the past, not the participle (the one used after have).",
        "Test each candidate against: was it used in print? If the answer sounds wrong, remove it "
        "and try again. Control yourself: one word, one line, no comment. Mark nothing.",
    ],
)
def test_verbs_in_running_text_are_no_leak(instruction: str) -> None:
    """Many of these words are verbs of dev and test."""
    assert verbs_leak(instruction) == ""


def test_the_examples_of_train_may_be_told() -> None:
    listed = "\n".join(f"{e.inputs['verb']} -> {e.answer}" for e in TASK.split("train")[:100])
    assert verbs_leak(f"Give the past tense. For example:\n{listed}") == ""


def test_a_short_input_inside_a_longer_one_of_train() -> None:
    train = [Example("a", {"verb": "pick up"}, "picked up")]
    test = [Example(f"t{i}", {"verb": f"verb{i}"}, f"past{i}") for i in range(30)]
    test.append(Example("b", {"verb": "pick"}, "picked"))
    told = replace(VERBS, instruction="Give the past: pick up -> picked up.")
    assert leak(told, VERBS, train, test=test) == ""
    told = replace(VERBS, instruction="Give the past: pick up -> picked up, pick -> picked.")
    assert '"pick -> picked"' in leak(told, VERBS, train, test=test)


LABELS = ["noun", "verb", "adjective"]
TAGGED = [Example(f"w{i}", {"word": w}, LABELS[i % 3]) for i, w in enumerate(WORDS)]
TAGS = Prompt("Name the kind of the word.", ("word",))


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("Write noun, verb or adjective. A river is a noun, a stone too.", False),
        ("A word is noun, verb, adjective; silver, noun or verb, is often unclear.", False),
        ("river: noun", True),
        ("Word: river\nKind: noun", True),
        ("river: verb", False),
        ("Mark each river noun and each 'stone' as 'verb'.", False),
    ],
)
def test_labels_stand_near_anything(text: str, wrong: bool) -> None:
    prompt = replace(TAGS, instruction=f"Name the kind of the word. {text}")
    assert bool(leak(prompt, TAGS, TAGGED[6:], test=TAGGED[:6])) == wrong


def test_several_short_fields() -> None:
    sums = [(a, b) for a in range(11, 20) for b in range(31, 40)]
    random.Random(0).shuffle(sums)
    rows = [Example(f"{a}+{b}", {"a": str(a), "b": str(b)}, str(a * b)) for a, b in sums]
    start = Prompt("Multiply.", ("a", "b"))
    a, b = sums[60]
    for text, wrong in (
        (f"{a} * {b} = {a * b}", True),
        (f"A: {a}\nB: {b}\nAnswer: {a * b}", True),
        (f"Number: {a}\nSecond number, larger: {b}\nThe answer: {a * b}", True),
        (f"{a} to {b} words", False),
        (f"write {a * b} in digits", False),
    ):
        prompt = replace(start, instruction=f"Multiply. {text}")
        assert bool(leak(prompt, start, rows[:60], test=rows[60:])) == wrong, text


def test_short_inputs_in_scripts_without_spaces() -> None:
    rows = [Example(f"e{i}", {"q": f"都市{i}"}, f"国家名{i}") for i in range(30)]
    test = [*rows, Example("city", {"q": "京都"}, "日本国")]
    start = Prompt("国の名前。", ("q",))
    told = {"京都→日本国": True, "「日本国」は「京都」の国": True, "京都日本国": False}
    for text, wrong in told.items():
        assert bool(leak(replace(start, instruction=text), start, (), test=test)) == wrong, text


# Long inputs


@pytest.mark.parametrize(
    ("text", "how"),
    [
        (LONG, "holds"),
        (LONG.upper().replace(" ", "  \n").removesuffix("."), "holds"),
        (LONG.replace(" ", ", "), "holds"),
        (f'"{LONG}"', "holds"),
        (" ".join(["Once", *LONG.split()[1:]]), "nearly holds"),
        (" ".join(["zebra" if i == 5 else word for i, word in enumerate(LONG.split())]), "nearly"),
        (" ".join([*LONG.split()[6:], "and", *LONG.split()[:6]]), "nearly holds"),
    ],
)
def test_a_long_input(text: str, how: str) -> None:
    line = long_leak(text)
    assert f"the instruction {how}" in line and 'test example "test-7"' in line and LONG in line


def test_a_long_input_among_scripts_without_spaces() -> None:
    text = "昨日の夜、友達と一緒に映画を見に行きました。"
    test = [Example("a", {"input": text}, "x")]
    assert "holds" in leak(Prompt(f"例えば「{text}」です"), Prompt("例"), (), test=test)
    other = Prompt("昨日の映画を見ましたか。答えを書いてください。")
    assert leak(other, Prompt("例"), (), test=test) == ""


def test_an_input_of_signs() -> None:
    brackets = "[ ( { < > } ) ] ( ( [ { } ] ) )"
    test = [Example("a", {"input": brackets}, "yes")]
    assert "holds" in leak(Prompt(f"Close them: {brackets}"), Prompt("Close."), (), test=test)
    assert leak(Prompt("Close them: [ ( ) ]"), Prompt("Close."), (), test=test) == ""


def test_a_piece_of_a_very_long_input() -> None:
    text = " ".join(f"word{i}" for i in range(300))
    test = [Example("a", {"input": text}, "x")]
    piece = " ".join(text.split()[100:113])
    assert "nearly holds" in leak(Prompt(f"Such as {piece}."), Prompt("Go."), (), test=test)
    piece = " ".join(text.split()[100:110])
    assert leak(Prompt(f"Such as {piece}."), Prompt("Go."), (), test=test) == ""


def test_what_train_says_may_be_said() -> None:
    assert long_leak(TRAIN[3].inputs["input"]) == ""
    within = Example("long", {"input": f"They said: {LONG} And so on."}, "x")
    assert long_leak(LONG, [*TRAIN, within]) == ""


def test_what_the_user_wrote_may_stay() -> None:
    by_hand = Prompt(f"Read the text and answer. For example: {LONG}")
    assert long_leak("", start=by_hand) == ""
    assert "nearly" in long_leak(" ".join(["Once", *LONG.split()[1:]]))
    prompt = replace(VERBS, instruction=f"Past tense: {VERB} -> {PAST}.")
    rewritten = replace(prompt, instruction=f"The past tense, please: {VERB} -> {PAST}!")
    assert leak(rewritten, prompt, TASK.split("train"), test=TASK.split("test")) == ""


def test_a_template_is_no_leak() -> None:
    def ask(split: str, rows: range) -> list[Example]:
        text = "John has {} apples and buys {} more at the market. How many does he have now?"
        return [Example(f"{split}{i}", {"input": text.format(i, 2 * i)}, str(3 * i)) for i in rows]

    train, test, start = ask("train", range(3, 9)), ask("test", range(20, 60)), Prompt("Count.")
    quoted = replace(start, instruction=f"Count. For example: {train[0].inputs['input']} 9")
    assert leak(quoted, start, train, test=test) == ""
    quoted = replace(start, instruction=f"Count. For example: {test[0].inputs['input']} 60")
    assert "test20" in leak(quoted, start, train, test=test)


# Answers


def answered(split: str, answers: Sequence[str]) -> list[Example]:
    return [Example(f"{split}-{i}", {"q": f"{split} {i}?"}, a) for i, a in enumerate(answers)]


def test_a_long_answer_that_is_no_label() -> None:
    start = Prompt("Who was it?", ("q",))
    names = [f"Admiral Number {i} of the {word} fleet" for i, word in enumerate(WORDS * 3)]
    train, test = answered("train", names[:12]), answered("test", names[12:])
    told = replace(start, instruction=f"Who was it? Not {names[5]}, but {names[20].upper()}.")
    line = leak(told, start, train, test=test)
    assert 'the answer of test example "test-8"' in line and names[20] in line
    told = replace(start, instruction=f"Who was it? Often {names[20]}.")
    assert leak(told, start, [*train, Example("x", {"q": "x"}, names[20])], test=test) == ""


def test_a_long_label_is_no_leak() -> None:
    start = Prompt("Which intent?", ("q",))
    labels = [f"request for a {word} refund" for word in WORDS]
    train, test = answered("train", labels[:4] * 5), answered("test", labels * 5)
    told = replace(start, instruction="Which intent? One of: " + "; ".join(labels))
    assert leak(told, start, train, test=test) == ""


# Demos


def test_demos_of_train_pass_whatever_they_answer() -> None:
    train = TASK.split("train")
    shown = [demo(train[0]), demo(train[1], "anything"), demo(train[2], PAST, "It is irregular.")]
    assert verbs_leak(demos=shown) == ""
    assert verbs_leak(demos=[demo(example) for example in train]) == ""


@pytest.mark.parametrize("split", ["dev", "test"])
def test_a_demo_from_elsewhere(split: SplitName) -> None:
    example = TASK.split(split)[5]
    line = verbs_leak(demos=[demo(TASK.split("train")[0]), demo(example)])
    assert f'demo 2 asks "{example.id}", which is {split} example "{example.id}"' in line


def test_a_demo_from_nowhere() -> None:
    assert "no train example" in verbs_leak(demos=[Demo({"verb": "xyzzy"}, "xyzzied")])
    line = leak(
        START.with_demos([Demo({"input": f"({LONG[:-1]}!)"}, "x")]), START, TRAIN, test=TEST
    )
    assert "demo 1" in line and "test-7" in line and "but for punctuation" in line


def test_demos_of_the_incoming_prompt_may_stay() -> None:
    by_hand = replace(VERBS, demos=(Demo({"verb": "xyzzy"}, "xyzzied", f"Like {VERB} -> {PAST}"),))
    kept = replace(by_hand, demos=(*by_hand.demos, demo(TASK.split("train")[0])))
    assert leak(kept, by_hand, TASK.split("train"), test=TASK.split("test")) == ""


def test_what_a_demo_replies_is_searched() -> None:
    train = TASK.split("train")
    line = verbs_leak(demos=[demo(train[0]), demo(train[1], None, f"As in {VERB} -> {PAST}.")])
    assert "demo 2 holds test example" in line
    shown = Demo(TRAIN[0].inputs, f"It says: {LONG}")
    line = leak(START.with_demos([shown]), START, TRAIN, test=TEST)
    assert "demo 1 holds" in line and "test-7" in line


def test_thousands_of_examples_do_not_stall() -> None:
    train, test = sentences("train", 2000, 40), sentences("test", 5000, 40)
    prompt = Prompt("Read. " + " ".join(e.inputs["input"] for e in train[:20]))
    start = time.process_time()
    check_prompt(prompt, START, train, {"test": test})
    assert time.process_time() - start < 5  # half a second when nothing else runs
