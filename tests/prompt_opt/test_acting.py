"""Prompt methods on a task with tools: whole conversations are asked, judged, kept and paid for."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

import dspy
import pytest

from evaluation.environment import scoring
from evaluation.evaluate import evaluate, mean_score
from evaluation.types import Policy
from experiments.methods import KINDS
from lm.ledger import Ledger
from lm.tool_calls import write_calls
from lm.types import Chat, Completion, Sampling
from prompt_opt.acting import Acted, offer, offered, shown_answer, tools_of
from prompt_opt.adapter import PlainPredict, asked, prompt_of, request_of
from prompt_opt.bench import Bench
from prompt_opt.engine import Engine
from prompt_opt.speaker import chat_of
from tasks.calculator import Calculator
from tasks.tools import calling
from tasks.types import Demo, Example, Prompt, Score, TaskError
from tests.prompt_opt.stage import Model, Stage

TASK = Calculator()
PROMPT = Prompt.of(TASK)
TRAIN = [e for e in TASK.split("train") if e.meta["form"] == "symbols"][:30]
DEV = [e for e in TASK.split("dev") if e.meta["form"] == "symbols"][:12]
SIGNS = ("+", "-", "*")


def pupil(chat: Chat, _: int) -> str:
    """Calls the calculator where a demo has shown how, for a sign like this; guesses the rest."""
    last = chat[-1]["content"]
    if told := re.search(r"<tool_response>\n(.*)\n</tool_response>", last):
        return told[1]
    shown = [m["content"] for m in chat if "<tool_call>" in m["content"][:20]]
    if any(f" {sign} " in text for text in shown for sign in SIGNS if f" {sign} " in last):
        call = {"name": "calculator", "arguments": {"expression": last}}
        return write_calls([call], "hermes")
    return "77"


def stage(folder: Path, **more: Any) -> Stage:
    return Stage(folder, pupil, scoring(TASK), max_tokens=200, train=TRAIN, dev=DEV, **more)


def method(name: str, **config: Any) -> Any:
    kind = KINDS[name]
    return kind.build(kind.config.model_validate({"dev_examples": 12, **config}))


BOOTSTRAP = {"candidates": 2, "train_examples": 16}


def test_bootstrap_finds_demos_that_make_it_call(tmp_path: Path) -> None:
    run = stage(tmp_path)
    best = run.run(method("bootstrap", **BOOTSTRAP), PROMPT)
    assert best.tools == PROMPT.tools and best.demos
    assert all([turn["role"] for turn in d.turns] == ["assistant", "tool"] for d in best.demos)
    assert Prompt.from_json(best.to_json()) == best
    scores = [row["dev_score"] for row in run.candidates]
    assert scores[0] == 0 and max(scores) > 0.5
    model = Model(pupil, Ledger())
    records = evaluate(model, best, DEV, scoring(TASK), Sampling(max_tokens=200), split="dev")
    assert mean_score(records) == max(scores)  # what was measured is what the evaluator measures
    assert '"tool_calls"' in str(records[0].transcript)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("labeled", {"demos": 3}),
        ("knn", {"neighbours": [1, 2], "train_examples": 16}),
        ("mipro", {"train_examples": 16, "rollouts": 300}),
    ],
)
def test_other_methods_work_as_well(name: str, config: dict[str, Any], tmp_path: Path) -> None:
    run = stage(tmp_path)
    assert run.run(method(name, **config), PROMPT).demos
    assert max(row["dev_score"] for row in run.candidates) > 0.5


@pytest.mark.parametrize(("name", "config"), [("copro", {}), ("gepa", {})])
def test_proposals_are_asked_without_tools(
    name: str, config: dict[str, Any], tmp_path: Path
) -> None:
    run = stage(tmp_path)
    run.run(method(name, train_examples=16, rollouts=150, **config), PROMPT)
    asked_ = [json.loads(line) for line in run.model.asked]
    proposing = [chat for chat in asked_ if "<tools>" not in str(chat[0])]
    assert proposing and len(proposing) < len(asked_)


def test_after_a_kill_no_conversation_is_held_twice(tmp_path: Path) -> None:
    whole, killed = stage(tmp_path / "whole"), stage(tmp_path / "killed", dies_at=7)
    best = whole.run(method("bootstrap", **BOOTSTRAP), PROMPT)
    with pytest.raises(KeyboardInterrupt):
        killed.run(method("bootstrap", **BOOTSTRAP), PROMPT)
    killed.dies_at = -1
    assert killed.run(method("bootstrap", **BOOTSTRAP), PROMPT) == best
    assert killed.ledger.usage["metric"].completions == whole.ledger.usage["metric"].completions
    assert killed.candidates == whole.candidates
    lines = (tmp_path / "whole/answers.jsonl").read_text().splitlines()
    kept = [answer for line in lines for answer in json.loads(line)["answers"].values()]
    assert any(len(answer[-1]) == 3 for answer in kept)  # call, result, answer


def test_requests_carry_schemas_byte_by_byte() -> None:
    chat = PROMPT.messages(DEV[0].inputs)
    assert offer(offered(chat)) == chat[:1]
    lm = dspy.LM("local/x")
    example = TRAIN[0]
    output = shown_answer(scoring(TASK), PROMPT, example)
    assert isinstance(output, Acted) and output == example.answer
    shown = PROMPT.with_demos([Demo(example.inputs, output, "", output.turns)])
    chat = shown.messages(DEV[0].inputs)
    demo = ["user", "calls", "tool", "assistant"]
    assert [m["role"] for m in chat] == ["tools", "system", *demo, "user"]
    assert chat_of(request_of(lm, {}, chat)) == chat
    assert chat_of(request_of(lm, {}, chat[1:])) == chat[1:]


def test_a_prediction_knows_its_calls(tmp_path: Path) -> None:
    model = Model(pupil, Ledger())
    tools = tools_of(scoring(TASK), PROMPT, DEV)
    prompt = PROMPT.with_demos([])
    with Engine(model, Sampling(max_tokens=200), tmp_path, tools=tools) as engine:
        predict = PlainPredict(prompt, engine.lm)
        call = calling("calculator", expression="1 + 1 - 1 * 1")
        turns = [call, {"role": "tool", "name": "calculator", "content": "1"}]
        predict.demos = [dspy.Example(problem="1 + 1 - 1 * 1", result=Acted("1", turns))]
        behind = asked(predict(problem=DEV[0].inputs["problem"])).completion
        assert behind.text == DEV[0].answer and len(behind.transcript) == 3
        assert behind.transcript[1]["content"] == DEV[0].answer
        assert prompt_of(predict).tools == PROMPT.tools


def test_a_question_of_nobodys_has_no_tools_to_use() -> None:
    of = tools_of(scoring(TASK), PROMPT, DEV)
    assert of(PROMPT.messages(DEV[0].inputs)) is not None
    assert of([{"role": "user", "content": "Propose something."}]) is None
    with pytest.raises(TaskError, match="no example's"):
        of(PROMPT.messages({"problem": "What is this?"}))


def test_one_question_with_different_tools_is_refused() -> None:
    class Own(Calculator):
        def tools_for(self, example: Example) -> Any:
            def calculator(expression: str) -> str:
                """Knows."""
                return example.answer

            return (calculator,)

    twice = [*DEV, replace(DEV[0], id="again", answer="1")]
    assert tools_of(scoring(TASK), PROMPT, twice)(PROMPT.messages(DEV[0].inputs)) is not None
    assert tools_of(scoring(Own()), PROMPT, DEV)(PROMPT.messages(DEV[0].inputs)) is not None
    with pytest.raises(TaskError, match='"again" ask the same and have different tools') as error:
        tools_of(scoring(Own()), PROMPT, twice)
    assert "\n" not in str(error.value)


def test_answers_that_called_otherwise_are_not_the_same() -> None:
    """What train pass rates count: two ways to one text are two answers."""
    bench: Any = object.__new__(Bench)
    bench._lock, bench.metric_calls, bench._judged = Lock(), 0, {}
    last = {"role": "assistant", "content": "77"}
    for expression in ("1 + 1", "1 - 1", "1 + 1"):
        turns = (calling("calculator", expression=expression), last)
        answer = Completion("77", (), (), "stop", 1, transcript=turns)
        bench._note(PROMPT, DEV[0], answer, Score(0.0, False), usual=False)
    assert len(bench._judged) == 2


def test_programs_of_several_steps_are_refused(tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text(
        "import dspy\nclass Two(dspy.Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.a = dspy.Predict('problem -> result')\n"
        "    def forward(self, problem):\n        return self.a(problem=problem + '!')\n"
    )
    steps = method("bootstrap", program=f"{tmp_path}/two.py:Two")
    with pytest.raises(TaskError, match="several steps: does not work with tools"):
        steps.check(Policy("x", PROMPT), TRAIN, DEV, scoring(TASK))
