"""The prompt is the contract between RL, DSPy and the evaluator: its bytes are pinned here."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import Demo, Prompt

TEXT = st.text(max_size=30)
FIELDS = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=3, unique=True)


@st.composite
def prompts(draw):
    fields = tuple(draw(FIELDS))
    demo = st.builds(
        Demo, inputs=st.fixed_dictionaries(dict.fromkeys(fields, TEXT)), output=TEXT, reasoning=TEXT
    )
    return Prompt(
        instruction=draw(TEXT),
        inputs=fields,
        output=draw(st.sampled_from(["answer", "past", "label"])),
        demos=tuple(draw(st.lists(demo, max_size=3))),
        style=draw(st.sampled_from(["direct", "cot"])),
    )


@given(prompts())
def test_prompt_survives_json(prompt):
    again = Prompt.from_json(prompt.to_json())
    assert again == prompt
    inputs = {field: "x" for field in prompt.inputs}
    assert again.messages(inputs) == prompt.messages(inputs)


def test_direct_messages_are_these_bytes():
    prompt = Prompt("Past tense.", ("verb",), "past", (Demo({"verb": "go"}, "went", "unseen"),))
    assert prompt.messages({"verb": "sing"}) == [
        {"role": "system", "content": "Past tense."},
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": "went"},
        {"role": "user", "content": "sing"},
    ]


def test_several_inputs_are_labelled_and_no_instruction_means_no_system_turn():
    prompt = Prompt("", ("text", "question"))
    assert prompt.messages({"question": "Why?", "text": "So."}) == [
        {"role": "user", "content": "Text: So.\nQuestion: Why?"}
    ]


def test_cot_messages_are_these_bytes():
    prompt = Prompt(
        "Past.", ("verb",), "past", (Demo({"verb": "go"}, "went", "Suppletive."),), "cot"
    )
    assert prompt.messages({"verb": "sing"}) == [
        {
            "role": "system",
            "content": "Past.\nThink step by step. Then write the final answer on a last line that "
            'starts with "Past:".',
        },
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": "Suppletive.\nPast: went"},
        {"role": "user", "content": "sing"},
    ]


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("It is irregular.\nAnswer: went", "went"),
        ("Answer: goed\nNo.\nAnswer: went \n", "went"),
        ("went", None),
        ("", None),
        ("Answer:", ""),
    ],
)
def test_cot_extracts_what_follows_the_last_marker(reply, answer):
    assert Prompt("", style="cot").extract(reply) == answer


@given(TEXT)
def test_direct_extracts_everything(text):
    assert Prompt("").extract(text) == text.strip()


@given(prompts(), TEXT)
def test_extract_finds_the_answer_of_a_demo(prompt, reasoning):
    reply = f"{reasoning}\n{prompt.marker} went" if prompt.style == "cot" else "went"
    assert prompt.extract(reply) == "went"
