"""A user's program: found in its file, told from a mere prompt, and what it says judged as data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dspy
import pytest

from evaluation.types import EvalRecord, Policy
from lm.ledger import Ledger
from lm.types import Chat, ModelError, PromptTooLong, Sampling
from prompt_opt.program import Source, find_program, kept_program
from prompt_opt.program_eval import evaluate_program
from tasks.types import Demo, Prompt, TaskError
from tests.prompt_opt.stage import DEV, TASK, Model, exact

HEAD = "import dspy\n"
SHOUT = '''
class Shout(dspy.Signature):
    """Say it loud."""
    word: str = dspy.InputField()
    loud: str = dspy.OutputField()
'''
WRAPPED = (
    SHOUT
    + '''
class Solve(dspy.Module):
    def __init__(self):
        super().__init__()
        self.step = dspy.{kind}(Shout{more})
    def forward(self, {args}):
        """Documented."""
        {body}
'''
)
LOUD = Prompt("Say it loud.", ("word",), "loud")


def written(folder: Path, code: str) -> str:
    path = folder / "mine.py"
    path.write_text(HEAD + code)
    return f"{path}:Solve"


def wrapped(kind: str = "Predict", args: str = "word", body: str = "", more: str = "") -> str:
    body = body or "return self.step(word=word)"
    return WRAPPED.format(kind=kind, args=args, body=body, more=more)


BARE: dict[str, tuple[str, Prompt]] = {
    "a predictor": (SHOUT + "Solve = dspy.Predict(Shout)", LOUD),
    "a factory": (SHOUT + "def Solve(): return dspy.Predict(Shout)", LOUD),
    "chain of thought": (
        SHOUT + "Solve = dspy.ChainOfThought(Shout)",
        Prompt("Say it loud.", ("word",), "loud", style="cot"),
    ),
    "wrapped": (wrapped(), LOUD),
    "wrapped, all arguments": (wrapped(args="**kw", body="return self.step(**kw)"), LOUD),
    "wrapped chain of thought": (
        wrapped("ChainOfThought"),
        Prompt("Say it loud.", ("word",), "loud", style="cot"),
    ),
    "with demos": (
        SHOUT
        + "Solve = dspy.Predict(Shout)\nSolve.demos = [dspy.Example(word='psst', loud='PSST')]",
        LOUD.with_demos([Demo({"word": "psst"}, "PSST")]),
    ),
}
SEVERAL: dict[str, str] = {
    "two calls": wrapped(body="self.step(word=word); return self.step(word=word)"),
    "another argument": wrapped(body="return self.step(word=word.upper())"),
    "a branch": wrapped(body="return self.step(word=word) if word else None"),
    "a context": wrapped(body="with dspy.context(): return self.step(word=word)"),
    "a temperature": wrapped(more=", temperature=0.7"),
    "a described field": wrapped().replace("InputField()", "InputField(desc='any')"),
    "a number": wrapped().replace("loud: str", "loud: int"),
    "an output more": wrapped().replace("    loud", "    why: str = dspy.OutputField()\n    loud"),
    "a second predictor": wrapped().replace(
        "self.step =", "self.spare = dspy.Predict(Shout); self.step ="
    ),
    "its own call": wrapped() + "    def __call__(self, **kw): return super().__call__(**kw)\n",
}


@pytest.mark.parametrize("case", BARE)
def test_a_single_predictor_is_a_prompt(tmp_path: Path, case: str) -> None:
    code, expected = BARE[case]
    assert find_program(written(tmp_path, code), TASK) == expected


@pytest.mark.parametrize("case", SEVERAL)
def test_in_doubt_it_is_a_program(tmp_path: Path, case: str) -> None:
    assert isinstance(find_program(written(tmp_path, SEVERAL[case]), TASK), Source)


REFUSED: dict[str, tuple[str, list[str]]] = {
    "no such name": ("Solv = 1", ["defines no 'Solve'", "Solv"]),
    "no module": ("def Solve(): return 3", ["is a int", "dspy.Module"]),
    "a class that wants arguments": (
        "class Solve(dspy.Module):\n    def __init__(self, k): pass",
        ["TypeError", "'k'"],
    ),
    "nothing to optimize": (
        "class Solve(dspy.Module):\n    def forward(self, word): return None",
        ["no dspy.Predict"],
    ),
    "fields of a predictor": (
        "Solve = dspy.Predict('question -> answer')",
        ["question -> answer", "word -> loud"],
    ),
    "output of a predictor": ("Solve = dspy.Predict('word -> answer')", ["word -> loud"]),
    "arguments of forward": (
        wrapped(args="question", body="return self.step(word=question)"),
        ["forward", "word -> loud"],
    ),
    "a file that raises": ("1 / 0", ["mine.py:2", "ZeroDivisionError"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_told_in_one_line(tmp_path: Path, case: str) -> None:
    code, parts = REFUSED[case]
    with pytest.raises(TaskError) as told:
        find_program(written(tmp_path, code), TASK)
    assert "\n" not in str(told.value)
    assert all(part in str(told.value) for part in parts), told.value


def test_what_a_file_configures_counts_for_its_program_alone(tmp_path: Path) -> None:
    before = dict(dspy.settings.copy())
    code = "dspy.configure(adapter=dspy.JSONAdapter(), lm=dspy.LM('openai/none'))\n"
    source = find_program(written(tmp_path, code + SEVERAL["two calls"]), TASK)
    assert isinstance(source, Source) and isinstance(source.adapter, dspy.JSONAdapter)
    assert dict(dspy.settings.copy()) == before
    answers, _ = evaluated(tmp_path, source, lambda chat, _: '{"loud": "W101"}')
    assert [record.failure for record in answers][:2] == ["unclassified", None]


def evaluated(
    folder: Path,
    source: Source,
    script: Callable[[Chat, int], str],
    *,
    sampling: Sampling | None = None,
    dies_at: int = -1,
    model_type: type[Model] = Model,
) -> tuple[list[EvalRecord], Model]:
    source.save(folder / "program", source.state)
    model = model_type(script, Ledger(), dies_at)
    policy = Policy("scripted", TASK, program=folder / "program")
    sampling = sampling or Sampling(max_tokens=100)
    place = folder / "eval"
    records = evaluate_program(model, policy, DEV, exact, sampling, split="test", folder=place)
    return records, model


def two_steps() -> Source:
    found = find_program(f"{Path(__file__).parent / 'two_steps.py'}:Solve", TASK)
    assert isinstance(found, Source)
    return found


def script(chat: Chat, draw: int) -> str:
    asked = chat[-1]["content"]
    word = asked.split("[[ ## word ## ]]\n")[1].split()[0]
    if "field `[[ ## plan ## ]]`" in asked:
        return f"[[ ## plan ## ]]\nraise {word} {draw % 7}\n[[ ## completed ## ]]"
    return f"[[ ## loud ## ]]\n{word.upper()}\n[[ ## completed ## ]]"


def test_each_step_is_one_batch_and_each_example_one_record(tmp_path: Path) -> None:
    records, model = evaluated(tmp_path, two_steps(), script)
    assert model.sizes == [30, 30]
    usage = model.ledger.usage
    assert set(usage) == {"eval"} and usage["eval"].completions == 60
    assert [r.example_id for r in records] == [e.id for e in DEV]
    assert all(r.correct and r.text == r.gold and r.finish == "stop" for r in records)
    assert sum(r.completion_tokens for r in records) == usage["eval"].completion_tokens
    assert sum(r.prompt_tokens for r in records) == usage["eval"].prompt_tokens


class Narrow(Model):
    """Has no room for a question that holds one of `long`."""

    long: tuple[str, ...] = ("w101", "raise w102")

    def generate(self, chats, sampling, purpose):
        if any(word in chat[-1]["content"] for chat in chats for word in self.long):
            raise PromptTooLong("too long")
        return super().generate(chats, sampling, purpose)


def test_a_step_that_does_not_fit_is_an_empty_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records, model = evaluated(tmp_path / "a", two_steps(), script, model_type=Narrow)
    assert [r.failure for r in records[:4]] == [None, "empty", "empty", None]
    assert {r.finish for r in records[1:3]} == {"length"} and records[2].prompt_tokens
    assert model.ledger.usage["eval"].completions == 59 - 2
    monkeypatch.setattr(Narrow, "long", ("word",))
    with pytest.raises(ModelError, match=r"two_steps.py:Solve: none of its questions fits"):
        evaluated(tmp_path / "b", two_steps(), script, model_type=Narrow)


def test_samples_differ(tmp_path: Path) -> None:
    sampling = Sampling(max_tokens=100, temperature=1.0, n=3)
    records, model = evaluated(tmp_path, two_steps(), script, sampling=sampling)
    assert [r.sample for r in records[:4]] == [0, 1, 2, 0] and len(records) == 90
    assert len(model.asked) == 180
    assert len(set(model.asked)) == 180  # each sample draws by itself


def test_a_killed_evaluation_goes_on(tmp_path: Path) -> None:
    calm, _ = evaluated(tmp_path / "a", two_steps(), script)
    with pytest.raises(KeyboardInterrupt):
        evaluated(tmp_path / "b", two_steps(), script, dies_at=1)
    again, model = evaluated(tmp_path / "b", two_steps(), script)
    assert model.sizes == [30]
    assert [r.text for r in again] == [r.text for r in calm]


BODIES: dict[str, tuple[str, Callable[[Chat, int], str], str]] = {
    "it raises": ("self.step(word=word); raise KeyError(word)", script, "error"),
    "it exits": ("self.step(word=word); raise SystemExit(3)", script, "error"),
    "no such field": (
        "self.step(word=word); return dspy.Prediction(answer=word)",
        script,
        "error",
    ),
    "no prediction": ("self.step(word=word); return word", script, "error"),
    "a reply it cannot read": (
        "x = word; return self.step(word=x)",
        lambda chat, _: "no idea",
        "unparsable",
    ),
    "an empty reply": ("x = word; return self.step(word=x)", lambda chat, _: "", "empty"),
    "a cut reply": ("x = word; return self.step(word=x)", lambda chat, _: "x" * 300, "truncated"),
    "a wrong answer": (
        "x = word; return self.step(word=x + 'x')",
        script,
        "unclassified",
    ),
}


@pytest.mark.parametrize("case", BODIES)
def test_what_goes_wrong_is_data(tmp_path: Path, case: str) -> None:
    body, said, failure = BODIES[case]
    source = find_program(written(tmp_path, wrapped(body=body)), TASK)
    assert isinstance(source, Source)
    records, _ = evaluated(tmp_path, source, said)
    assert {record.failure for record in records} == {failure}
    assert all(record.score == 0 and not record.correct for record in records)
    if failure == "error":
        assert all("The program failed: " in record.feedback for record in records)


def test_neighbours_are_kept_and_the_fingerprint_covers_all(tmp_path: Path) -> None:
    (tmp_path / "helpful.py").write_text("def low(text): return text.lower()\n")
    code = "import helpful\n" + wrapped(body="return self.step(word=helpful.low(word))")
    source = find_program(written(tmp_path, code), TASK)
    assert isinstance(source, Source)
    policy = Policy("m", TASK, program=tmp_path / "kept")
    prints = set()
    for instruction in ("One.", "Two."):
        text = source.state.to_json().replace("Say it loud.", instruction)
        source.save(tmp_path / "kept", type(source.state)(text))
        assert kept_program(tmp_path / "kept", TASK).state.to_json() == text
        prints.add(policy.fingerprint())
    (tmp_path / "kept/helpful.py").write_text("def low(text): return text\n")
    prints |= {policy.fingerprint(), Policy("m", TASK).fingerprint()}
    assert len(prints) == 4


OWN_THREADS = {
    "parallel": (
        "pairs = [(self.step, {'word': word}), (self.step, {'word': word + '0'})]\n"
        "        return dspy.Parallel(num_threads=2, disable_progress_bar=True)(pairs)[0]"
    ),
    "async": (
        "import asyncio\n"
        "        async def both():\n"
        "            asks = [self.step.acall(word=w) for w in (word, word + '0')]\n"
        "            return (await asyncio.gather(*asks))[0]\n"
        "        return asyncio.run(both())"
    ),
    "threads": (
        "import contextvars\n"
        "        from concurrent.futures import ThreadPoolExecutor\n"
        "        with ThreadPoolExecutor(2) as pool:\n"
        "            asks = [pool.submit(contextvars.copy_context().run, self.step, word=w)\n"
        "                    for w in (word, word + '0')]\n"
        "            return asks[0].result()"
    ),
}


@pytest.mark.parametrize("kind", OWN_THREADS)
def test_a_program_may_have_threads_of_its_own(tmp_path: Path, kind: str) -> None:
    source = find_program(written(tmp_path, wrapped(body=OWN_THREADS[kind])), TASK)
    assert isinstance(source, Source)
    records, model = evaluated(tmp_path, source, script)
    assert all(record.correct for record in records), records[0].feedback
    assert len(model.asked) == len(set(model.asked)) == 60
