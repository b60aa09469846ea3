"""DSPy's provider contract, and what its optimizers hand over; models are scripted."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.clients.utils_finetune import TrainingStatus
from dspy.teleprompt import BetterTogether, BootstrapFewShot, BootstrapFinetune, LabeledFewShot
from dspy.teleprompt.grpo import GRPO

from lm.ledger import BudgetExhausted
from lm.scripted import ScriptedLM
from lm.types import Chat, ModelError
from prompt_opt.adapter import PlainPredict
from prompt_opt.bridge import with_own_lm
from prompt_opt.engine import ModelStopped
from prompt_opt.quiet import quiet
from tasks.types import Demo, Prompt
from tests.prompt_opt.scripted_house import House

PROMPT = Prompt("Shout.", demos=())
DEMOS = (Demo({"input": "one"}, "ONE"), Demo({"input": "two"}, "TWO"))
CASES = [dspy.Example(input=f"q{i}", answer=f"Q{i}").with_inputs("input") for i in range(6)]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.provider.close()


@pytest.fixture
def sampled(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path, temperature=1.0, cache=True)
    yield made
    made.provider.close()


@pytest.fixture(autouse=True)
def dspy_cache(tmp_path: Path) -> Iterator[None]:
    """DSPy's cache, memory and disk, empty at first."""
    before = dspy.cache
    dspy.configure_cache(enable_disk_cache=True, disk_cache_dir=str(tmp_path / "dspy"))
    yield
    dspy.cache = before


def program(lm: Any, demos: Sequence[Demo] = ()) -> PlainPredict:
    made = PlainPredict(PROMPT.with_demos(demos))
    made.set_lm(lm)
    return made


def metric(example: Any, prediction: Any, trace: Any = None) -> float:
    return float(len(prediction.answer) % 3)


def grpo(adapter: Any, **changes: Any) -> GRPO:
    settings: dict[str, Any] = {
        "metric": metric,
        "exclude_demos": True,
        "num_threads": 4,
        "num_train_steps": 3,
        "num_dspy_examples_per_grpo_step": 2,
        "num_rollouts_per_grpo_step": 4,
    }
    return GRPO(adapter=adapter, **{**settings, **changes})


CHATS = [{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}]


def tuned(lm: dspy.LM) -> dspy.LM:
    return lm.finetune(CHATS, "chat", {"steps": 3}).result()  # type: ignore[arg-type]


def test_the_name_alone_keys_dspys_cache(tmp_path: Path) -> None:
    """The trap: other weights under an old name are never asked."""
    first, second = House(tmp_path / "a", cache=True), House(tmp_path / "b")
    [before] = first.lm("q")
    stale = second.lm.copy(cache=True)
    stale.model = first.lm.model
    assert stale("q") == [before] and second.ledger.rollouts == 0


def test_fine_tuning_escapes_the_stale_cache(tmp_path: Path) -> None:
    house = House(tmp_path, cache=True)
    assert house.lm("q") == house.lm("q") == ["base q 1 "]
    after = tuned(house.lm)
    assert after.cache and after.model != house.lm.model
    assert after("q") == after("q") == ["tuned1 q 1 "]
    assert house.lm("q") == ["base q 1 "]  # the old name still means the old weights
    assert house.ledger.rollouts == 2
    again = tuned(after)
    assert again("q") == ["tuned2 q 1 "]


def test_each_reinforce_step_escapes_the_stale_cache(sampled: House) -> None:
    lm = sampled.lm
    names, answers = [lm.model], [lm("q")[0].split()[0]]
    job = lm.reinforce({"num_generations": 2})
    for _ in range(3):
        names.append(lm.model)
        texts = [lm("q", cache=False)[0] for _ in range(2)]
        answers.append(lm("q")[0].split()[0])
        assert lm("q") == lm("q")  # from DSPy's cache
        job.step([batch(texts)], "grpo_chat")
    assert answers == ["base", "live0", "live1", "live2"]
    assert lm("q")[0].startswith("live3") and len({*names, lm.model}) == 5


def batch(texts: Sequence[str], chat: Sequence[Any] = ({"role": "user", "content": "q"},)) -> Any:
    rows = [
        {"messages": [*chat], "completion": {"role": "assistant", "content": t}, "reward": i}
        for i, t in enumerate(texts)
    ]
    return {"batch_id": 0, "group": rows}


