"""What each form is worth, and that a hostile answer is worth little rather than an exception."""

from __future__ import annotations

import json
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_models.config import parse_reward
from reward_models.formats import format_reward
from reward_models.partial import json_fields, numeric
from reward_models.types import RewardError
from tasks.types import Prompt

DIRECT = Prompt("", ("q",))
SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
BOTH = "<think>because</think> <answer>so</answer>"


def worth(raw, *texts: str, prompt: Prompt = DIRECT, **columns) -> list[float | None]:
    return format_reward(parse_reward(raw), prompt)([""] * len(texts), texts, **columns)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (BOTH, 1.0),
        (f"\n{BOTH}\n", 1.0),
        (f"well: {BOTH}", 0.5),
        ("<think>a</think>", 0.25),
        ("<think>a<answer>b</answer></think>", 0.0),  # one within the other
        ("<answer>b</answer><think>a</think>", 0.0),
        ("<think>a</think><answer>b", 0.25),
        (f"{BOTH}<answer>again</answer>", 0.25),
        ("</think>a<think>", 0.0),
        (f"<think>{BOTH}", 0.25),
        ("", 0.0),
    ],
)
def test_tags(text, value):
    assert worth({"format": "tags"}, text) == [value]


def test_text_outside_tags_may_be_allowed():
    think = {"format": "tags", "names": ["think"], "outside": "anything"}
    assert worth(think, "<think>a</think> b", "b") == [1.0, 0.0]


def test_json_of_a_schema():
    texts = ['{"n": 3}', '{"n": "3"}', "[1]", "n = 3", "", "NaN", '```json\n{"n": 3}\n```']
    strict = {"format": "json", "json_schema": SCHEMA}
    assert worth(strict, *texts) == [1.0, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0]
    assert worth({"format": "json"}, *texts[:3]) == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("text", ["1e999", "9" * 400, "-0", '{"n": 1e999}', "9" * 5000])
def test_numbers_no_schema_was_made_for_are_no_exception(text):
    odd = {"anyOf": [{"multipleOf": 0.3}, SCHEMA], "maximum": 10, "uniqueItems": True}
    [value] = worth({"format": "json", "json_schema": odd}, text)
    assert value in (0.0, 0.5, 1.0)
    assert json_fields(f"[{text}, 1]", f"[{text}, 1]") in (0.0, 0.5)


def test_json_is_the_answer_not_the_reasoning():
    cot = Prompt("", ("q",), style="cot")
    assert worth({"format": "json"}, "So.\nAnswer: [1]", "[1]", prompt=cot) == [1.0, 0.0]


def test_json_that_nests_without_end_is_no_json():
    assert worth({"format": "json", "json_schema": SCHEMA}, "[" * 90_000) == [0.0]


def test_a_schema_from_a_file(tmp_path):
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(SCHEMA))
    assert worth({"format": "json", "json_schema": str(path)}, '{"n": 3}', "3") == [1.0, 0.5]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"format": "json", "json_schema": {"type": "intger"}}, "json_schema is no JSON schema"),
        ({"format": "json", "json_schema": "no.json"}, "json_schema 'no.json': .*name a .json"),
        ({"format": "json", "json_schema": {"$ref": "http://127.0.0.1:9/x"}}, "write it out"),
        ({"format": "language", "scripts": ["Latn1"]}, "'Latn1' is no script of Unicode"),
        ({"format": "language", "scripts": ["Latinn"]}, 'did you mean "Latin"'),
        ({"format": "language", "scripts": ["}"]}, "is no script"),
    ],
)
def test_a_form_that_is_none_is_one_line(raw, message):
    with pytest.raises(RewardError, match=message) as caught:
        worth(raw, "x")
    assert "\n" not in str(caught.value)


def test_a_schema_is_never_fetched(monkeypatch):
    tried = []
    monkeypatch.setattr(socket, "create_connection", lambda *where, **_: tried.append(where))
    with pytest.raises(RewardError, match="write it out"):
        worth({"format": "json", "json_schema": {"$ref": "http://127.0.0.1:9/x"}}, "[1]")
    assert not tried


def test_length_window():
    words = {"format": "length", "min": 2, "max": 4}
    assert worth(words, "", "a", "a b", "a b c d", "a b c d e", "a " * 8, "a " * 99) == [
        0.0, 0.5, 1.0, 1.0, 0.75, 0.0, 0.0,
    ]  # fmt: skip
    assert worth({**words, "unit": "chars"}, " abc ", "abcde") == [1.0, 0.75]
    tokens = {**words, "unit": "tokens"}
    assert worth(tokens, "a", "a", completion_ids=[[1, 2], [1]]) == [1.0, 0.5]


def test_language_is_the_share_of_letters_of_a_script():
    latin = {"format": "language", "scripts": ["Latin"]}
    assert worth(latin, "déjà vu!", "да yes", "42", "", "да") == [1.0, 0.6, 0.0, 0.0, 0.0]
    japanese = {"format": "language", "scripts": ["Han", "Hiragana", "Katakana"]}
    assert worth(japanese, "日本のテレビ") == [1.0]


@pytest.mark.parametrize(
    ("text", "form", "value"),
    [
        ("about 110.", "100", 0.5 / 1.1),
        ("3 apples, so 100", "100", 0.5),
        ("-100", "100", 0.5 / 3),
        ("2", "0", 0.5 / 3),
        ("1,050", "1000", 0.5 / 1.05),
        ("5%", "0.05", 0.5),
        ("none", "3", 0.0),
        ("3", "none", 0.0),
        ("9e999", "3", 0.0),
    ],
)
def test_numeric_credit(text, form, value):
    assert numeric(text, form) == pytest.approx(value)


GOLD = '{"name": "Ada Lovelace", "born": 1815, "fields": ["maths", "poetry"]}'


@pytest.mark.parametrize(
    ("text", "f1"),
    [
        (GOLD, 1.0),
        ('```json\n{"born": 1815.0, "name": "ada lovelace"}\n```', 2 * 2 / (2 + 4)),
        ('It is {"fields": ["poetry", "maths"]}', 2 * 2 / (2 + 4)),  # a list is a bag
        ('{"fields": ["maths", "maths"]}', 2 * 1 / (2 + 4)),
        ('{"name": "Ada Lovelace", "born": 1, "fields": []}', 2 * 1 / (2 + 4)),
        ('{"born": true}', 0.0),
        ("nothing", 0.0),
        ("{" * 5000, 0.0),
        ("[" * 90_000, 0.0),
    ],
)
def test_json_field_credit(text, f1):
    assert json_fields(text, GOLD) == pytest.approx(0.5 * f1)


@given(st.text(max_size=60), st.text(max_size=20))
def test_credit_and_forms_stay_within_bounds(text, form):
    assert 0 <= numeric(text, form) <= 0.5 and 0 <= json_fields(text, form) <= 0.5
    forms = ({"format": "tags"}, {"format": "json"}, {"format": "length", "min": 3, "max": 5})
    for raw in (*forms, {"format": "language", "scripts": ["Greek"]}):
        [value] = worth(raw, text)
        assert value is not None and 0 <= value <= 1
