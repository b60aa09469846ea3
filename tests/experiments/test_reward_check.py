"""`tasklift reward-check` on the tiny model: answers drawn or of a run, curves, bad input."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest
import yaml

from experiments.cli import main
from experiments.reward_answers import Origin
from experiments.reward_check import read_reward
from experiments.reward_curve import trainings
from reward_models.config import Composition

SPEC: dict[str, Any] = {
    "name": "checked",
    "task": "letters.py",
    "model": "tiny-random",
    "splits": {"train": 24, "dev": 8, "test": 12},
    "sampling": {"max_tokens": 6},
    "methods": {
        "bootstrap": {"candidates": 1, "dev_examples": 4, "train_examples": 8},
        "grpo": {
            "steps": 6,
            "prompts_per_step": 4,
            "group_size": 8,
            "learning_rate": 1e-2,
            "reward": "mine.py:long",
            "eval_every": 2,
            "checkpoint_every": 3,
        },
    },
    "arms": {"zero-shot": [], "grpo": ["grpo"], "prompt": ["bootstrap"]},
}
REWARDS = """
def long(prompts, completions, **columns):
    return [len(turns[-1]["content"]) for turns in completions]

def letters(prompts, completions, **columns):
    return [min(1.0, sum(c.isalpha() for c in t[-1]["content"]) / 6) for t in completions]

def silent(prompts, completions, **columns):
    return [None for _ in completions]

def broken(prompts, completions, **columns):
    return [float("nan") for _ in completions]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, kinds_task: str) -> Path:
    place = tmp_path_factory.mktemp("checked")
    (place / "letters.py").write_text(kinds_task)
    (place / "mine.py").write_text(REWARDS)
    (place / "spec.yaml").write_text(yaml.safe_dump(SPEC, sort_keys=False))
    assert main(["run", str(place / "spec.yaml"), "--out", str(place / "runs")]) == 0
    return place


def asked(folder: Path, reward: str, *more: str) -> list[str]:
    task = ["--task", str(folder / "letters.py"), "--model", "tiny-random", "--max-tokens", "6"]
    return ["reward-check", reward, *task, *more]


def rows_of(shown: str) -> dict[str, dict[str, str]]:
    return {row["check"]: row for row in csv.DictReader(io.StringIO(shown))}