def test_what_became_of_a_name(sampled: House) -> None:
    lm = sampled.lm
    job = lm.reinforce({"num_generations": 2})
    gone, texts = lm.copy(), [lm("q")[0], lm("q")[0]]
    with pytest.raises(ModelError, match="in training"):
        sampled.provider.policy(lm)
    job.step([batch(texts)], "grpo_chat")
    job.save_checkpoint("one")
    kept, texts = lm.copy(), [lm("q")[0], lm("q")[0]]
    job.step([batch(texts)], "grpo_chat")
    job.terminate()
    with pytest.raises(Exception, match="moved on"):
        gone("new")
    assert kept("new")[0].startswith("saved1") and job.checkpoints["one"] == kept.model
    assert lm("new")[0].startswith("saved2")
    assert sampled.provider.policy(lm).adapter == Path("saved2")


def test_killed_weights_are_loaded_again_when_asked(house: House) -> None:
    house.lm("a")
    house.lm.kill()
    house.lm.launch()
    assert house.opened == ["base"]
    house.lm("b")
    assert house.opened == ["base", "base"] and house.ledger.rollouts == 2


def test_copies_share_the_weights(house: House) -> None:
    twin = copy.deepcopy(program(house.lm))
    assert twin.lm is not house.lm and twin.lm.provider is house.provider
    assert twin(input="q").answer == "base q 1" and house.opened == ["base"]


def test_the_async_call_answers(house: House) -> None:
    import asyncio

    assert asyncio.run(house.lm.acall("q")) == ["base q 1 "]


def test_bootstrap_finetune_hands_over_the_students_own_bytes(house: House) -> None:
    student, teacher = program(house.lm), program(house.lm, DEMOS)
    optimizer = BootstrapFinetune(
        adapter=student.adapter, exclude_demos=True, num_threads=2, train_kwargs={"steps": 5}
    )
    with quiet():
        compiled: Any = optimizer.compile(student, trainset=CASES, teacher=teacher)
    lessons = sorted(house.trainer.lessons[0], key=lambda row: row.chat[-1]["content"])
    assert [row.chat for row in lessons] == [PROMPT.messages(dict(c.inputs())) for c in CASES]
    assert all(row.text.startswith(f"base q{i} ") for i, row in enumerate(lessons))
    assert all(row.text.endswith(" ") for row in lessons)  # as the model wrote it, unstripped
    assert house.trainer.settings == [{"steps": 5}]
    assert compiled.lm.model != house.lm.model and compiled(input="q").answer == "tuned1 q 1"


