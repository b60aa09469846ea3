"""Talking to an arm gives what the evaluator got, a line for a line, or a refusal in one line."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.chat import Asked, Talk, fields_of, named_arm, refuse_raw
from experiments.cli import main
from experiments.errors import SpecError
from experiments.saved import Saved, policy_of_arm
from lm.scripted import ScriptedLM
from lm.types import ModelError, Sampling
from tasks.types import Prompt

TWO = Prompt("", ("verb", "tense"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, kinds_task: str) -> Path:
    """An arm with an adapter and one that picks the best of its answers."""
    folder = tmp_path_factory.mktemp("chat")
    (folder / "letters.py").write_text(kinds_task)
    rl = {"steps": 1, "prompts_per_step": 4, "group_size": 4, "lora": {"r": 4}}
    spec: dict[str, Any] = {
        "name": "talk",
        "task": "letters.py",
        "model": "tiny-random",
        "splits": {"train": 8, "dev": 4, "test": 4},
        "sampling": {"max_tokens": 6},
        "methods": {"rl": {"method": "grpo", **rl}},
        "arms": {
            "as-it-is": [],
            "rl": ["rl"],
            "vote": [{"best_of": {"n": 3, "reward": "majority"}}],
        },
    }
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec))
    assert main(["run", str(folder / "spec.yaml"), "--out", str(folder / "runs")]) == 0
    return folder / "runs/talk"


def piped(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


@pytest.mark.parametrize("arm", ["as-it-is", "rl", "vote"])
def test_answers_are_those_of_the_evaluation(
    run: Path, arm: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from reports import load_run
    from reports.escape import plain

    loaded = load_run(run)
    rows = loaded.answers[next(a.eval for a in loaded.arms if a.arm == arm)]
    row = rows.iloc[0]  # the question whose draws begin as those of a question asked alone
    piped(monkeypatch, f"{question(row)}\n\n{question(row)}\n")
    capsys.readouterr()
    assert main(["chat", f"{run}:{arm}"]) == 0
    said = capsys.readouterr().out.removesuffix("\n").split("\n")
    assert len(said) == 3 and said[1] == "" and said[0] == said[2]
    assert said[0] == plain(row.text.strip(), 10**6)


def question(row: Any) -> str:
    return json.loads(row.inputs)["input"]


def test_names_an_arm_either_way(run: Path):
    assert named_arm(f"{run}:rl") == named_arm(f"{run}/rl") == (run, "rl")
    for text, word in ((str(run), "as-it-is, rl, vote"), (f"{run}x:rl", "names no arm")):
        with pytest.raises(SpecError, match=word):
            named_arm(text)


def test_an_unknown_arm_is_one_line(run: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["chat", f"{run}:lr"]) == 2
    assert "no evaluated arm 'lr'" in capsys.readouterr().err


def test_raw_is_refused_where_an_arm_picks(run: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["chat", f"{run}:vote", "--raw"]) == 2
    assert "leave out --raw" in capsys.readouterr().err
    refuse_raw(policy_of_arm(run, "rl"), "rl")


def test_raw_remembers_what_was_said():
    heard: list[Any] = []

    def answer(chat: Any, index: int) -> str:
        heard.append([message["content"] for message in chat])
        return f"reply {len(heard)}"

    talk = Talk(ScriptedLM(answer), Sampling(max_tokens=8))
    assert [talk.say("one"), talk.say("two")] == ["reply 1", "reply 2"]
    assert heard == [["one"], ["one", "reply 1", "two"]]


def test_several_fields_come_as_json(run: Path, tmp_path: Path):
    assert fields_of("a { b", Prompt("", ("verb",))) == {"verb": "a { b"}
    assert fields_of('{"tense": "past", "verb": "go"}', TWO) == {"verb": "go", "tense": "past"}
    for text in ("go", "[1]", '{"verb": "go"}', '{"verb": "go", "tense": 1}'):
        with pytest.raises(SpecError, match='"verb": "…", "tense": "…"'):
            fields_of(text, TWO)


def test_a_line_that_is_no_question_is_named(
    run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    from experiments import chat

    saved = policy_of_arm(run, "as-it-is")
    two = Saved(saved.policy.with_prompt(TWO), saved.model, saved.sampling)
    asked = Asked(ScriptedLM(lambda *_: "went"), two, saved.sampling, tmp_path)
    piped(monkeypatch, '{"verb": "go", "tense": "past"}\ngo\n')
    with pytest.raises(SpecError, match="chat: line 2 is no question"):
        chat._pipe(asked.line)


def test_a_line_that_is_too_long_gets_its_reason_and_the_next_its_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from experiments import chat

    def answer(text: str) -> str:
        if len(text) > 3:
            raise ModelError("model: too long")
        return text.upper()

    piped(monkeypatch, "a\nlong\nb\n")
    chat._pipe(answer)
    assert capsys.readouterr().out == "A\n(model: too long)\nB\n"


def test_cot_gives_the_answer_alone_to_a_pipe(run: Path, tmp_path: Path):
    saved = policy_of_arm(run, "as-it-is")
    prompt = Prompt("", ("verb",), "past", style="cot")
    cot = Saved(saved.policy.with_prompt(prompt), saved.model, saved.sampling)
    asked = Asked(ScriptedLM(lambda *_: "Strong.\nPast: went"), cot, Sampling(), tmp_path)
    assert asked.line("go") == "went" and asked.answer({"verb": "go"}).startswith("Strong")


class Keyboard(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_person_is_asked_field_by_field(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    from experiments import chat

    saved = policy_of_arm(run, "as-it-is")
    two = Saved(saved.policy.with_prompt(TWO), saved.model, saved.sampling)
    heard: list[str] = []

    def answer(asked: Any, index: int) -> str:
        heard.append(asked[-1]["content"])
        return "went\n\x1b[31mred"

    monkeypatch.setattr("sys.stdin", Keyboard("\ngo\npast\nsing\n"))  # ends in mid-question
    chat._interview(Asked(ScriptedLM(answer), two, Sampling(max_tokens=64), tmp_path), "arm")
    assert heard == ["Verb: go\nTense: past"]
    shown = capsys.readouterr().out
    assert "arm: asks for verb, tense" in shown
    assert "> went\n> \\x1b[31mred\n" in shown and "\x1b" not in shown
