"""All nine optimizers alike: DSPy's own code on a scripted pupil, budget, resume, determinism."""

from __future__ import annotations

import gc
import json
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import dspy
import pytest

from experiments.methods import KINDS
from lm.types import Chat, PromptTooLong
from prompt_opt.adapter import PlainPredict, prompt_of
from tasks.types import Demo, Example, Prompt, Score
from tests.prompt_opt.stage import DEV, TASK, TRAIN, Model, Stage, exact

SMALL = {"dev_examples": 10, "train_examples": 16}
OPTIONS: dict[str, dict[str, Any]] = {
    "labeled": {"candidates": 12},
    "bootstrap": {"candidates": 10},
    "bootstrap_optuna": {"candidates": 24, "max_bootstrapped_demos": 8, "max_labeled_demos": 12},
    "knn": {"neighbours": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]},
    "copro": {"breadth": 8, "depth": 2},
    "mipro": {"candidates": 6, "trials": 14, "minibatch_size": 5},
    "simba": {"steps": 3, "batch_size": 8, "candidates": 3},
    "gepa": {"metric_calls": 300},
    "infer_rules": {"candidates": 12},
}
NAMES = sorted(OPTIONS)
RULES = (
    "Answer in capital letters, all of them.",
    "Write the word in capitals, nothing more.",
    "Every letter must be a capital letter.",
    "Capitals are wanted here, please remember.",
)


def pupil(chat: Chat, draw: int) -> str:
    """Proposes rules when asked for one. Right more often with demos, with a rule, by luck."""
    text = " ".join(message["content"] for message in chat)
    word = chat[-1]["content"]
    if "Write" in word:
        return RULES[draw % len(RULES)]
    shown = sum(message["role"] == "assistant" for message in chat)
    skill = 3 * shown + 12 * ("apital" in text) + 10 * (draw % 3 == 1) + 3 * ("only" in text)
    return word.upper() if int(word[1:]) * 7 % 20 < skill else "what?"


def method(name: str, **more: Any) -> Any:
    kind = KINDS[name]
    return kind.build(kind.config.model_validate({**SMALL, **OPTIONS[name], **more}))


@pytest.mark.parametrize("name", NAMES)
def test_the_best_on_dev_is_returned_and_better_than_what_came_in(
    tmp_path: Path, name: str
) -> None:
    stage = Stage(tmp_path, pupil)
    best = stage.run(method(name))
    scores = [row["dev_score"] for row in stage.candidates]
    assert scores[0] < max(scores)  # the incoming prompt is the first candidate
    assert stage.candidates[0]["prompt"] == json.loads(TASK.to_json())
    assert json.loads(best.to_json()) in [
        row["prompt"] for row in stage.candidates if row["dev_score"] == max(scores)
    ]
    assert [row["dev_score"] for row in stage.metrics] == scores
    assert stage.ledger.usage["metric"].completions > 0
    told = json.loads((tmp_path / "search.json").read_text())
    assert told["ended"] == "done"
    assert told["metric_calls"] >= stage.ledger.usage["metric"].completions / 2


@pytest.mark.parametrize("name", NAMES)
def test_a_budget_is_used_and_never_overshot(tmp_path: Path, name: str) -> None:
    stage = Stage(tmp_path, pupil)
    best = stage.run(method(name, rollouts=100))
    assert 84 <= stage.ledger.rollouts <= 100
    assert "100 rollouts" in json.loads((tmp_path / "search.json").read_text())["ended"]
    scores = [row["dev_score"] for row in stage.candidates]
    kept = json.loads(best.to_json())
    assert scores[[row["prompt"] for row in stage.candidates].index(kept)] == max(scores)
    assert len(scores) >= 2 and max(scores) > scores[0]


@pytest.mark.parametrize("name", NAMES)
def test_two_runs_are_one_and_another_seed_is_another(tmp_path: Path, name: str) -> None:
    one, two, other = (
        Stage(tmp_path / n, pupil, seed=s) for n, s in (("a", 0), ("b", 0), ("c", 5))
    )
    assert one.run(method(name)) == two.run(method(name))
    other.run(method(name))
    assert one.candidates == two.candidates
    assert sorted(one.model.asked) == sorted(two.model.asked)
    assert one.model.sizes == two.model.sizes
    assert sorted(one.model.asked) != sorted(other.model.asked)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0.3, 0.8])
def test_killed_it_goes_on_and_pays_nothing_twice(tmp_path: Path, name: str, share: float) -> None:
    calm = Stage(tmp_path / "calm", pupil)
    expected = calm.run(method(name))
    killed = Stage(tmp_path / "killed", pupil, dies_at=int(share * len(calm.model.sizes)))
    with pytest.raises(KeyboardInterrupt):
        killed.run(method(name))
    before = killed.model.asked
    killed.dies_at = -1
    assert killed.run(method(name)) == expected
    assert len(before) + len(killed.model.asked) == len(calm.model.asked)
    assert sorted(before + killed.model.asked) == sorted(calm.model.asked)
    assert len(set(calm.model.asked)) == len(calm.model.asked)
    assert killed.candidates == calm.candidates
    assert killed.ledger.rollouts == calm.ledger.rollouts


@pytest.mark.parametrize("name", ["simba", "copro", "mipro", "gepa"])
@pytest.mark.parametrize("dies_at", [3, 6, 8])
def test_killed_under_a_budget_it_is_cut_at_the_same_places(
    tmp_path: Path, name: str, dies_at: int
) -> None:
    calm = Stage(tmp_path / "calm", pupil)
    expected = calm.run(method(name, rollouts=150, dev_examples=24))
    killed = Stage(tmp_path / "killed", pupil, dies_at=dies_at)
    with pytest.raises(KeyboardInterrupt):
        killed.run(method(name, rollouts=150, dev_examples=24))
    killed.dies_at = -1
    assert killed.run(method(name, rollouts=150, dev_examples=24)) == expected
    assert killed.candidates == calm.candidates
    assert killed.ledger.rollouts == calm.ledger.rollouts <= 150


