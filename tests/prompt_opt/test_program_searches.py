"""A program of two steps under the optimizers: the same budget, resume and books as a prompt."""

from __future__ import annotations

import gc
import json
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import dspy
import pytest

from evaluation.types import Policy
from experiments.methods import KINDS
from lm.types import Chat, PromptTooLong
from prompt_opt.bench import Bench
from prompt_opt.forms import form_of
from prompt_opt.program import kept_program
from prompt_opt.state import State
from tasks.types import Example, Score
from tests.prompt_opt.stage import DEV, TASK, TRAIN, Model, Stage, exact

HERE = Path(__file__).parent
SMALL = {"dev_examples": 10, "train_examples": 16, "program": f"{HERE / 'two_steps.py'}:Solve"}
OPTIONS: dict[str, dict[str, Any]] = {
    "labeled": {"candidates": 16},
    "bootstrap": {"candidates": 7},
    "bootstrap_optuna": {"candidates": 12, "max_bootstrapped_demos": 8, "max_labeled_demos": 12},
    "copro": {"breadth": 4, "depth": 2},
    "mipro": {"candidates": 4, "trials": 14, "minibatch_size": 5},
    "simba": {"steps": 2, "batch_size": 8, "candidates": 3},
    "gepa": {"metric_calls": 200},
    "infer_rules": {"candidates": 6},
}
NAMES = sorted(OPTIONS)
KINDS_OF_SEARCH = ["bootstrap", "gepa", "mipro"]  # demos, reflection, both by TPE
RULES = (
    "Answer in capital letters, all of them.",
    "Write the word in capitals, nothing more.",
    "Every letter must be a capital letter.",
    "Capitals are wanted here, please remember.",
)


def pupil(chat: Chat, draw: int) -> str:
    """Proposes rules; plans; shouts right more often with demos, with a rule, by luck."""
    text, asked = " ".join(message["content"] for message in chat), chat[-1]["content"]
    if "[[ ## word ## ]]" not in asked:
        return RULES[draw % len(RULES)]
    word = asked.split("[[ ## word ## ]]\n")[1].split()[0]
    if "field `[[ ## plan ## ]]`" in asked:
        return f"[[ ## plan ## ]]\nraise {word}\n\n[[ ## completed ## ]]"
    shown = sum(message["role"] == "assistant" for message in chat)
    skill = 4 * shown + 12 * ("apital" in text) + 10 * (draw % 3 == 1) + 3 * ("only" in text) + 3
    said = word.upper() if int(word[1:]) * 7 % 20 < skill else "what?"
    return f"[[ ## loud ## ]]\n{said}\n\n[[ ## completed ## ]]"


def method(name: str, **more: Any) -> Any:
    kind = KINDS[name]
    return kind.build(kind.config.model_validate({**SMALL, **OPTIONS[name], **more}))


def stage_of(folder: Path, dies_at: int = -1) -> Stage:
    return Stage(folder, pupil, dies_at=dies_at, max_tokens=200)  # of one letter each


def run(stage: Stage, name: str, **more: Any) -> Policy:
    return stage.improve(method(name, **more), Policy("scripted", TASK))


@pytest.mark.parametrize("name", NAMES)
def test_the_best_on_dev_is_returned_and_better_than_what_came_in(
    tmp_path: Path, name: str
) -> None:
    stage = stage_of(tmp_path)
    policy = run(stage, name)
    scores = [row["dev_score"] for row in stage.candidates]
    assert scores[0] < max(scores)
    assert policy.prompt == TASK and policy.program == tmp_path / "program"
    kept = kept_program(policy.program, TASK).state
    best = [row["program"] for row in stage.candidates if row["dev_score"] == max(scores)]
    assert json.loads(kept.to_json()) in best
    assert [row["dev_score"] for row in stage.metrics] == scores
    assert json.loads((tmp_path / "search.json").read_text())["ended"] == "done"


