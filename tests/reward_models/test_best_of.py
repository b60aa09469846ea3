"""Best-of-n picks without gold, pays for all it drew, and is judged like any other answer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evaluation.evaluate import evaluate
from evaluation.types import BestOf, Context, Policy
from lm import Ledger, Sampling, ScriptedLM
from lm.types import Completion
from reward_models.best_of import ChooseBest, by_reward, choose_by, chooser, majority
from reward_models.best_of_config import BestOfConfig
from reward_models.types import RewardError
from tasks.types import Example, Prompt, Score, TaskError
from tests.lm.endpoint_server import Reply, Served, completion
from tests.reward_models.vowels import PROMPT as VOWELS

PROMPT = Prompt("Echo.")
EXAMPLES = [Example(f"e{i}", {"input": f"q{i}"}, f"a{i}", {"accepted": ["x"]}) for i in range(5)]
GREEDY = Sampling()
SAID = ("wrong", "a", "wrong again", "a", "b!")
REWARDS = """
def short(prompts, completions, **columns):
    assert "answer" not in columns and "meta" not in columns, sorted(columns)
    assert all(row["input"].startswith("q") for row in columns["inputs"])
    return [-len(turns[-1]["content"]) for turns in completions]

def needy(prompts, completions, answer, **columns):
    return [0.0 for _ in completions]

def none(prompts, completions, **columns):
    return [None for _ in completions]
