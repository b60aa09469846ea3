"""Batches, memory, budget and failures of the engine, driven by DSPy's own threads."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path

import dspy
import pytest
from dspy.lm15 import Message, Request

from lm.ledger import BudgetExhausted, Caps, Ledger, Purpose
from lm.scripted import Script, ScriptedLM
from lm.types import Chat, Completion, ModelError, PromptTooLong, Sampling
from prompt_opt.engine import Engine
from tasks.types import Message as ChatMessage

GREEDY = Sampling(max_tokens=32)


class Recorder(ScriptedLM):
    """A scripted model that remembers its calls and can fail at one of them."""

    def __init__(self, script: Script, ledger: Ledger | None = None):
        super().__init__(script, ledger)
        self.calls: list[tuple[list[Chat], Sampling]] = []
        self.fails: BaseException | None = None

    def generate(
        self, chats: Sequence[Chat], sampling: Sampling, purpose: Purpose
    ) -> list[list[Completion]]:
        if self.fails is not None:
            raise self.fails
        self.calls.append((list(chats), sampling))
        return super().generate(chats, sampling, purpose)


def shout(chat: Chat, _: int) -> str:
    return chat[-1]["content"].upper()


def user(text: str) -> list[ChatMessage]:
    return [{"role": "user", "content": text}]


def ask_all(engine: Engine, texts: Sequence[str], **settings: object) -> list[str]:
    """Ask from one thread each, as DSPy's evaluator does."""
    lm = engine.lm.copy(**settings)
    examples = [dspy.Example(text=text).with_inputs("text") for text in texts]
    pool = dspy.Parallel(num_threads=len(texts), max_errors=1, disable_progress_bar=True)
    return pool([(lambda text: lm(text)[0], example) for example in examples])


def test_requests_of_many_threads_become_one_call(tmp_path: Path) -> None:
    model = Recorder(shout)
    with Engine(model, GREEDY, tmp_path) as engine:
        texts = [f"q{i:02}" for i in range(40)]
        assert ask_all(engine, texts) == [text.upper() for text in texts]
    assert len(model.calls) <= 8  # 1 when no thread is late
    assert sum(len(chats) for chats, _ in model.calls) == 40
    assert all(chats == sorted(chats, key=repr) for chats, _ in model.calls)
    assert model.ledger.usage["metric"].completions == 40


def test_a_batch_is_never_larger_than_max_batch(tmp_path: Path) -> None:
    model = Recorder(shout)
    with Engine(model, GREEDY, tmp_path, max_batch=8) as engine:
        engine.ask([user(f"q{i}") for i in range(20)])
    assert [len(chats) for chats, _ in model.calls] == [8, 8, 4]


def test_a_batch_asked_at_once_stays_whole_whoever_else_asks(tmp_path: Path) -> None:
    first, go = threading.Event(), threading.Event()

    def slow(chat: Chat, _: int) -> str:
        first.set()
        assert go.wait(5)
        return shout(chat, 0)

    model = Recorder(slow)
    with Engine(model, GREEDY, tmp_path, max_batch=8) as engine:
        single = threading.Thread(target=lambda: engine.lm("first"))
        single.start()
        first.wait(5)
        others = [threading.Thread(target=lambda i=i: engine.lm(f"x{i}")) for i in range(5)]
        asking = threading.Thread(target=lambda: engine.ask([user(f"q{i}") for i in range(10)]))
        for thread in (*others[:2], asking, *others[2:]):
            thread.start()
        go.set()
        for thread in (single, asking, *others):
            thread.join()
    batches = [[chat[-1]["content"] for chat in chats] for chats, _ in model.calls]
    assert [f"q{i}" for i in range(8)] in batches and ["q8", "q9"] in batches
    assert sum(map(len, batches)) == 16


def test_a_question_is_asked_once(tmp_path: Path) -> None:
    model = Recorder(shout)
    with Engine(model, GREEDY, tmp_path) as engine:
        ask_all(engine, ["same"] * 10)
        assert engine.lm("same") == ["SAME"]
        assert engine.used == 1
    assert [len(chats) for chats, _ in model.calls] == [1]