@pytest.mark.parametrize(
    ("name", "cap"), [("bootstrap", 120), ("gepa", 120), ("mipro", 120), ("simba", 150)]
)
def test_a_budget_is_used_and_never_overshot(tmp_path: Path, name: str, cap: int) -> None:
    stage = stage_of(tmp_path)
    run(stage, name, rollouts=cap)
    assert cap - 30 <= stage.ledger.rollouts <= cap
    assert f"{cap} rollouts" in json.loads((tmp_path / "search.json").read_text())["ended"]
    assert len(stage.candidates) >= 2


@pytest.mark.parametrize("name", KINDS_OF_SEARCH)
@pytest.mark.parametrize("share", [0.3, 0.8])
def test_killed_it_goes_on_and_pays_nothing_twice(tmp_path: Path, name: str, share: float) -> None:
    calm = stage_of(tmp_path / "calm")
    expected = run(calm, name)
    killed = stage_of(tmp_path / "killed", int(share * len(calm.model.sizes)))
    with pytest.raises(KeyboardInterrupt):
        run(killed, name)
    before, sizes = killed.model.asked, killed.model.sizes
    killed.dies_at = -1
    assert run(killed, name).fingerprint() == expected.fingerprint()
    assert before + killed.model.asked == calm.model.asked  # the very same batches
    assert sizes + killed.model.sizes == calm.model.sizes
    assert len(set(calm.model.asked)) == len(calm.model.asked)
    assert killed.candidates == calm.candidates
    assert killed.ledger.rollouts == calm.ledger.rollouts


@pytest.mark.parametrize("name", ["simba", "copro", "mipro", "gepa"])
@pytest.mark.parametrize("dies_at", [3, 8])
def test_killed_under_a_budget_it_is_cut_at_the_same_places(
    tmp_path: Path, name: str, dies_at: int
) -> None:
    calm = stage_of(tmp_path / "calm")
    expected = run(calm, name, rollouts=120)
    killed = stage_of(tmp_path / "killed", dies_at)
    with pytest.raises(KeyboardInterrupt):
        run(killed, name, rollouts=120)
    killed.dies_at = -1
    assert run(killed, name, rollouts=120).fingerprint() == expected.fingerprint()
    assert killed.candidates == calm.candidates
    assert killed.ledger.rollouts == calm.ledger.rollouts <= 120


@pytest.mark.parametrize("way", ["measure", "foresee"])
def test_what_was_paid_at_a_cut_counts(tmp_path: Path, way: str) -> None:
    made, seen = method("labeled", rollouts=20 + 8), []

    def search(bench: Bench) -> None:
        program = bench.student()
        program.predictors()[1].demos = bench.pool[:1]
        try:
            if way == "measure":
                bench.measure(form_of(program))
            else:
                bench.foresee(program, bench.dev)
        finally:
            seen.extend([*bench.board.promising(9), bench.metric_calls])

    made.search = search
    run_of = stage_of(tmp_path)
    run_of.improve(made, Policy("scripted", TASK))
    # the plans are known, and what eight of ten then say is paid for
    assert run_of.ledger.rollouts == 28 and len(run_of.candidates) == 1
    [state, metric_calls] = seen
    assert metric_calls == 18 and state.steps["act"]["demos"]


@pytest.mark.parametrize("name", NAMES)
def test_a_question_that_stands_twice_is_two_examples(tmp_path: Path, name: str) -> None:
    scored: set[str] = set()

    def score(example: Example, answer: str) -> Score:
        scored.add(example.id)
        return exact(example, answer)

    stage = stage_of(tmp_path)
    stage.score, stage.dev = score, [*DEV[:9], replace(DEV[0], id="again")]
    stage.train = [*TRAIN[:15], replace(TRAIN[0], id="twin", meta={"other": 1})]
    policy = run(stage, name)
    assert len(stage.candidates) > 1 and {"again", DEV[0].id} <= scored
    assert "dspy_id" not in kept_program(policy.program or tmp_path, TASK).state.to_json()


@pytest.mark.parametrize("name", ["bootstrap", "mipro", "simba", "copro"])
def test_what_outgrows_the_window_loses_and_ends_nothing(tmp_path: Path, name: str) -> None:
    class Narrow(Model):
        def generate(self, chats, sampling, purpose):
            asked = [chat for chat in chats if purpose == "metric"]
            if any(len(chat) > 4 or "expert" in str(chat) for chat in asked):
                raise PromptTooLong("too long")
            return super().generate(chats, sampling, purpose)

    stage = stage_of(tmp_path)
    stage.model_type = Narrow
    state = kept_program(run(stage, name).program or tmp_path, TASK).state
    assert len(stage.candidates) > 1
    assert len(state.steps["act"]["demos"]) <= 1


