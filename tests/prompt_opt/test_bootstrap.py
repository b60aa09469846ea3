"""The bootstrap stage from outside: what it returns, writes, asks and survives."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dspy
import pytest

from evaluation.types import Context, Policy
from lm.ledger import Caps, Ledger
from lm.types import Chat, Sampling
from prompt_opt import bootstrap, engine
from prompt_opt.adapter import PlainPredict, prompt_of
from prompt_opt.bootstrap import Bootstrap
from prompt_opt.config import BootstrapConfig
from tasks.types import Demo, Example, Prompt, Score, TaskError
from tests.prompt_opt.stage import DEV, TASK, TRAIN, Model, exact
from tests.prompt_opt.stage import Stage as AnyStage

SMALL = BootstrapConfig(candidates=2, dev_examples=10, train_examples=16)
ALL = 5 * 10 + 16  # answers: five candidates on dev and one rehearsal


def pupil(chat: Chat, _: int) -> str:
    """Right more often the more and the later demos it sees; never right without any."""
    shown = [int(message["content"][1:]) for message in chat if message["role"] == "assistant"]
    word = chat[-1]["content"]
    skill = sum(shown) % 7 + 2 * len(shown)
    return word.upper() if shown and int(word[1:]) * 7 % 20 < skill else "what?"


@dataclass
class Stage(AnyStage):
    """A stage of bootstrap."""

    script: Callable[[Chat, int], str] = pupil

    def run(self, config: BootstrapConfig = SMALL, prompt: Prompt = TASK) -> Prompt:  # type: ignore[override]
        return super().run(Bootstrap(config), prompt)

    @property
    def spent(self) -> tuple[int, int, int, int]:
        usage = self.ledger.usage["metric"]
        return usage.calls, usage.completions, usage.prompt_tokens, usage.completion_tokens


def asked(stage: Stage) -> list[Any]:
    """The chats, without what numbers a draw."""
    return [json.loads(line)[:-1] for line in stage.model.asked]


def test_the_best_candidate_on_dev_is_returned(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    best = stage.run()
    scores = [row["dev_score"] for row in stage.candidates]
    assert scores[0] == 0 and max(scores) > 0
    winner = stage.candidates[scores.index(max(scores))]
    assert json.loads(best.to_json()) == winner["prompt"]
    assert (best.instruction, best.style) == (TASK.instruction, "direct")


def test_demos_are_train_examples_and_differ_between_candidates(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.run()
    known = {(example.inputs["word"], example.answer) for example in TRAIN}
    sets = []
    for row in stage.candidates[1:]:
        pairs = {(demo["inputs"]["word"], demo["output"]) for demo in row["prompt"]["demos"]}
        assert len(pairs) == 4 and pairs <= known
        sets.append(frozenset(pairs))
    assert len(set(sets)) == len(sets) == 4


def test_a_stage_asks_in_full_batches(tmp_path: Path) -> None:
    """Bootstrapping, sequential in DSPy, is answered by the one rehearsal of 16 questions."""
    stage = Stage(tmp_path)
    stage.run()
    assert sum(stage.model.sizes) == len(set(stage.model.asked)) == ALL
    assert stage.model.sizes == [10, 10, 16, 10, 10, 10]


def test_batches_do_not_depend_on_the_timing_of_dspys_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm, hasty = Stage(tmp_path / "calm"), Stage(tmp_path / "hasty")
    calm.run()
    monkeypatch.setattr(engine, "IDLE_SECONDS", 1e-6)  # whoever is late finds the batch closed
    monkeypatch.setattr(bootstrap, "THREADS", 3)
    hasty.run()
    assert hasty.model.sizes == calm.model.sizes
    assert hasty.model.asked == calm.model.asked
    assert hasty.spent == calm.spent


def test_a_hopeless_teacher_costs_one_rehearsal(tmp_path: Path) -> None:
    stage = Stage(tmp_path, script=lambda chat, _: "no")
    prompt = stage.run()
    assert prompt == TASK  # all tie at 0: the fewest demos win
    assert sum(stage.model.sizes) == ALL


def test_two_runs_are_one(tmp_path: Path) -> None:
    first, second, other = (Stage(tmp_path / name) for name in "abc")
    other.seed = 1
    assert first.run() == second.run()
    other.run()
    assert first.metrics == second.metrics
    assert first.candidates == second.candidates != other.candidates
    assert first.spent == second.spent


@pytest.mark.parametrize("dies_at", [0, 2, 3, 5])
def test_a_killed_stage_goes_on_as_if_undisturbed(tmp_path: Path, dies_at: int) -> None:
    calm = Stage(tmp_path / "calm")
    expected = calm.run()
    killed = Stage(tmp_path / "killed", dies_at=dies_at)
    with pytest.raises(KeyboardInterrupt):
        killed.run()
    before = killed.model.asked
    killed.dies_at = -1
    assert killed.run() == expected
    assert not set(before) & set(killed.model.asked)
    assert len(before) + len(killed.model.asked) == len(calm.model.asked)
    assert killed.spent == calm.spent
    assert killed.metrics == calm.metrics
    assert killed.candidates == calm.candidates


def test_a_finished_stage_run_again_asks_nothing(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    prompt, spent = stage.run(), stage.spent
    stage.dies_at = 0
    assert stage.run() == prompt
    assert stage.spent == spent and len(stage.metrics) == 5


def test_rows_and_progress_tell_the_same(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.run()
    assert [row["rollouts"] for row in stage.metrics] == [10, 20, 46, 56, 66]
    for i, row in enumerate(stage.metrics):
        names = ["step", "phase", "dev_score", "rollouts", "demos", "metric_calls", "spent"]
        assert list(row) == names and row["spent"]["rollouts"] == row["rollouts"]
        assert (row["step"], row["phase"]) == (i, "dev")
        figures = {"dev": row["dev_score"], "rollouts": row["rollouts"]}
        assert stage.shown[i] == (i + 1, 5, figures)
    assert [row["dev_score"] for row in stage.metrics] == [c["dev_score"] for c in stage.candidates]


@pytest.mark.parametrize(("cap", "complete"), [(20, 2), (45, 2), (46, 3), (999, 5)])
def test_the_budget_keeps_what_is_complete(tmp_path: Path, cap: int, complete: int) -> None:
    free = Stage(tmp_path / "free")
    free.run()
    ours, ledgers = Stage(tmp_path / "ours"), Stage(tmp_path / "ledger", caps=Caps(rollouts=cap))
    best = ours.run(SMALL.model_copy(update={"rollouts": cap}))
    assert ledgers.run() == best
    for stage in (ours, ledgers):
        assert stage.ledger.rollouts == min(cap, ALL)
        assert stage.candidates == free.candidates[:complete]
    assert json.loads(best.to_json()) in [row["prompt"] for row in free.candidates[1:complete]]


@pytest.mark.parametrize(("cap", "complete"), [(9, 0), (10, 1)])
def test_what_is_not_measured_is_not_returned(tmp_path: Path, cap: int, complete: int) -> None:
    stage = Stage(tmp_path, caps=Caps(rollouts=cap))
    assert stage.run() == TASK
    assert len(stage.candidates) == complete and stage.ledger.rollouts == cap
    with pytest.raises(TaskError, match="write 20 or more"):
        Stage(tmp_path / "own").run(SMALL.model_copy(update={"rollouts": cap}))


def test_a_killed_stage_stays_within_its_budget(tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"rollouts": 50})
    killed = Stage(tmp_path, dies_at=3)
    with pytest.raises(KeyboardInterrupt):
        killed.run(config)
    killed.dies_at = -1
    killed.run(config)
    assert killed.ledger.rollouts == 50 and len(killed.candidates) == 3


def test_a_better_incoming_prompt_stays(tmp_path: Path) -> None:
    """Only the incoming demos, which are not in train, make this model answer."""
    mine = Prompt("Shout.", ("word",), "loud", (Demo({"word": "psst"}, "PSST"),))

    def loyal(chat: Chat, _: int) -> str:
        known = any(message["content"] == "PSST" for message in chat)
        return chat[-1]["content"].upper() if known else "what?"

    stage = Stage(tmp_path, script=loyal)
    assert stage.run(prompt=mine) == mine
    assert [row["demos"] for row in stage.candidates][:2] == [1, 0]
    bootstrapped = stage.candidates[3]["prompt"]["demos"]
    assert {demo["output"] for demo in bootstrapped} <= {example.answer for example in TRAIN}


def test_the_teacher_never_sees_the_answer_it_is_asked_for(tmp_path: Path) -> None:
    shown = Prompt("Shout.", ("word",), "loud", (Demo({"word": "w3"}, "W3"),))
    for prompt, name in ((TASK, "a"), (shown, "b")):
        stage = Stage(tmp_path / name)
        stage.run(prompt=prompt)
        for chat in asked(stage):
            assert chat[-1]["content"] not in [message["content"] for message in chat[:-1]]


def test_a_wrong_answer_with_partial_credit_is_no_demo(tmp_path: Path) -> None:
    def lenient(example: Example, answer: str) -> Score:
        return Score(1.0 if answer == example.answer else 0.5, answer == example.answer)

    stage = Stage(tmp_path, score=lenient)
    stage.run()
    outputs = [d["output"] for row in stage.candidates for d in row["prompt"]["demos"]]
    assert "what?" not in outputs
    assert stage.metrics[0]["dev_score"] == 0.5


def test_cot_demos_keep_their_reasoning(tmp_path: Path) -> None:
    def thinks(chat: Chat, _: int) -> str:
        word = chat[-1]["content"]
        return f"Capitals, of {word}.\nLoud: {word.upper()}" if len(chat) > 2 else "no idea"

    stage = Stage(tmp_path, script=thinks)
    stage.run(SMALL.model_copy(update={"style": "cot"}))
    assert [row["dev_score"] for row in stage.candidates] == [0, 0, 1, 1, 1, 1]
    demos = stage.candidates[4]["prompt"]["demos"]
    assert [demo["reasoning"] for demo in demos] == [
        f"Capitals, of {demo['inputs']['word']}." for demo in demos
    ]


@pytest.mark.parametrize(("bootstrapped", "labeled"), [(0, 3), (3, 0), (0, 0), (1, 1)])
def test_demo_limits_hold(tmp_path: Path, bootstrapped: int, labeled: int) -> None:
    limits = {"max_bootstrapped_demos": bootstrapped, "max_labeled_demos": labeled}
    stage = Stage(tmp_path, script=lambda chat, _: chat[-1]["content"].upper())
    stage.run(SMALL.model_copy(update=limits))
    sizes = [row["demos"] for row in stage.metrics]
    assert max(sizes) == max(bootstrapped, labeled)
    assert len(sizes) >= (4 if max(sizes) else 1)  # the same prompt is the same candidate
    if bootstrapped == 0 and labeled:
        sets = {json.dumps(row["prompt"]["demos"]) for row in stage.candidates[2:]}
        assert len(sets) == 3


def test_the_saved_program_is_the_result(tmp_path: Path) -> None:
    best = Stage(tmp_path).run()
    plain = dspy.Predict("word -> loud")
    plain.load(tmp_path / "program.json")
    assert [demo["loud"] for demo in plain.demos] == [demo.output for demo in best.demos]
    ours = PlainPredict(TASK)
    ours.load(tmp_path / "program.json")
    assert prompt_of(ours) == best


def test_dspy_is_silent_and_left_as_it_was(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before, threads = dspy.settings.copy(), set(threading.enumerate())
    Stage(tmp_path, script=lambda chat, _: "x" * 99).run()  # every answer is cut
    out = capfd.readouterr()
    assert (out.out, out.err) == ("", "")
    assert dict(dspy.settings.copy()) == dict(before)
    new = set(threading.enumerate()) - threads
    assert "prompt_opt engine" not in [thread.name for thread in new]


def test_a_broken_model_stops_the_stage(tmp_path: Path) -> None:
    def broken(chat: Chat, _: int) -> str:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        Stage(tmp_path, script=broken).run()


def test_empty_splits_are_refused(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    ledger = Ledger()
    model = Model(pupil, ledger)
    context = Context(
        exact, lambda policy: model, ledger, tmp_path, Sampling(), 0, lambda *a, **k: None
    )
    with pytest.raises(TaskError, match="'train' is empty"):
        Bootstrap(SMALL).improve(Policy("m", TASK), [], DEV, context)
    with pytest.raises(TaskError, match="'dev' is empty"):
        Bootstrap(SMALL).improve(Policy("m", TASK), TRAIN, [], context)
    assert not list(stage.folder.iterdir())