def draws(folder: Path, texts: Sequence[str], seed: int) -> dict[tuple[str, int], int]:
    """The random stream of each sampled (text, rollout); those of one thread pool share calls."""
    model = Recorder(shout)
    found = {}
    with Engine(model, GREEDY, folder, seed=seed) as engine:
        for rollout in (0, 1, 2):
            ask_all(engine, texts, temperature=1.0, rollout_id=rollout)
            calls, model.calls = model.calls, []
            for chats, sampling in calls:
                assert sampling.seed == seed
                for chat, draw in zip(chats, sampling.draws, strict=True):
                    found[chat[0]["content"], rollout] = draw
    return found


def test_a_draw_depends_on_the_question_and_not_on_its_company(tmp_path: Path) -> None:
    first = draws(tmp_path / "a", ["x", "y", "z"], seed=0)
    assert len(set(first.values())) == 9  # text and rollout id both move it
    assert draws(tmp_path / "b", ["z", "y", "x"], seed=0) == first
    moved = draws(tmp_path / "c", ["x", "y", "z"], seed=1)
    assert all(moved[key] != draw for key, draw in first.items())


def test_sampled_questions_share_a_call_each_with_its_own_numbers(tmp_path: Path) -> None:
    model = Recorder(shout)
    with Engine(model, Sampling(max_tokens=8, temperature=1.0), tmp_path) as engine:
        engine.ask([user(f"q{i}") for i in range(10)])
    [(chats, sampling)] = model.calls
    assert len(chats) == len(set(sampling.draws)) == 10


def test_two_speakers_share_memory_and_budget_and_are_counted_apart(tmp_path: Path) -> None:
    model = Recorder(shout)
    other = Recorder({"p": "proposed"}, model.ledger)
    engine = Engine(model, GREEDY, tmp_path, caps=Caps(rollouts=3))
    with pytest.raises(BudgetExhausted), engine:
        proposer = engine.speaker(other, Sampling(max_tokens=8), "proposal").lm
        assert [engine.lm("p"), proposer("p"), proposer("p")] == [["P"], ["proposed"], ["proposed"]]
        assert (model.ledger.rollouts, len(other.calls)) == (2, 1)
        ask_all(engine, ["a", "b"])
    usage = model.ledger.usage
    assert (usage["metric"].completions, usage["proposal"].completions) == (2, 1)


def test_what_is_held_back_is_for_the_last_questions(tmp_path: Path) -> None:
    model = Recorder(shout)
    with Engine(model, GREEDY, tmp_path, caps=Caps(rollouts=20)) as engine:
        engine.budget.hold(8, 0.4)
        with pytest.raises(BudgetExhausted):
            engine.ask([user(f"q{i}") for i in range(15)])
        assert model.ledger.rollouts == 12
        with pytest.raises(BudgetExhausted):
            engine.ask([user("late")])
        assert engine.ask([user("q3")])[0].text == "Q3"  # known
        last = engine.ask([user(f"q{i}") for i in range(10, 19)], last=True)
        assert [answer.text for answer in last] == [f"Q{i}" for i in range(10, 19)]
        assert model.ledger.rollouts == 12 + 4  # q10 to q14 were known


@pytest.mark.parametrize("name", ["tokens", "seconds"])
def test_tokens_and_seconds_are_overshot_by_less_than_a_batch(tmp_path: Path, name: str) -> None:
    class Slow(Recorder):
        def generate(self, chats, sampling, purpose):
            rows = super().generate(chats, sampling, purpose)
            self.ledger.usage[purpose].seconds += len(chats)
            return rows

    model = Slow(lambda *_: "x")
    engine = Engine(model, GREEDY, tmp_path, caps=Caps(**{name: 25}), max_batch=4)
    with pytest.raises(BudgetExhausted, match=f"25 {name}"), engine:
        engine.ask([user("y") for y in "q"] + [user(chr(200 + i)) for i in range(60)])
    used = getattr(model.ledger, name)
    assert 25 <= used < 25 + 4 * 3