def test_a_fault_of_ours_is_no_score_of_0(tmp_path: Path) -> None:
    made = method("mipro")
    seek = made.seek

    def broken(bench: Bench) -> None:
        bench._examples.clear()
        seek(bench)

    made.seek = broken
    with pytest.raises(KeyError):
        stage_of(tmp_path).improve(made, Policy("scripted", TASK))


@pytest.mark.parametrize("name", NAMES)
def test_progress_is_seen_and_nothing_keeps_the_model_alive(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = stage_of(tmp_path)
    stage.progress = lambda step, total, **figures: print(f"step {step}")
    run(stage, name)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step ")]
    assert lines == [f"step {i + 1}" for i in range(len(stage.candidates))]
    model = weakref.ref(stage.model)
    del stage
    gc.collect()
    assert model() is None


def test_what_a_program_cannot_read_is_no_unread_proposal(tmp_path: Path) -> None:
    stage = Stage(tmp_path, lambda chat, _: "I do not know.", max_tokens=200)
    run(stage, "gepa")
    assert json.loads((tmp_path / "search.json").read_text())["unread"] == 0


@pytest.mark.parametrize("name", KINDS_OF_SEARCH)
def test_only_examples_of_train_are_shown(tmp_path: Path, name: str) -> None:
    stage = stage_of(tmp_path)
    run(stage, name)
    train, dev = ({e.inputs["word"] for e in split} for split in (TRAIN, DEV))
    for row in stage.candidates:
        state = State(json.dumps(row["program"]))
        assert {demo["word"] for demo in state.demos} <= train
        said = " ".join(step["signature"]["instructions"] for step in state.steps.values())
        assert not set(said.replace(".", " ").replace(";", " ").split()) & dev


def test_plain_dspy_loads_what_is_kept(tmp_path: Path) -> None:
    policy = run(stage_of(tmp_path), "bootstrap")
    code = (policy.program / "two_steps.py").read_text()
    names: dict[str, Any] = {}
    exec(code.replace("from __future__ import annotations", ""), names)
    plain = names["Solve"]()
    plain.load(policy.program / "state.json")
    assert plain.act.demos and all(demo["plan"] for demo in plain.act.demos if "augmented" in demo)
    assert not list(policy.program.rglob("*.pkl"))
    assert isinstance(plain, dspy.Module)


def test_a_next_method_goes_on_with_the_program(tmp_path: Path) -> None:
    first = run(stage_of(tmp_path / "a"), "bootstrap")
    stage = stage_of(tmp_path / "b")
    second = stage.improve(method("gepa", program=None), first)
    kept = kept_program(first.program, TASK).state
    assert stage.candidates[0]["program"] == json.loads(kept.to_json())
    assert second.program == tmp_path / "b/program"
    assert max(row["dev_score"] for row in stage.candidates) >= stage.candidates[0]["dev_score"]


@pytest.mark.parametrize("name", KINDS_OF_SEARCH)
def test_it_is_silent_and_leaves_dspy_as_it_was(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before, parallel = dspy.settings.copy(), dspy.Parallel
    run(stage_of(tmp_path), name)
    out = capfd.readouterr()
    assert (out.out, out.err) == ("", "")
    assert dict(dspy.settings.copy()) == dict(before) and dspy.Parallel is parallel


@pytest.mark.parametrize("name", NAMES)
def test_a_hopeless_model_ends_no_run(tmp_path: Path, name: str) -> None:
    stage = Stage(tmp_path, lambda chat, _: "I do not know.", max_tokens=200)
    policy = run(stage, name)
    assert {row["dev_score"] for row in stage.candidates} == {0}
    assert stage.candidates[0]["demos"] == 0
    kept = kept_program(policy.program or tmp_path, TASK).state
    assert json.loads(kept.to_json()) == stage.candidates[0]["program"]