"""


def exact(example: Example, text: str) -> Score:
    return Score(float(text == example.answer), text == example.answer, "wrong", f"saw {text}")


def said(chat: Any, index: int) -> str:
    """Sample 1 and 3 are right."""
    text = SAID[index % len(SAID)]
    return text + chat[-1]["content"][1:] if text == "a" else text


@pytest.fixture
def rewards(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(REWARDS)
    return tmp_path / "mine.py"


def improved(config: BestOfConfig, seed: int = 0) -> Policy:
    method = ChooseBest(config)
    start = Policy("tiny-random", PROMPT)
    method.check(start, EXAMPLES, EXAMPLES, exact)
    context: Any = Context(exact, lambda _: None, Ledger(), Path(), Sampling(), seed, print)  # type: ignore[arg-type]
    return method.improve(start, EXAMPLES, EXAMPLES, context)


def ask(policy: Policy, exam: Sampling = GREEDY, batch: int = 2) -> tuple[list, ScriptedLM]:
    model, best = ScriptedLM(said), policy.best_of
    assert best is not None
    choose = chooser(best, PROMPT, EXAMPLES, model.ledger)
    sampling = best.sampling(exam)
    found = evaluate(
        model, PROMPT, EXAMPLES, exact, sampling, split="test", batch=batch, choose=choose
    )
    return found, model


def test_the_reward_picks_and_all_draws_are_paid(rewards: Path) -> None:
    policy = improved(BestOfConfig(n=4, reward=f"{rewards}:short"))
    records, model = ask(policy)
    assert [(r.example_id, r.sample) for r in records] == [(e.id, 0) for e in EXAMPLES]
    assert all(r.correct and r.text == r.gold for r in records)  # the shortest, the first of two
    drawn = sum(len(text.encode()) for text in ("wrong", "a0", "wrong again", "a0"))
    assert [r.completion_tokens for r in records] == [drawn] * 5
    assert model.ledger.usage["eval"].completions == 20
    assert model.ledger.usage["eval"].completion_tokens == 5 * drawn


def test_several_samples_are_several_picks() -> None:
    policy = improved(BestOfConfig(n=2))
    records, _ = ask(policy, Sampling(n=2))
    assert [(r.example_id, r.sample) for r in records] == [
        (e.id, s) for e in EXAMPLES for s in (0, 1)
    ]
    # draws 0 and 1 tie: the first; 2 and 3 tie: the first
    assert [r.text for r in records[:2]] == ["wrong", "wrong again"]


def test_the_vote_takes_the_most_frequent_answer() -> None:
    records, _ = ask(improved(BestOfConfig(n=4)))
    assert all(r.correct for r in records)  # twice a…, once each of the others


@pytest.mark.parametrize(
    ("texts", "winner"),
    [
        (["b", "a", "A.", "b"], 0),  # two each: who is said first
        (["c", "a", '"A"', "b"], 1),  # case, quotes and stops do not part them
        (["", "", "", "x"], 3),  # silence has no vote
        (["", " ", ""], 0),
        (["no mark", "Answer: 4", "Answer: 4", "Answer: 5"], 1),
        (["x", "y", "no mark"], 0),  # nobody names an answer
    ],
)
def test_votes(texts: list[str], winner: int) -> None:
    style = "cot" if any("mark" in text for text in texts) else "direct"
    picks = majority(replace(PROMPT, style=style))
    group = [Completion(text, (1,), (0.0,), "stop", 1) for text in texts]
    marked = [replace(c, text=c.text.replace("Answer:", PROMPT.marker)) for c in group]
    assert picks(EXAMPLES[:1], [[]], [marked]) == [winner]


@pytest.mark.parametrize("noted", [{"tool_calls": [{"name": "add"}]}, {"malformed": "no end"}])
def test_a_call_that_nobody_answered_is_no_answer(noted: dict[str, Any]) -> None:
    def said(text: str, finish: Any, **more: Any) -> Completion:
        turn = {"role": "assistant", "content": text, **more}
        return Completion(text, (1,), (0.0,), finish, 1, transcript=(turn,))

    call = said("<call>", "turns" if "tool_calls" in noted else "length", **noted)
    group = [call, call, said("b", "stop")]
    assert majority(PROMPT)(EXAMPLES[:1], [[]], [group]) == [2]
    assert majority(PROMPT)(EXAMPLES[:1], [[]], [group[:2]]) == [0]
    shown: list[str] = []

    def longest(prompts: Any, completions: Any, **columns: Any) -> list[float | None]:
        shown.extend(turns[0]["content"] for turns in completions)
        return [9.0, 9.0, -1.0]

    assert by_reward(longest)(EXAMPLES[:1], [[]], [group]) == [2]
    assert shown == ["", "", "b"]


def test_no_reward_loses_and_ties_go_to_the_first() -> None:
    values: list[float | None] = [None, -3.0, None, -3.0, None, None]
    group = [Completion(str(i), (1,), (0.0,), "stop", 1) for i in range(3)]
    picks = by_reward(lambda prompts, completions, **columns: values)
    assert picks(EXAMPLES[:2], [[], []], [group, group]) == [1, 0]
    choose = choose_by(picks, 3)
    rows = choose(EXAMPLES[:2], [[], []], [group, group])
    assert [[c.text for c in row] for row in rows] == [["1"], ["0"]]
    assert rows[0][0].completion_tokens == 3


@pytest.mark.parametrize("reward", ["task", "closeness", {"parts": ["task", {"format": "tags"}]}])
def test_rewards_that_read_gold_are_refused(reward: Any) -> None:
    with pytest.raises(RewardError, match="reads the gold answer"):
        improved(BestOfConfig.model_validate({"reward": reward}))


def test_a_function_that_needs_the_answer_is_refused_before_anything_runs(rewards: Path) -> None:
    with pytest.raises(RewardError, match=r"must do without answer and meta") as caught:
        improved(BestOfConfig(reward=f"{rewards}:needy"))
    assert "\n" not in str(caught.value)


def test_a_program_is_refused() -> None:
    policy = Policy("m", PROMPT, program=Path("program"))
    with pytest.raises(TaskError, match="best_of: needs a prompt"):
        ChooseBest(BestOfConfig()).check(policy, EXAMPLES, EXAMPLES, exact)


def test_the_fingerprint_hangs_on_what_picks(rewards: Path) -> None:
    config = BestOfConfig(n=4, reward=f"{rewards}:short")
    before = improved(config)
    prints = [
        Policy("tiny-random", PROMPT).fingerprint(),
        before.fingerprint(),
        improved(config, seed=1).fingerprint(),
        improved(BestOfConfig(n=5, reward=config.reward)).fingerprint(),
        improved(BestOfConfig(n=4, reward=f"{rewards}:none")).fingerprint(),
        improved(BestOfConfig(n=4, temperature=0.7, reward=config.reward)).fingerprint(),
    ]
    rewards.write_text(REWARDS + "\n")
    prints.append(improved(config).fingerprint())
    assert len(set(prints)) == len(prints)
    assert before.best_of is not None
    with pytest.raises(RewardError, match="has changed"):
        chooser(before.best_of, PROMPT, EXAMPLES, None)
    moved = rewards.parent / "elsewhere"
    moved.mkdir()
    (moved / "mine.py").write_text(REWARDS)
    there = improved(BestOfConfig(n=4, reward=f"{moved}/mine.py:short"))
    assert there.fingerprint() == before.fingerprint()  # where it lies does not matter


def test_other_seeds_draw_otherwise() -> None:
    best = BestOf(4, 0.7, json.dumps("majority"), "")
    exam = Sampling(max_tokens=9, n=2, seed=3, stop=("x",))
    drawn = best.sampling(exam)
    assert (drawn.n, drawn.temperature, drawn.max_tokens, drawn.stop) == (8, 0.7, 9, ("x",))
    assert len({drawn.seed, replace(best, seed=1).sampling(exam).seed, exam.seed}) == 3


def test_a_learned_reward_picks_and_its_cost_is_told_apart(vowels: Path) -> None:
    """The reward model likes vowels, and knows no answer."""
    asked = [Example(f"v{i}", {"word": f"word {i}"}, "aei") for i in range(3)]
    prompt, method = VOWELS, ChooseBest(BestOfConfig(n=3, reward=str(vowels)))
    method.check(Policy("tiny", prompt), asked, asked, exact)
    best = method.answering(Policy("tiny", prompt), 0).best_of
    assert best is not None
    model = ScriptedLM(lambda chat, i: ("bcd", "aei", "kgf")[i])
    choose = chooser(best, prompt, asked, model.ledger)
    records = evaluate(
        model, prompt, asked, exact, best.sampling(GREEDY), split="test", choose=choose
    )
    assert [record.text for record in records] == ["aei"] * 3
    assert model.ledger.usage["reward"].prompt_tokens > 0
    assert model.ledger.usage["eval"].completions == 9


def test_a_judge_picks_without_gold(
    server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKLIFT_CACHE", str(tmp_path / "cache"))

    def grades(body: dict[str, Any]) -> Reply:
        return completion("5" if "good" in json.dumps(body["messages"]) else "1")

    server.reply = grades
    judge = {"model": "big", "endpoint": server.url, "rubric": "Which says so?"}
    config = BestOfConfig.model_validate({"n": 2, "reward": {"judge": judge}})
    method = ChooseBest(config)
    method.check(Policy("m", PROMPT), EXAMPLES, EXAMPLES, exact)
    best = method.answering(Policy("m", PROMPT), 0).best_of
    assert best is not None
    model = ScriptedLM(lambda chat, i: ("bad", "good")[i])
    choose = chooser(best, PROMPT, EXAMPLES, model.ledger)
    records = evaluate(
        model, PROMPT, EXAMPLES, exact, best.sampling(GREEDY), split="test", choose=choose
    )
    assert [record.text for record in records] == ["good"] * 5
    assert model.ledger.usage["judge"].completions == 10
    asked = json.dumps(server.asked)
    assert "q3" in asked and not any(example.answer in asked for example in EXAMPLES)