def test_a_proposers_long_prompt_is_an_error_of_the_one_who_asks(tmp_path: Path) -> None:
    model, narrow = Recorder(shout), Recorder(shout)
    narrow.ledger, narrow.fails = model.ledger, PromptTooLong("too long")
    with Engine(model, GREEDY, tmp_path) as engine:
        with pytest.raises(Exception, match="too long"):
            engine.speaker(narrow, GREEDY, "proposal").lm("p")
        assert engine.lm("q") == ["Q"]


def test_any_other_failure_of_a_proposer_ends_the_stage(tmp_path: Path) -> None:
    """DSPy's optimizers would swallow it and go on without proposals."""
    model, gone = Recorder(shout), Recorder(shout)
    gone.ledger, gone.fails = model.ledger, ModelError("connection refused")
    with pytest.raises(ModelError, match="refused"), Engine(model, GREEDY, tmp_path) as engine:
        engine.speaker(gone, GREEDY, "proposal").lm("p")


def test_a_prompt_too_long_is_an_empty_answer_and_spares_its_batch(tmp_path: Path) -> None:
    class Narrow(Recorder):
        def generate(self, chats, sampling, purpose):
            if max(len(chat[-1]["content"]) for chat in chats) > 3:
                raise PromptTooLong("too long")
            return super().generate(chats, sampling, purpose)

    model = Narrow(shout)
    with Engine(model, GREEDY, tmp_path) as engine:
        texts = ["a", "bb", "long one", "ccc", "longer", "d"]
        answers = engine.ask([user(text) for text in texts])
        assert [answer.text for answer in answers] == ["A", "BB", "", "CCC", "", "D"]
        assert answers[2].finish_reason == "length"
    assert model.ledger.rollouts == 4


def test_what_was_paid_at_a_cut_is_known(tmp_path: Path) -> None:
    model = Recorder(shout)
    with Engine(model, GREEDY, tmp_path, caps=Caps(rollouts=5)) as engine:
        questions = [engine.student.question(user(f"q{i}")) for i in range(9)]
        with pytest.raises(BudgetExhausted):
            engine.answers(questions)
        known = [engine.known(question) for question in questions]
        assert sum(answer is not None for answer in known) == 5


def test_a_budget_is_charged_on_replay_as_it_was_at_first(tmp_path: Path) -> None:
    """Answers that a later pass has paid for must not carry an earlier one past its cut."""

    def passes(model: Recorder) -> list[list[bool]]:
        seen = []
        with Engine(model, GREEDY, tmp_path, caps=Caps(rollouts=12)) as engine:
            for held in (8, 4, 0):
                engine.budget.hold(held, 0.0)
                questions = [engine.student.question(user(f"q{i}")) for i in range(20)]
                with pytest.raises(BudgetExhausted):
                    engine.answers(questions)
                seen.append([engine.known(question) is not None for question in questions])
                engine.reopen()
        return seen

    first, again = Recorder(shout), Recorder(shout)
    found = passes(first)
    assert [sum(known) for known in found] == [4, 8, 12]
    assert passes(again) == found
    assert not again.calls and again.ledger.rollouts == 12


def test_the_n_answers_of_a_call_are_drawn_apart(tmp_path: Path) -> None:
    model = Recorder(shout)
    with Engine(model, GREEDY, tmp_path) as engine:
        for _ in range(2):
            assert engine.lm("x", n=3, temperature=1.0) == ["X"] * 3
    streams = [sampling.draws for _, sampling in model.calls]
    assert len(set(streams)) == len(streams) == 3


def test_the_request_says_how_to_sample(tmp_path: Path) -> None:
    model = Recorder(shout)
    with Engine(model, Sampling(max_tokens=32, temperature=0.7), tmp_path) as engine:
        engine.lm.copy(temperature=0.0, max_tokens=2)("hello")
    assert model.calls[0][1] == Sampling(max_tokens=2, temperature=0.0)


