"""Records come in order, batches are seeded apart, and Parquet gives back what it took."""

from __future__ import annotations

import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from evaluation.evaluate import evaluate, mean_score
from evaluation.records import SCHEMA, TEXT, read_answers, read_records, write_records
from evaluation.types import EvalRecord
from lm import Caps, Ledger, Sampling, ScriptedLM
from lm.ledger import BudgetExhausted
from lm.types import ModelError, PromptTooLong
from tasks.types import Example, Prompt, Score

PROMPT = Prompt("Echo.")
EXAMPLES = [Example(f"e{i}", {"input": f"q{i}"}, f"a{i}", {"odd": i % 2 == 1}) for i in range(5)]


def exact(example: Example, text: str) -> Score:
    return Score(float(text == example.answer), text == example.answer, "wrong", f"saw {text}")


def _echo(chat, index):
    return "a" + chat[-1]["content"][1:] if index == 0 else "no"


class Recording(ScriptedLM):
    """Remembers what it was asked with."""

    def __init__(self):
        super().__init__(_echo)
        self.asked: list[tuple[int, Sampling]] = []

    def generate(self, chats, sampling, purpose):
        self.asked.append((len(chats), sampling))
        return super().generate(chats, sampling, purpose)


def test_one_record_for_each_example_and_sample_in_order():
    model = ScriptedLM(_echo)
    records = evaluate(model, PROMPT, EXAMPLES, exact, Sampling(n=2), split="test", batch=2)
    shown = [(r.example_id, r.sample) for r in records]
    assert shown == [(f"e{i}", s) for i in range(5) for s in (0, 1)]
    assert [r.correct for r in records] == [True, False] * 5
    assert {r.failure for r in records} == {None, "wrong"}
    assert mean_score(records) == 0.5
    assert mean_score([]) == 0.0
    first = replace(records[0], seconds=0.0)
    assert (first.gold, first.text, first.answer, first.feedback) == ("a0", "a0", "a0", "saw a0")
    assert (json.loads(first.inputs), json.loads(first.meta)) == ({"input": "q0"}, {"odd": False})
    assert (first.prompt_tokens, first.completion_tokens) == (len("Echo.q0"), 2)
    assert model.ledger.usage["eval"].completions == 10


def test_batches_report_progress_and_draw_with_seeds_of_their_own():
    reports = []

    def progress(step, total, **figures):
        reports.append((step, total, figures["score"]))

    models = [Recording(), Recording()]
    for model in models:
        evaluate(
            model,
            PROMPT,
            EXAMPLES,
            exact,
            Sampling(temperature=1.0, seed=3),
            split="dev",
            purpose="metric",
            progress=progress,
            batch=2,
        )
    assert reports[:3] == [(2, 5, 1.0), (4, 5, 1.0), (5, 5, 1.0)]
    assert [size for size, _ in models[0].asked] == [2, 2, 1]
    assert len({sampling.seed for _, sampling in models[0].asked}) == 3
    assert models[0].asked == models[1].asked
    assert list(models[0].ledger.usage) == ["metric"]


def test_shared_ids_are_refused_and_no_examples_are_fine():
    model = ScriptedLM(_echo)
    with pytest.raises(ValueError, match="test split share an id"):
        evaluate(model, PROMPT, EXAMPLES + EXAMPLES[:1], exact, Sampling(), split="test")
    assert evaluate(model, PROMPT, [], exact, Sampling(), split="test") == []


def test_a_spent_budget_stops_the_evaluation():
    model = ScriptedLM(_echo, Ledger(caps=Caps(rollouts=2)))
    with pytest.raises(BudgetExhausted):
        evaluate(model, PROMPT, EXAMPLES, exact, Sampling(), split="dev", purpose="metric", batch=2)


def test_parquet_gives_back_what_it_took(tmp_path):
    records = evaluate(ScriptedLM(_echo), PROMPT, EXAMPLES, exact, Sampling(n=2), split="test")
    path = tmp_path / "records.parquet"
    write_records(path, records)
    assert read_records(path) == records
    assert pq.read_schema(path).equals(SCHEMA)
    write_records(path, [])  # an existing file is replaced, and no rows keep their types
    assert read_records(path) == []
    assert pq.read_schema(path).equals(SCHEMA)
    assert [p.name for p in tmp_path.iterdir()] == ["records.parquet"]


def test_columns_hold_what_records_hold(tmp_path):
    records = evaluate(ScriptedLM(_echo), PROMPT, EXAMPLES, exact, Sampling(n=2), split="test")
    write_records(tmp_path / "r.parquet", records)
    frame = read_answers(tmp_path / "r.parquet")
    assert list(frame.columns) == list(EvalRecord.__annotations__)
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    assert [EvalRecord(**row) for row in rows] == records
    assert {r.failure for r in records} > {None}  # some fail and some do not
    assert set(frame.select_dtypes(TEXT)) == {
        name for name, shown in EvalRecord.__annotations__.items() if shown.startswith("str")
    }
    assert frame["correct"].dtype == bool
    write_records(tmp_path / "r.parquet", [])
    assert read_answers(tmp_path / "r.parquet").dtypes.equals(frame.dtypes)


def test_half_a_surrogate_pair_is_stored_escaped(tmp_path):
    records = evaluate(ScriptedLM(_echo), PROMPT, EXAMPLES[:1], exact, Sampling(), split="test")
    write_records(tmp_path / "r.parquet", [replace(records[0], answer="\ud83d")])
    assert read_records(tmp_path / "r.parquet")[0].answer == "\\ud83d"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    records = evaluate(ScriptedLM(_echo), PROMPT, EXAMPLES, exact, Sampling(), split="test")
    write_records(tmp_path / "r.parquet", records)
    with pytest.raises(Exception, match="tried to convert to int64"):
        write_records(tmp_path / "r.parquet", [replace(records[0], prompt_tokens="many")])  # type: ignore[arg-type]
    assert read_records(tmp_path / "r.parquet") == records
    assert [p.name for p in tmp_path.iterdir()] == ["r.parquet"]


def test_a_question_that_does_not_fit_is_an_empty_answer() -> None:
    class Narrow(ScriptedLM):
        def generate(self, chats, sampling, purpose):
            if max(len(chat[-1]["content"]) for chat in chats) > 5:
                raise PromptTooLong("model: a prompt of 9 tokens")
            return super().generate(chats, sampling, purpose)

    rows = [
        Example(f"e{i}", {"input": text}, "yes") for i, text in enumerate(("a", "too long", "b"))
    ]
    prompt, score = Prompt("Say yes."), lambda e, t: Score(float(t == "yes"), t == "yes")
    records = evaluate(Narrow(lambda *_: "yes"), prompt, rows, score, Sampling(), split="dev")
    assert [r.score for r in records] == [1, 0, 1]
    assert (records[1].text, records[1].finish, records[1].failure) == ("", "length", "empty")
    with pytest.raises(ModelError, match="9 tokens"):
        evaluate(Narrow(["yes"]), prompt, rows[1:2], score, Sampling(), split="dev")