def test_the_rollouts_of_a_run_tell_a_reward_for_length_from_one_for_letters(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["--from", str(folder / "runs/checked")]
    capsys.readouterr()
    assert main(asked(folder, f"{folder}/mine.py:long", *run)) == 0
    shown = capsys.readouterr().out
    assert "Verdict: do not train on it." in shown
    assert "grpo, first steps: " in shown and "grpo, later steps: " in shown
    assert main(asked(folder, f"{folder}/mine.py:letters", *run, "--format", "csv")) == 0
    letters = rows_of(capsys.readouterr().out)
    assert float(letters["pairs in order"]["value"]) == 1.0
    assert letters["pairs in order"]["verdict"] == "ok"
    assert int(letters["no reward"]["n"]) == 6 * 4 * 8
    assert {"pairs in order: grpo, first steps", "pairs in order: grpo, later steps"} <= set(
        letters
    )


def test_answers_are_drawn_where_no_run_is_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--draw", "6", "--examples", "8", "--curve", "best-of", "--svg", f"{tmp_path}/c.svg"]
    capsys.readouterr()
    assert main(asked(folder, f"{folder}/mine.py:letters", *words)) == 0
    shown = capsys.readouterr().out
    assert "tiny-random, drawn: 48 answers to 8 examples" in shown
    assert "best of 6" in shown and "score past its peak" in shown and "Verdict: " in shown
    tree = ElementTree.fromstring((tmp_path / "c.svg").read_text())
    assert sum(element.tag.endswith("polyline") for element in tree.iter()) == 2
    assert main(asked(folder, f"{folder}/mine.py:letters", *words, "--format", "markdown")) == 0
    assert "| n | kl | proxy |" in capsys.readouterr().out


def test_policies_of_a_run_answer_where_they_are_asked_to(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = ["--from", f"{folder}/runs/checked:prompt", "--from", f"{folder}/runs/checked:zero-shot"]
    capsys.readouterr()
    assert main(asked(folder, "task", *arms, "--draw", "4", "--examples", "6")) == 0
    shown = capsys.readouterr().out
    assert "checked:prompt, drawn: 24 answers to 6 examples" in shown
    assert "checked:zero-shot, drawn" in shown
    assert "task on letters" in shown and "do not train" not in shown


def test_the_curve_along_rl(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--curve", f"{folder}/runs/checked:grpo", "--format", "csv"]
    capsys.readouterr()
    assert main(asked(folder, f"{folder}/mine.py:long", *words)) == 0
    lines = rows_of(capsys.readouterr().out)
    assert list(lines) == ["score past its peak"]  # no answers were asked for
    picture = ["--svg", str(tmp_path / "rl.svg"), "--format", "markdown"]
    assert main(asked(folder, f"{folder}/mine.py:long", *words[:2], *picture)) == 0
    table = capsys.readouterr().out
    assert "| step | kl | kl k3 | proxy | gold |" in table.replace("_", " ")
    assert (tmp_path / "rl.svg").exists()


def test_kl_is_zero_before_the_first_step_and_grows(folder: Path) -> None:
    from experiments.reward_curve import curve_of
    from lm.hf import load_model
    from reward_models.load import load_reward
    from reward_models.subject import Subject
    from tasks.load import load_task

    task = load_task(str(folder / "letters.py"))
    examples = {example.id: example for example in task.split("train")}
    reward = f"{folder}/mine.py:letters"

    def opened(prompt):
        return load_reward(reward, score=task.score, prompt=prompt, examples=examples)

    [training] = trainings(Origin.of(f"{folder}/runs/checked:grpo"))
    subject = Subject(opened, task.score, examples)
    curve = curve_of(training, subject, load_model("tiny-random"))
    assert curve["step"].tolist() == [1, 2, 3, 4, 5, 6]
    assert abs(curve["kl"].iloc[0]) < 1e-3 and curve["kl_k3"].iloc[0] < 1e-3
    assert curve["kl_k3"].iloc[-1] > 0.01 and (curve["kl_k3"] >= -1e-9).all()
    kept = pd.read_parquet(training.folder / "rollouts.parquet")
    stepwise = kept.groupby("step")["score"].mean()  # this task's score is the letters' share
    assert curve["gold"].tolist() == pytest.approx(stepwise.tolist(), abs=1e-6)
    assert curve["proxy"].tolist() == pytest.approx(stepwise.tolist(), abs=1e-6)
    assert curve["dev_score"].notna().all()


def test_answers_that_a_reward_model_has_learned_from_are_left_out(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from reward_models.card import read_card
    from reward_models.pairs import question_digest
    from tasks.load import load_task

    task, out = str(folder / "letters.py"), tmp_path / "likes"
    run = ["--from", f"{folder}/runs/checked:grpo"]
    words = ["--model", "tiny-random", "--device", "cpu", "--head-only", "--max-pairs", "20"]
    assert main(["reward-train", task, *run, *words, "--out", str(out)]) == 0
    [training] = trainings(Origin.of(run[1]))
    asked_of = {e.id: e.inputs["input"] for e in load_task(task).split("train")}
    questions = [asked_of[row["example_id"]] for row in training.rollouts()]
    left = [q for q in questions if not read_card(out).learned_from(" ".join(q.split()))]
    assert 0 < len(left) < len(questions)
    capsys.readouterr()
    assert main(asked(folder, str(out), *run, "--format", "csv")) == 0
    shown = capsys.readouterr()
    assert int(rows_of(shown.out)["no reward"]["n"]) == len(left)
    assert f"{len(questions) - len(left)} of {len(questions)} kept answers left out" in shown.err

    card = json.loads((out / "tasklift.json").read_text())
    card["told"]["learned_from"] = [question_digest(" ".join(q.split())) for q in questions]
    (out / "tasklift.json").write_text(json.dumps(card))
    assert main(asked(folder, str(out), *run)) == 2
    assert "no kept answer is left" in capsys.readouterr().err


def test_a_composition_is_read_from_the_command_line() -> None:
    found = read_reward("{parts: [task, {reward: {format: length, max: 5}, weight: 0.2}]}")
    assert isinstance(found, Composition) and [part.weight for part in found.parts] == [1.0, 0.2]
    assert read_reward("closeness") == "closeness"


MISTAKES: dict[str, tuple[list[str], list[str]]] = {
    "no such reward": (["clossness"], ["clossness", "closeness"]),
    "no yaml": (["{parts: [task"], ["is no YAML"]),
    "no such run": (["task", "--from", "nowhere"], ["--from nowhere", "runs/<name>"]),
    "a picture of nothing": (["task", "--svg", "x.svg"], ["--svg", "--curve"]),
    "a curve of an arm without rollouts": (
        ["task", "--curve", "RUN:prompt"],
        ["--curve", "trained on rollouts"],
    ),
    "a curve of a whole run": (["task", "--curve", "RUN"], ["--curve", "RUN:ARM"]),
    "a curve of no draws": (
        ["task", "--from", "RUN:grpo", "--curve", "best-of"],
        ["--curve best-of", "--draw"],
    ),
    "a curve of answers nobody pays": (
        ["MINE:silent", "--curve", "RUN:grpo"],
        ["--curve: no rollout of", "both a reward and a score"],
    ),
    "NaN": (["MINE:broken", "--draw", "2", "--examples", "4"], ["mine.py:broken", "nan"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], mistake: str
) -> None:
    (reward, *more), expected = MISTAKES[mistake]
    named = [word.replace("RUN", f"{folder}/runs/checked") for word in more]
    capsys.readouterr()
    assert main(asked(folder, reward.replace("MINE", f"{folder}/mine.py"), *named)) == 2
    line = capsys.readouterr().err.strip()
    assert "\n" not in line and all(part in line for part in expected), line