def test_a_foreign_format_is_said(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.lm("something")
    tuned(house.lm)
    assert "give the optimizer the adapter" in caplog.text


@pytest.mark.parametrize("error", [BudgetExhausted("budget used up"), ModelError("no steps")])
def test_what_ends_training_reaches_the_caller(house: House, error: BaseException) -> None:
    house.trainer.fails = error
    optimizer = BootstrapFinetune(adapter=program(house.lm).adapter, num_threads=2)
    with quiet(), pytest.raises(type(error), match=str(error)):
        optimizer.compile(program(house.lm), trainset=CASES)
    job: Any = house.lm.finetune(CASES, "chat", {})  # type: ignore[arg-type]
    job.thread.join()
    assert job.status() == TrainingStatus.failed


@pytest.mark.parametrize("demos", [(), DEMOS])
def test_grpo_hands_over_what_was_drawn(sampled: House, demos: Sequence[Demo]) -> None:
    student = program(sampled.lm, demos)
    with quiet():
        grpo(student.adapter).compile(student, trainset=CASES)
    steps = sampled.trainer.learner.groups
    assert [[len(group) for group in groups] for groups in steps] == [[4, 4]] * 3
    asked = [PROMPT.with_demos(demos).messages(dict(case.inputs())) for case in CASES]
    for number, groups in enumerate(steps):
        rows = [row for group in groups for row in group]
        assert all([*row.chat] in asked for row in rows)  # DSPy left the demos out
        assert len({row.text for row in rows}) == 8  # eight draws, not one answer eight times
        assert all(row.text.startswith(f"live{number} ") for row in rows)
        for row in rows:
            assert (
                row.completion is not None and bytes(row.completion.token_ids).decode() == row.text
            )
            assert row.reward == len(row.text.strip()) % 3
    assert sampled.trainer.settings == [{"temperature": 1.0}]
    assert sampled.ledger.usage["rollout"].calls == 6  # a group is drawn in one call
    assert student.lm.cache  # given back as it was


def test_better_together_takes_grpo_for_its_weights(sampled: House) -> None:
    together = BetterTogether(
        metric=metric, p=with_own_lm(LabeledFewShot(k=2)), w=grpo(program(sampled.lm).adapter)
    )
    with quiet():
        best: Any = together.compile(
            program(sampled.lm), trainset=CASES, valset=CASES[:2], strategy="p -> w -> p"
        )
    assert not best.flag_compilation_error_occurred
    tried = {row["strategy"]: row["program"] for row in best.candidate_programs}
    says = {name: tried[name](input="new").answer.split()[0] for name in tried}
    # in place: what had been tried before goes on answering with the weights it was tried with
    assert says == {"": "base", "p": "base", "p -> w": "saved3", "p -> w -> p": "saved3"}
    rows = [row for groups in sampled.trainer.learner.groups for group in groups for row in group]
    assert all(len(row.chat) == 6 for row in rows)  # system, two demos, the question


def test_a_program_of_two_calls_has_two_groups_an_example(sampled: House) -> None:
    class Two(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = dspy.Predict("input -> middle"), dspy.Predict("middle -> end")

        def forward(self, input: str) -> Any:
            return self.second(middle=self.first(input=input).middle)

    def script(chat: Chat, index: int) -> str:
        field = "end" if "`middle`" in chat[0]["content"].split("output")[0] else "middle"
        said.append(field)
        return f"[[ ## {field} ## ]]\n{field}{len(said)}\n\n[[ ## completed ## ]]\n"

    said: list[str] = []
    learner = sampled.trainer.learner
    learner._model = ScriptedLM(script, sampled.ledger, "two")
    student = Two()
    student.set_lm(sampled.lm)
    adapter = dspy.ChatAdapter(use_json_adapter_fallback=False)
    score = lambda example, prediction, trace=None: len(prediction.end) % 2  # noqa: E731
    with quiet(), dspy.context(adapter=adapter):
        grpo(adapter, num_train_steps=1, metric=score).compile(student, trainset=CASES)
    assert [len(group) for group in learner.groups[0]] == [4, 4, 4, 4]
    later = [group for group in learner.groups[0] if "end" in group[0].text]
    assert len(later) == 2
    assert all(len({row.chat[-1]["content"] for row in group}) == 4 for group in later)


def test_late_and_repeated_groups_are_left_out(sampled: House) -> None:
    lm = sampled.lm
    job = lm.reinforce({"num_generations": 2})
    early = batch([lm("q")[0], lm("q")[0]])
    job.step([early, early], "grpo_chat")
    now = batch([lm("q")[0], lm("q")[0]])
    job.step([now, early], "grpo_chat")
    job.step([early], "grpo_chat")
    assert [len(groups) for groups in sampled.trainer.learner.groups] == [1, 1]


def test_a_question_that_fails_does_not_lose_the_lm(house: House) -> None:
    first = house.lm("q")
    weights = house.provider.versions[house.lm.model].weights
    generate = weights.generate

    def failing(chats: Any, *arguments: Any) -> Any:
        if "long" in str(chats):
            raise ModelError("too long")
        return generate(chats, *arguments)

    weights.generate = failing
    for _ in range(2):
        with pytest.raises(ModelStopped, match="too long"):
            house.lm("long")
    assert house.lm("r") and house.lm("r") and house.ledger.rollouts == 2 and first


def test_a_chat_without_an_answer_is_refused(house: House) -> None:
    asked = [{"messages": [{"role": "user", "content": "q"}]}]
    for data, kind in ((asked, "chat"), (CHATS, "completion")):
        with pytest.raises(ModelError, match="finetune"):
            house.lm.finetune(data, kind).result()  # type: ignore[arg-type]


def test_the_number_of_groups_may_be_told(sampled: House) -> None:
    job: Any = sampled.lm.reinforce({"num_generations": 2, "groups_per_step": 3})
    first = job.get_status()["pending_batch_ids"]
    assert len(first) == 3 and first == job.status()["pending_batch_ids"]
    assert sampled.trainer.settings == [{"temperature": 1.0}]


def test_a_chat_that_was_never_asked_is_refused(sampled: House) -> None:
    student = program(sampled.lm)
    with quiet(), pytest.raises(ModelError, match="adapter that the program asks with"):
        grpo(None).compile(student, trainset=CASES)  # DSPy then writes XML


def test_greedy_answers_cannot_be_compared(house: House) -> None:
    with pytest.raises(ModelError, match="an LM that samples"):
        house.lm.reinforce({"num_generations": 2})


def test_bootstrap_asks_the_students_own_lm(house: House) -> None:
    new = tuned(house.lm)
    optimizer = BootstrapFewShot(max_bootstrapped_demos=1, max_labeled_demos=2)
    student = program(new)
    with quiet(), dspy.context(lm=house.lm):
        compiled = with_own_lm(optimizer).compile(student, trainset=CASES)
    assert compiled.predictors()[0].lm is new and len(compiled.demos) == 2
    assert house.ledger.rollouts == 1 and compiled.demos[0].answer.startswith("tuned1")
