"""Schemas from signatures, and calls that never raise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pytest

from evaluation.environment import Environment, scoring, toolboxes
from tasks import Example, Prompt, Score, Task, TaskError
from tasks.load import check_shape
from tasks.tools import RESULT_CHARS, Toolbox, calling, calls_of, schema_of, unanswered


def look(city: str, days: int = 1, unit: Literal["C", "F"] = "C", tags: list[str] | None = None):
    """Tells the weather
    of a city.

    Args:
        city: its name
        days (int): how many
    """
    if city == "nowhere":
        raise KeyError("nowhere")
    return {"city": city, "days": days, "unit": unit, "tags": tags}


BOX = Toolbox.of([look], 3)


def test_a_schema_says_what_signature_and_docstring_say() -> None:
    told = schema_of(look)["function"]
    assert told["name"] == "look"
    assert told["description"] == "Tells the weather of a city."
    shape = told["parameters"]
    assert shape["type"] == "object" and shape["required"] == ["city"]
    assert shape["properties"]["city"] == {"type": "string", "description": "its name"}
    assert shape["properties"]["days"] == {
        "type": "integer",
        "default": 1,
        "description": "how many",
    }
    assert shape["properties"]["unit"]["enum"] == ["C", "F"]


def untyped(city):
    """Looks."""


def wordless(city: str) -> str:
    return city


def many(*cities: str) -> str:
    """Looks."""
    return ""


def strange(city: range) -> str:
    """Looks."""
    return ""


@pytest.mark.parametrize(
    ("tool", "line"),
    [
        (untyped, "tools: untyped: parameter city has no type; write city: str"),
        (wordless, "tools: wordless: no docstring"),
        (many, "parameter cities is no plain one"),
        (strange, "a type that JSON does not know"),
        (lambda: 1, "has no name to call it by"),
    ],
)
def test_a_function_that_is_no_tool_is_refused_in_one_line(tool: Any, line: str) -> None:
    with pytest.raises(TaskError) as refused:
        schema_of(tool)
    assert line in str(refused.value) and "\n" not in str(refused.value)


def test_a_call_is_answered() -> None:
    message = BOX.call("look", {"city": "Bern", "tags": ["a"]})
    assert message["content"] == '{"city": "Bern", "days": 1, "unit": "C", "tags": ["a"]}'
    assert message["role"] == "tool" and "error" not in message


DEEP: Any = []
for _ in range(10_000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("lock", {"city": "Bern"}, "unknown_tool"),
        ("\ud800", {}, "unknown_tool"),
        ("look", {}, "bad_arguments"),
        ("look", {"city": 3}, "bad_arguments"),
        ("look", {"city": "Bern", "days": "3"}, "bad_arguments"),
        ("look", {"city": "Bern", "unit": "K"}, "bad_arguments"),
        ("look", {"city": "Bern", "where": "x"}, "bad_arguments"),
        ("look", {"city": "Bern", "days": float("nan")}, "bad_arguments"),
        ("look", {"city": "x" * 100_000}, "bad_arguments"),
        ("look", {"city": DEEP}, "bad_arguments"),
        ("look", {"city": "nowhere"}, "tool_error"),
    ],
)
def test_what_goes_wrong_is_a_message(name: str, arguments: dict[str, Any], error: str) -> None:
    message = BOX.call(name, arguments)
    assert message["error"] == error
    assert message["content"].startswith("error: ")
    message["content"].encode()


def test_results_are_bounded_and_can_be_sent() -> None:
    def flood(size: int) -> str:
        """Says much."""
        return "\ud800" + "x" * size

    said = Toolbox.of([flood], 2).call("flood", {"size": 100_000})["content"]
    assert len(said) < RESULT_CHARS + 50 and "cut, 100001 characters" in said
    said.encode()


def test_calls_are_read_out_of_a_transcript() -> None:
    transcript = [
        calling("look", city="Bern"),
        {"role": "tool", "name": "look", "content": "fine"},
        {"role": "assistant", "content": "<tool_call>", "malformed": "no JSON"},
        {"role": "tool", "name": "", "content": "error: …", "error": "malformed_call"},
        calling("look", city="Rome"),
    ]
    first, second = calls_of(transcript)
    assert (first.name, first.arguments, first.result) == ("look", {"city": "Bern"}, "fine")
    assert first.error is None and second.error == "malformed_call" and second.name == ""
    assert unanswered(transcript) and not unanswered([{"role": "assistant", "content": "x"}])


class Weather(Task):
    name = "weather"
    instruction = "Say it."
    failure_classes: Mapping[str, str] = {"wrong": "Wrong."}
    tools = (look,)

    def split(self, name: str):
        return [Example(f"{name}-1", {"input": "?"}, "fine")]

    def score(self, example: Example, text: str) -> Score:
        right = text == example.answer
        return Score(float(right), right, None if right else "wrong", "" if right else "No.")


def test_a_task_with_tools_offers_them_in_its_prompt() -> None:
    task = check_shape(Weather(), "here")
    prompt = Prompt.of(task)
    assert prompt.messages({"input": "?"})[0]["role"] == "tools"
    assert Prompt.from_json(prompt.to_json()) == prompt
    score = scoring(task)
    assert isinstance(score, Environment)
    example = task.split("train")[0]
    [box] = toolboxes(score, prompt, [example])
    assert box is not None and box.max_turns == 4 and "look" in box.tools
    assert score.of_transcript(example, [{"role": "assistant", "content": "fine"}]).correct


@pytest.mark.parametrize("what", [{"malformed": "no end"}, {"tool_calls": [{"name": "look"}]}])
def test_a_call_that_nobody_answered_is_no_answer(what: dict[str, Any]) -> None:
    task = Weather()
    [example] = task.split("train")
    turn = {"role": "assistant", "content": example.answer}
    assert task.score_transcript(example, [turn]).correct
    assert not task.score_transcript(example, [{**turn, **what}]).correct


def test_without_tools_in_the_prompt_there_are_none() -> None:
    prompt = Prompt("Say it.")
    assert toolboxes(scoring(Weather()), prompt, Weather().split("dev")) == [None]
    assert '"tools"' not in prompt.to_json()
    with pytest.raises(TaskError, match="the prompt offers some and the task has none"):
        toolboxes(Weather().score, Prompt.of(Weather()), Weather().split("dev"))