def test_a_cut_answer_and_an_empty_one_come_through(tmp_path: Path) -> None:
    with Engine(Recorder({"long": "abcdef"}), Sampling(max_tokens=3), tmp_path) as engine:
        lm = engine.lm
        cut = lm(Request(model=lm.model, messages=(Message.user("long"),)))
        empty = lm(Request(model=lm.model, messages=(Message.user("unknown"),)))
    assert (cut.text, cut.finish_reason, cut.usage.output_tokens) == ("abc", "length", 3)
    assert (empty.text, empty.finish_reason) == ("", "stop")


def test_a_reopened_engine_remembers_and_counts_once(tmp_path: Path) -> None:
    texts = [f"q{i}" for i in range(10)]
    first = Recorder(shout)
    with Engine(first, GREEDY, tmp_path) as engine:
        answers = ask_all(engine, texts)
    again = Recorder(shout)
    again.fails = AssertionError("asked twice")
    with Engine(again, GREEDY, tmp_path) as engine:
        assert engine.used == 0
        assert ask_all(engine, texts) == answers
    assert again.ledger.usage == first.ledger.usage


def test_other_weights_are_asked_anew(tmp_path: Path) -> None:
    with Engine(Recorder({"q": "old"}), GREEDY, tmp_path) as engine:
        assert engine.lm("q") == ["old"]
    with Engine(Recorder({"q": "new"}), GREEDY, tmp_path) as engine:
        assert engine.lm("q") == ["new"]


def test_a_torn_last_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    with Engine(Recorder(shout), GREEDY, tmp_path) as engine:
        engine.ask([user("a")])
        engine.ask([user("b")])
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    model = Recorder(shout)
    with Engine(model, GREEDY, tmp_path) as engine:
        engine.ask([user("a"), user("b")])
    assert [chats for chats, _ in model.calls] == [[user("b")]]
    assert path.read_bytes() == whole


def test_the_budget_ends_every_thread_and_is_never_overshot(tmp_path: Path) -> None:
    model = Recorder(shout)
    before = set(threading.enumerate())
    engine = Engine(model, GREEDY, tmp_path, caps=Caps(rollouts=25), max_batch=10)
    with pytest.raises(BudgetExhausted, match="25 rollouts"), engine:
        ask_all(engine, [f"q{i}" for i in range(64)])
    assert model.ledger.rollouts == 25
    left = [t for t in set(threading.enumerate()) - before if not t.daemon]  # tqdm's is one
    for thread in left:
        thread.join(timeout=5)
        assert not thread.is_alive()


def test_the_ledgers_own_cap_is_never_overshot_either(tmp_path: Path) -> None:
    model = Recorder(shout, Ledger(caps=Caps(rollouts=7)))
    engine = Engine(model, GREEDY, tmp_path)
    with pytest.raises(BudgetExhausted, match="7 rollouts"), engine:
        engine.ask([user(f"q{i}") for i in range(20)])
    assert model.ledger.rollouts == 7


def test_the_budget_holds_over_restarts(tmp_path: Path) -> None:
    with Engine(Recorder(shout), GREEDY, tmp_path, caps=Caps(rollouts=5)) as engine:
        engine.ask([user(f"a{i}") for i in range(4)])
    model = Recorder(shout)
    engine = Engine(model, GREEDY, tmp_path, caps=Caps(rollouts=5))
    with pytest.raises(BudgetExhausted), engine:
        engine.ask([user(f"b{i}") for i in range(4)])
    assert model.ledger.rollouts == 5


