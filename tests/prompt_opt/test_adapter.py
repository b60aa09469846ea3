"""What reaches the model is `Prompt.messages`, byte for byte, whatever way a program was made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dspy
import pytest

from lm.scripted import ScriptedLM
from lm.types import Chat, Sampling
from prompt_opt.adapter import PlainPredict, asked, prompt_of
from prompt_opt.engine import Engine
from tasks.types import Demo, Prompt, TaskError

ONE, TWO = ("verb",), ("verb", "person")
PLAIN = Prompt("Give the past tense.", ONE, "past")
DEMOS = (
    Demo({"verb": "go", "person": "I"}, "went"),
    Demo(
        {"verb": "naïve — 食べる\n\t ", "person": " 🙂 "}, " ate \n", "irregular.\n  So: past: ate"
    ),
    Demo({"verb": "", "person": ""}, ""),
)


def demos(inputs: Sequence[str]) -> tuple[Demo, ...]:
    return tuple(
        Demo({name: demo.inputs[name] for name in inputs}, demo.output, demo.reasoning)
        for demo in DEMOS
    )


PROMPTS = [
    PLAIN,
    Prompt("", ONE, "past"),
    Prompt("  Indented.\n    More so.  \n\n", ONE, "past", demos(ONE)),
    Prompt("Zwei Felder: “ä” 🙂", TWO, "past", demos(TWO)),
    Prompt("Think.", ONE, "past", demos(ONE), "cot"),
    Prompt("", TWO, "past", demos(TWO), "cot"),
]


def sent(program: PlainPredict, inputs: dict[str, str], folder: Path, reply: str = "x") -> Chat:
    """The one chat that reaches the model."""
    seen: list[Chat] = []

    def answer(chat: Chat, _: int) -> str:
        seen.append(chat)
        return reply

    with Engine(ScriptedLM(answer), Sampling(), folder) as engine, dspy.context(lm=engine.lm):
        program(**inputs)
    [chat] = seen
    return chat


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_model_sees_the_prompts_own_bytes(prompt: Prompt, tmp_path: Path) -> None:
    inputs = {name: f" {name} 食\n" for name in prompt.inputs}
    assert sent(PlainPredict(prompt), inputs, tmp_path) == prompt.messages(inputs)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_there_and_back(prompt: Prompt) -> None:
    bare = prompt.style == "direct"  # reasoning is no part of a direct prompt's bytes
    shown = tuple(Demo(d.inputs, d.output, "" if bare else d.reasoning) for d in prompt.demos)
    assert prompt_of(PlainPredict(prompt)) == prompt.with_demos(shown)
    assert prompt_of(PlainPredict(prompt).deepcopy()) == prompt.with_demos(shown)
    assert prompt_of(PlainPredict(prompt).reset_copy()) == prompt.with_demos(())


def test_an_instruction_moved_by_an_optimizer_is_the_prompts() -> None:
    program: Any = PlainPredict(PROMPTS[2])
    program.signature = program.signature.with_instructions("New words.")
    assert prompt_of(program).instruction == "New words."
    assert prompt_of(program).demos == tuple(Demo(d.inputs, d.output) for d in PROMPTS[2].demos)


def test_a_demo_without_reasoning_shows_the_answer_line_alone(tmp_path: Path) -> None:
    program = PlainPredict(Prompt("Think.", ONE, "past", style="cot"))
    program.demos = [dspy.Example(verb="go", past="went")]  # as LabeledFewShot leaves them
    assert sent(program, {"verb": "see"}, tmp_path)[2]["content"] == "Past: went"


@pytest.mark.parametrize(
    ("style", "reply", "fields"),
    [
        ("direct", " went \n", {"past": "went"}),
        ("direct", "", {"past": ""}),
        ("cot", "It is odd.\nPast: went", {"reasoning": "It is odd.", "past": "went"}),
        ("cot", "No idea", {"reasoning": "No idea", "past": ""}),
        ("cot", "", {"reasoning": "", "past": ""}),
    ],
)
def test_replies_are_read_as_the_prompt_reads_them(
    style: str, reply: str, fields: dict[str, str], tmp_path: Path
) -> None:
    """`sent` fails on a second question: a reply without an answer must not be asked again."""
    program = PlainPredict(Prompt("Do.", ONE, "past", style=style))  # type: ignore[arg-type]
    sent(program, {"verb": "go"}, tmp_path, reply)
    engine = Engine(ScriptedLM([reply]), Sampling(), tmp_path / "b")
    with engine, dspy.context(lm=engine.lm):
        prediction = program(verb="go")
    raw = asked(prediction).completion
    assert dict(prediction) == fields
    assert (raw.text, raw.finish_reason) == (reply, "stop")


def test_the_adapter_is_the_students_alone(tmp_path: Path) -> None:
    class Both(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.student, self.other = PlainPredict(PLAIN), dspy.Predict("verb -> past")

        def forward(self, verb: str) -> dspy.Prediction:
            self.student(verb=verb)
            assert dspy.settings.adapter is None
            return self.other(verb=verb)

    seen: list[Chat] = []

    def answer(chat: Chat, _: int) -> str:
        seen.append(chat)
        return "[[ ## past ## ]]\nwent\n\n[[ ## completed ## ]]"

    with Engine(ScriptedLM(answer), Sampling(), tmp_path) as engine, dspy.context(lm=engine.lm):
        assert Both()(verb="go").past == "went"
    assert seen[0] == PLAIN.messages({"verb": "go"})
    assert "[[ ## verb ## ]]" in seen[1][-1]["content"]
    assert dspy.settings.adapter is None and dspy.settings.lm is None


def test_a_saved_program_is_plain_dspys(tmp_path: Path) -> None:
    prompt = Prompt("Think.", TWO, "past", demos(TWO)[:2], "cot")
    PlainPredict(prompt).save(tmp_path / "program.json")
    plain: Any = dspy.Predict("verb, person -> reasoning, past")
    plain.load(tmp_path / "program.json")
    assert plain.signature.instructions == "Think."
    assert [demo["past"] for demo in plain.demos] == ["went", " ate \n"]
    ours = PlainPredict(Prompt("Think.", TWO, "past", style="cot"))
    ours.load(tmp_path / "program.json")
    assert prompt_of(ours) == prompt
    assert "tasklift" not in json.dumps(json.loads((tmp_path / "program.json").read_text()))


@pytest.mark.parametrize("name", ["first name", "class", "demos", "instructions", "copy", "_x"])
def test_a_field_dspy_cannot_take_is_named(name: str) -> None:
    with pytest.raises(TaskError, match=f"{name!r}; rename"):
        PlainPredict(Prompt("Do.", (name,), "out"))


def test_reasoning_is_taken_in_the_cot_style() -> None:
    with pytest.raises(TaskError, match="'reasoning'"):
        PlainPredict(Prompt("Do.", ("reasoning",), "out", style="cot"))
    assert PlainPredict(Prompt("Do.", ("reasoning",), "out"))