@pytest.mark.parametrize("name", NAMES)
def test_a_question_that_stands_twice_in_dev_is_two_examples(tmp_path: Path, name: str) -> None:
    twice = [*DEV[:9], replace(DEV[0], id="again")]
    stage = Stage(tmp_path, pupil, dev=twice)
    stage.run(method(name))
    assert len(stage.candidates) > 1


def test_each_example_is_scored_as_itself(tmp_path: Path) -> None:
    """Two examples that ask the same, answer the same, and differ in `meta` alone."""
    scored: list[str] = []

    def noting(example: Example, answer: str) -> Score:
        scored.append(example.id)
        return exact(example, answer)

    def search(bench: Any) -> None:
        student = bench.student()
        scored.clear()
        for case in bench.pool:
            bench.metric(case, student(**case.inputs()))

    twins = [*TRAIN[:7], replace(TRAIN[0], id="twin", meta={"other": 1})]
    made = method("labeled")
    made.search = search
    Stage(tmp_path, pupil, score=noting, train=twins).run(made)
    assert sorted(scored) == sorted(example.id for example in twins)


@pytest.mark.parametrize("name", ["labeled", "bootstrap", "knn", "mipro", "simba", "copro"])
def test_a_prompt_that_outgrows_the_window_loses_and_ends_nothing(
    tmp_path: Path, name: str
) -> None:
    class Narrow(Model):
        def generate(self, chats, sampling, purpose):
            asked = [chat for chat in chats if purpose == "metric"]
            if any(len(chat) > 4 or "expert" in str(chat) for chat in asked):
                raise PromptTooLong("too long")
            return super().generate(chats, sampling, purpose)

    stage = Stage(tmp_path, pupil, model_type=Narrow)
    best = stage.run(method(name))
    assert len(stage.candidates) > 1
    assert len(best.demos if best.nearest is None else ()) <= 1


def test_a_fault_of_ours_is_no_score_of_0(tmp_path: Path) -> None:
    """MIPROv2 catches every exception of an evaluation and goes on with 0."""
    made = method("mipro")
    seek = made.seek

    def broken(bench: Any) -> None:
        bench._examples.clear()
        seek(bench)

    made.seek = broken
    with pytest.raises(KeyError):
        Stage(tmp_path, pupil).run(made)


@pytest.mark.parametrize("name", NAMES)
def test_a_resolved_config_reads_as_it_was_written(name: str) -> None:
    config = method(name).config
    assert type(config).model_validate(config.model_dump()) == config
    assert type(config).model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize("name", NAMES)
def test_only_examples_of_train_are_shown(tmp_path: Path, name: str) -> None:
    stage = Stage(tmp_path, pupil)
    stage.run(method(name))
    train = {e.inputs["word"] for e in TRAIN}
    for row in stage.candidates:
        assert {demo["inputs"]["word"] for demo in row["prompt"]["demos"]} <= train
        words = set(row["prompt"]["instruction"].replace(".", " ").replace(";", " ").split())
        assert not words & {e.inputs["word"] for e in DEV}


@pytest.mark.parametrize("name", [n for n in NAMES if n != "knn"])
def test_plain_dspy_loads_the_program(tmp_path: Path, name: str) -> None:
    best = Stage(tmp_path, pupil).run(method(name))
    plain = dspy.Predict("word -> loud")
    plain.load(tmp_path / "program.json")
    signature: Any = plain.signature
    assert signature.instructions == best.instruction
    assert [demo["loud"] for demo in plain.demos] == [demo.output for demo in best.demos]
    ours = PlainPredict(TASK)
    ours.load(tmp_path / "program.json")
    assert prompt_of(ours) == best


@pytest.mark.parametrize("name", ["copro", "gepa", "simba"])
def test_demos_that_came_in_stay_where_the_instruction_moves(tmp_path: Path, name: str) -> None:
    mine = Prompt("Shout.", ("word",), "loud", (Demo({"word": "psst"}, "PSST"),))

    def needy(chat: Chat, draw: int) -> str:
        known = any(message["content"] == "PSST" for message in chat)
        return pupil(chat, draw) if known or "Write" in chat[-1]["content"] else "what?"

    stage = Stage(tmp_path, needy)
    best = stage.run(method(name), mine)
    assert Demo({"word": "psst"}, "PSST") in best.demos
    assert max(row["dev_score"] for row in stage.candidates) > stage.candidates[0]["dev_score"]


@pytest.mark.parametrize("name", NAMES)
def test_progress_is_seen_as_it_comes(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = Stage(tmp_path, pupil)
    stage.progress = lambda step, total, **figures: print(f"step {step}")
    stage.run(method(name))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step ")]
    assert lines == [f"step {i + 1}" for i in range(len(stage.candidates))]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_keeps_the_model_alive(tmp_path: Path, name: str) -> None:
    stage = Stage(tmp_path, pupil)
    stage.run(method(name))
    model = weakref.ref(stage.model)
    del stage
    gc.collect()
    assert model() is None


@pytest.mark.parametrize("name", NAMES)
def test_it_is_silent_and_leaves_dspy_as_it_was(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before, parallel = dspy.settings.copy(), dspy.Parallel
    Stage(tmp_path, pupil).run(method(name))
    out = capfd.readouterr()
    assert (out.out, out.err) == ("", "")
    assert dict(dspy.settings.copy()) == dict(before) and dspy.Parallel is parallel