def test_dspy_cannot_turn_a_broken_model_into_score_0(tmp_path: Path) -> None:
    model = Recorder(shout)
    model.fails = RuntimeError("out of memory")
    engine = Engine(model, GREEDY, tmp_path)
    evaluate = dspy.Evaluate(
        devset=[dspy.Example(q=str(i), a="").with_inputs("q") for i in range(5)],
        metric=lambda *_: 1.0,
        num_threads=4,
        max_errors=100,
    )
    with pytest.raises(RuntimeError, match="out of memory"), engine, dspy.context(lm=engine.lm):
        evaluate(dspy.Predict("q -> a"))


def test_cut_answers_warn_of_nothing_in_any_thread(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Engine(Recorder(shout), Sampling(max_tokens=2), tmp_path) as engine:
        assert ask_all(engine, ["long one", "long two"]) == ["LO", "LO"]
    assert not caplog.records
    logging.getLogger("dspy.clients.lm").warning("something else")
    assert [record.message for record in caplog.records] == ["something else"]


def test_the_worker_ends_with_the_engine(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with Engine(Recorder(shout), GREEDY, tmp_path) as engine:
        [worker] = set(threading.enumerate()) - before
        assert worker.name == "prompt_opt engine"
    assert not worker.is_alive()
    with pytest.raises(BaseException, match="closed"):
        engine.ask([user("late")])


def test_async_programs_share_the_batches(tmp_path: Path) -> None:
    model = Recorder(shout)

    async def ask(engine: Engine) -> list[list[str]]:
        lm = engine.lm
        return await asyncio.gather(*(lm.acall(f"q{i}") for i in range(12)))

    with Engine(model, GREEDY, tmp_path) as engine:
        assert asyncio.run(ask(engine)) == [[f"Q{i}"] for i in range(12)]
    assert len(model.calls) <= 2


def test_dspys_own_adapters_work_on_it_and_nothing_is_deprecated(tmp_path: Path) -> None:
    model = Recorder(lambda chat, _: "[[ ## a ## ]]\nyes\n\n[[ ## completed ## ]]")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine = Engine(model, Sampling(max_tokens=64), tmp_path)
        with engine, dspy.context(lm=engine.lm):
            assert dspy.Predict("q -> a")(q="well?").a == "yes"
    assert [message["role"] for message in model.calls[0][0][0]] == ["system", "user"]


def test_importing_the_room_is_light_and_using_it_needs_no_litellm(tmp_path: Path) -> None:
    code = f"""
import sys, pathlib, prompt_opt, prompt_opt.config
assert "dspy" not in sys.modules
import prompt_opt.bootstrap
from prompt_opt.engine import Engine
from lm.scripted import ScriptedLM
from lm.types import Sampling
with Engine(ScriptedLM(["yes"]), Sampling(), pathlib.Path({str(tmp_path)!r})) as engine:
    assert engine.lm("q") == ["yes"]
assert not {{"litellm", "torch", "trl"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("whose", ["stage", "ledger"])
@pytest.mark.parametrize("name", ["rollouts", "tokens", "seconds"])
def test_a_stage_that_goes_on_has_what_it_had_under_any_cap(
    tmp_path: Path, whose: str, name: str
) -> None:
    """What it has paid before must not keep its own answers from it."""

    class Slow(Recorder):
        def generate(self, chats, sampling, purpose):
            rows = super().generate(chats, sampling, purpose)
            self.ledger.usage[purpose].seconds += len(chats)
            return rows

    caps = Caps(**{name: 25})

    def known(model: Recorder) -> list[bool]:
        own = caps if whose == "stage" else None
        with Engine(model, GREEDY, tmp_path, caps=own, max_batch=4) as engine:
            questions = [engine.student.question(user(chr(200 + i))) for i in range(60)]
            with pytest.raises(BudgetExhausted):
                engine.answers(questions)
            return [engine.known(question) is not None for question in questions]

    def model() -> Slow:
        return Slow(lambda *_: "x", Ledger(caps if whose == "ledger" else Caps()))

    first, again = model(), model()
    found = known(first)
    assert 4 < sum(found) < 30
    assert known(again) == found and not again.calls
    assert again.ledger.usage == first.ledger.usage
