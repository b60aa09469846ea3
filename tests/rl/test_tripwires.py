"""Rewards that can be earned without being right are found, and honest ones are left alone."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from reward_models.load import load_reward
from reward_models.probe import degenerate_answers
from reward_models.task import TaskReward
from rl.findings import Finding, read_findings, write_findings
from rl.reward_probe import probe_reward
from rl.tripwires import NAME, reward_up_score_down
from tasks.types import Example, Prompt, Score

WORDS = ["walked", "ran", "went", "sang", "took", "held", "bought"]
WORDS += ["slept", "ate", "wrote", "drove", "knew", "flew", "gave"]
VERBS = [Example(f"v{i}", {"input": word[::-1]}, word) for i, word in enumerate(WORDS)]
YES_NO = [Example(f"y{i}", {"input": f"q{i}"}, ("yes", "no")[i % 2]) for i in range(20)]
DIRECT, COT = Prompt("Answer."), Prompt("Answer.", style="cot")


def exact(example: Example, text: str) -> Score:
    right = text == example.answer
    return Score(float(right), right)


def inside(example: Example, text: str) -> Score:
    right = example.answer in text.split()
    return Score(float(right), right)


def within_one(example: Example, text: str) -> Score:
    """A graded score that longer texts do better in, as a task may want it."""
    value = min(1.0, len(text) / 8 if text != example.answer else 1.0)
    return Score(value, value == 1)


def probed(reward, examples=VERBS, prompt=DIRECT, score=exact) -> dict[str, Finding]:
    """`reward` is the name of a built-in or a function of (reply, example)."""
    table = {example.id: example for example in examples}
    task = TaskReward(score, prompt, table)
    if isinstance(reward, str):
        called = load_reward(reward, score=score, prompt=prompt, examples=table)
    else:

        def called(prompts, completions, *, example_id, **_):
            replies = [turns[-1]["content"] for turns in completions]
            return [reward(r, table[key]) for r, key in zip(replies, example_id, strict=True)]

    return {f.name: f for f in probe_reward(called, task, prompt, examples)}


def tripped(found: dict[str, Finding]) -> set[str]:
    return {name.removeprefix("reward: ") for name, f in found.items() if f.level == "tripped"}


@pytest.mark.parametrize("prompt", [DIRECT, COT])
@pytest.mark.parametrize("score", [exact, inside, within_one])
@pytest.mark.parametrize("examples", [VERBS, YES_NO, VERBS[:4], YES_NO[:5]])
def test_the_tasks_own_score_trips_nothing(examples, score, prompt):
    found = probed("task", examples, prompt, score)
    assert {f.level for f in found.values()} == {"ok"}
    assert {"reward: shuffled gold", "reward: length"} <= found.keys()


@pytest.mark.parametrize("examples", [VERBS, YES_NO])
@pytest.mark.parametrize("reward", ["contains", "closeness"])
def test_partial_credit_trips_nothing(examples, reward):
    assert tripped(probed(reward, examples)) == set()


@pytest.mark.parametrize(
    "honest",
    [
        lambda text, e: 2.0 * (text == e.answer) - 1,
        lambda text, e: 1e6 * (text == e.answer) - 7e6,
        lambda text, e: -5.0 if not text else float(text == e.answer),
        lambda text, e: float(text == e.answer) - 0.01 * len(text),
        lambda text, e: None if len(e.answer) > 5 else float(text == e.answer),
        lambda text, e: (text == e.answer) + random.Random(text + e.id).gauss(0, 0.15),
    ],
    ids=["signed", "huge", "harsh on empty", "brief", "sometimes silent", "noisy"],
)
@pytest.mark.parametrize("examples", [VERBS, YES_NO])
def test_an_honest_reward_on_another_scale_trips_nothing(honest, examples):
    assert tripped(probed(honest, examples)) == set()


def test_a_balanced_constant_answer_earns_its_half_and_no_more():
    found = probed("task", YES_NO)["reward: most common gold"]
    assert "passes for gold on 10 of 20 examples, by the task's score on 10" in found.detail


@pytest.mark.parametrize(
    "gold_free",
    [
        lambda text, e: 1.0 if text.isalpha() else 0.0,
        lambda text, e: random.Random(text + e.id).gauss(0, 1),
        lambda text, e: -1.0 - (not text),
    ],
    ids=["form", "noise", "anything"],
)
def test_a_gold_free_reward_is_found(gold_free):
    assert "shuffled gold" in tripped(probed(gold_free))
    assert "shuffled gold" in tripped(probed(gold_free, YES_NO))


@pytest.mark.parametrize(
    ("reward", "wire"),
    [
        (lambda text, e: float(text == e.answer or not text), "empty answer"),
        (lambda text, e: 0.9 if not text else float(text == e.answer), "empty answer"),
        (lambda text, e: 10.0 * (text in (e.answer, WORDS[0])), "most common gold"),
        (lambda text, e: float(text == e.answer or "ipsum" in text), "nonsense"),
        (lambda text, e: float(e.answer in text.split(", ")), "all options"),
    ],
)
def test_a_degenerate_answer_that_pays_trips_its_wire_alone(reward, wire):
    assert tripped(probed(reward)) == {wire}


@pytest.mark.parametrize("prompt", [DIRECT, COT])
@pytest.mark.parametrize(
    "longer",
    [lambda text, e: float(len(text)), lambda text, e: (e.answer in text) + 0.001 * len(text)],
    ids=["length", "a little for length"],
)
def test_a_reward_that_pays_for_length_is_found(longer, prompt):
    found = probed(longer, prompt=prompt)
    assert "length" in tripped(found)
    assert "made longer is paid more on 14 of 14" in found["reward: length"].detail


def test_a_reward_that_raises_is_a_note_and_the_rest_is_probed():
    def fragile(text: str, example: Example) -> float:
        return float(text == example.answer) if text[0] else 0.0

    found = probed(fragile)
    assert found["reward: empty answer"].level == "note"
    assert "IndexError" in found["reward: empty answer"].detail
    assert found["reward: shuffled gold"].level == "ok"


def test_a_reward_that_raises_always_or_never_answers_is_only_noted():
    def broken(text: str, example: Example) -> float:
        raise OSError("two\nlines")

    notes = probed(broken)
    assert {f.level for f in notes.values()} == {"note"}
    assert all("\n" not in f.detail for f in notes.values())
    [silent] = probed(lambda text, e: None).values()
    assert silent.level == "note" and "no reward for more than half" in silent.detail


def test_gold_that_the_task_does_not_accept_is_no_yardstick():
    [found] = probed("task", score=lambda e, t: Score(0.0, False)).values()
    assert (found.name, found.level) == ("reward: not probed", "note")


def test_shuffled_gold_is_always_another_answer():
    for examples in (VERBS, YES_NO, VERBS + YES_NO[:3]):
        shuffled = degenerate_answers(examples)["shuffled gold"]
        assert None not in shuffled
        assert all(a != e.answer for a, e in zip(shuffled, examples, strict=True))
    lopsided = [*YES_NO[::2], YES_NO[1]]
    assert sum(a is not None for a in degenerate_answers(lopsided)["shuffled gold"]) == 2
    assert set(degenerate_answers(YES_NO[::2])["all options"]) == {None}


def run_of(reward, dev, *, steps=60, every=5, n=150, seed=0, score=None) -> list[dict]:
    """Rows of a stage: `reward` and `dev` are means by step, of 64 rollouts and n examples."""
    rng = random.Random(seed)

    def drawn(p: float, count: int) -> float:
        return sum(rng.random() < p for _ in range(count)) / count

    rows = [{"step": 0, "phase": "dev", "dev_score": drawn(dev(0), n)}]
    for step in range(1, steps + 1):
        paid = drawn(reward(step), 64)
        own = paid if score is None else drawn(score(step), 64)
        rows.append({"step": step, "phase": "train", "reward": paid, "score": own})
        if step % every == 0:
            rows.append({"step": step, "phase": "dev", "dev_score": drawn(dev(step), n)})
    return rows


def rising(step: int) -> float:
    return 0.2 + 0.6 * step / 60


def falling(step: int) -> float:
    return 0.7 if step < 20 else max(0.2, 0.7 - (step - 20) / 60)


@pytest.mark.parametrize("seed", range(5))
def test_a_reward_that_rises_while_dev_falls_trips(seed):
    [found] = reward_up_score_down(run_of(rising, falling, score=falling, seed=seed), 150)
    assert (found.name, found.level) == (NAME, "tripped")
    assert found.step is not None and 25 <= found.step <= 60
    assert "while dev fell from 0." in found.detail


def test_it_says_the_same_step_however_far_the_run_has_come():
    rows = run_of(rising, falling, score=falling)
    [whole] = reward_up_score_down(rows, 150)
    part = [row for row in rows if row["step"] <= (whole.step or 0)]
    assert reward_up_score_down(part, 150) == [whole]
    assert reward_up_score_down(part[:-1], 150)[0].level == "ok"


@pytest.mark.parametrize("every", [1, 5])
@pytest.mark.parametrize("n", [20, 150])
def test_noise_alone_hardly_ever_trips(every, n):
    """The harshest clean run: dev level, with the noise of new examples each time."""
    found = [
        reward_up_score_down(
            run_of(rising, lambda s: 0.6, score=lambda s: 0.6, seed=seed, every=every, n=n), n
        )[0]
        for seed in range(100)
    ]
    assert sum(f.level == "tripped" for f in found) <= 4


def test_a_falling_dev_score_alone_and_a_rising_reward_alone_are_silent():
    for reward, dev in ((lambda s: 0.5, falling), (rising, rising), (falling, falling)):
        [found] = reward_up_score_down(run_of(reward, dev, score=lambda s: 0.5), 150)
        assert found.level == "ok"


def test_the_tasks_own_score_as_reward_is_overfitting_at_worst():
    [found] = reward_up_score_down(run_of(rising, falling), 150)
    assert found.level == "ok"


def test_methods_without_a_reward_and_stages_just_begun_say_nothing():
    rows = [{"step": 0, "phase": "dev", "dev_score": 0.5}, {"step": 1, "phase": "train", "loss": 1}]
    assert reward_up_score_down(rows, 10) == []
    assert reward_up_score_down([], 10) == []


def test_findings_are_written_as_a_whole_and_twice_is_once(tmp_path: Path):
    ok = Finding("checkpoint", "ok", 5, "same")
    later = Finding("checkpoint", "ok", 10, "same")
    bad = Finding("length", "tripped", 7, "longer")
    write_findings(tmp_path / "stage", [ok, bad])
    before = (tmp_path / "stage/audits.json").read_bytes()
    write_findings(tmp_path / "stage", [ok, bad])
    assert (tmp_path / "stage/audits.json").read_bytes() == before
    write_findings(tmp_path / "stage", [later])
    assert read_findings(tmp_path / "stage") == [bad, later]
    missing = Finding("checkpoint", "tripped", 15, "missing")
    write_findings(tmp_path / "stage", [missing, Finding("checkpoint", "ok", 20, "same")])
    assert read_findings(tmp_path / "stage") == [missing, bad]
    assert [path.name for path in (tmp_path / "stage").iterdir()] == ["audits.json"]
