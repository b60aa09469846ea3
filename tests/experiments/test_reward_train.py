"""`tasklift reward-train`, and a run on what it wrote, on the tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from experiments.cli import main
from experiments.reward_answers import Origin
from lm.ledger import Ledger
from reward_models.card import read_card
from tasks.load import load_task

METHOD = {
    "steps": 2, "prompts_per_step": 4, "group_size": 8, "eval_every": 1, "checkpoint_every": 1,
    "audits": False,
}  # fmt: skip
SPEC = {
    "name": "letters",
    "task": "letters.py",
    "model": "tiny-random",
    "splits": {"train": 24, "dev": 8, "test": 12},
    "sampling": {"max_tokens": 6},
    "arms": {"untouched": [], "grpo": [{"grpo": METHOD}]},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory, kinds_task) -> Path:
    """A folder with a task and a finished run of it."""
    folder = tmp_path_factory.mktemp("letters")
    (folder / "letters.py").write_text(kinds_task)
    (folder / "spec.yaml").write_text(yaml.safe_dump(SPEC, sort_keys=False))
    assert main(["run", str(folder / "spec.yaml"), "--out", str(folder / "runs")]) == 0
    return folder


def train(place: Path, out: Path, *words: str) -> int:
    task = [str(place / "letters.py"), "--model", "tiny-random", "--device", "cpu"]
    return main(["reward-train", *task, "--out", str(out), *words])


@pytest.fixture(scope="module")
def folder(place: Path) -> Path:
    """A reward model from the run's rollouts."""
    out = place / "likes-letters"
    assert train(place, out, "--from", f"{place}/runs/letters:grpo", "--max-pairs", "60") == 0
    return out


def test_rollouts_become_a_reward_model(folder, place, capsys):
    card = read_card(folder)
    pairs = card.told["pairs"]
    assert pairs["answers"] == 64 and pairs["from_scores"] <= 60
    assert card.told["train_pairs"] + card.told["held_out_pairs"] == pairs["from_scores"]
    assert card.prompt is not None and card.prompt.instruction == "Answer in letters."


def test_the_command_says_how_good_it_is_and_what_to_write(place, capsys):
    out = place / "again"
    assert train(place, out, "--from", f"{place}/runs/letters", "--max-pairs", "30") == 0
    said = capsys.readouterr().out
    assert "of 2" in said and "others held out" in said
    assert "% in the right order [" in said and "log loss" in said and f"reward: {out}" in said


def test_answers_are_drawn_where_a_run_keeps_none(place, capsys):
    out = place / "drawn"
    assert train(place, out, "--draw", "4", "--max-tokens", "6", "--max-pairs", "40") == 0
    assert read_card(out).told["pairs"]["answers"] == 24 * 4
    assert "draw tiny-random" in capsys.readouterr().out


def test_two_policies_are_held_against_each_other(place):
    out, run = place / "across", f"{place}/runs/letters"
    sources = ("--from", f"{run}:untouched", "--from", f"{run}:grpo")
    assert train(place, out, *sources, "--draw", "2", "--across", "--max-pairs", "40") == 0
    told = read_card(out).told["pairs"]
    assert told["answers"] == 2 * 24 * 2 and len(told["policies"]) == 2 and told["across"]


def test_people_may_say_which_is_better(place):
    rows = [
        {"inputs": {"input": f"train {i}"}, "chosen": "aeiou", "rejected": f"{i}!"}
        for i in range(10)
    ]
    path = place / "labels.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert train(place, place / "people", "--pairs", str(path), "--head-only") == 0
    told = read_card(place / "people").told
    assert told["pairs"]["from_people"] == 10 and told["training"]["head_only"]


def test_of_too_many_pairs_some_are_drawn_and_the_rest_is_told(place, tmp_path, capsys):
    rows = [
        {"inputs": {"input": f"train {i}"}, "chosen": f"aeiou{k}", "rejected": "!"}
        for i in range(4)
        for k in range(3)
    ]
    path = tmp_path / "labels.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    words = ("--pairs", str(path), "--head-only", "--max-pairs", "4")
    assert train(place, tmp_path / "some", *words) == 0
    told = read_card(tmp_path / "some").told["pairs"]
    assert (told["from_people"], told["left_out"]) == (4, 8)
    said = capsys.readouterr().out
    assert "4 pairs from people (8 more left out" in said and "3 of 3 questions" in said


def test_what_others_left_in_the_way_is_not_removed(place, tmp_path, capsys):
    notes = tmp_path / "out.work/notes.txt"
    notes.parent.mkdir()
    notes.write_text("mine")
    assert train(place, tmp_path / "out", "--draw", "2") == 2
    line = capsys.readouterr().err
    assert "out.work" in line and "in the way" in line and line.count("\n") == 1
    assert notes.read_text() == "mine"


def run(place: Path, name: str, reward: str, *words: str) -> int:
    grpo = {"grpo": {**METHOD, "reward": reward}}
    spec = {**SPEC, "name": name, "arms": {"untouched": [], "grpo": [grpo]}}
    (place / f"{name}.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    return main(["run", str(place / f"{name}.yaml"), "--out", str(place / "runs"), *words])


def test_grpo_trains_on_the_folder_beside_its_spec(place, folder):
    assert run(place, "on-it", folder.name) == 0
    [stage] = (place / "runs/on-it/stages").iterdir()
    rows = pq.read_table(stage / "rollouts.parquet").to_pylist()
    assert any(abs(row["reward"] - row["score"]) > 0.01 for row in rows)
    ledger = Ledger.from_json((stage / "ledger.json").read_text())
    assert ledger.usage["reward"].prompt_tokens > 0
    assert ledger.usage["reward"].completions == 0
    assert "reward" in (place / "runs/on-it/report.md").read_text()


def test_another_content_is_another_stage(place, folder, capsys):
    def key() -> str:
        assert run(place, "planned", folder.name, "--dry-run") == 0
        return next(ln for ln in capsys.readouterr().out.splitlines() if "stage " in ln).split()[1]

    before = key()
    assert key() == before
    card = folder / "tasklift.json"
    text = card.read_text()
    card.write_text(text.replace('"steps": ""', '"steps": "min"'))
    try:
        assert key() != before
    finally:
        card.write_text(text)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "learns from what? write --from RUN, --draw 8 or --pairs FILE.jsonl"),
        (["--from", "nowhere"], "--from nowhere: is no run folder"),
        (["--from", "{run}:grop"], "no arm 'grop'; there is untouched, grpo"),
        (["--from", "{run}:untouched"], "keep no rollouts on train"),
        (["--from", "{run}", "--out", "{place}"], "there is something already"),
        (["--pairs", "none.jsonl"], "none.jsonl: cannot be read"),
        (["--pairs", "none.jsonl", "--across"], "--across: pairs answers of different policies"),
        (["--from", "{run}", "--device", "abacus"], "unknown device 'abacus'"),
        (["--from", "{run}", "--model", "nowhere"], "model: nothing to load at 'nowhere'"),
        (["--from", "{run}", "--margin", "5"], "pairs of 0 questions"),
        (["--from", "{run}", "--margin", "nan"], "--margin nan: write a number"),
        (["--from", "{run}", "--learning-rate", "-1"], "--learning-rate -1: write a number"),
        (["--from", "{run}", "--learning-rate", "0"], "--learning-rate 0: write a number above 0"),
        (["--from", "{run}", "--seed", "-1"], "--seed -1: write 0 or more"),
        (["--from", "{run}", "--out", "/proc/out"], "--out '/proc/out': cannot be written"),
    ],
)
def test_bad_input_is_one_line(place, tmp_path, capsys, words, message):
    given = [word.format(run=place / "runs/letters", place=place) for word in words]
    assert train(place, tmp_path / "out", *given) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


@pytest.mark.parametrize("break_it", ["no-folder", "lm", "other-task", "damaged"])
def test_a_spec_with_no_such_reward_ends_before_anything_runs(
    place, folder, capsys, tmp_path, break_it
):
    import shutil

    from lm.source import resolve

    bad = tmp_path / "bad"
    if break_it == "lm":
        shutil.copytree(resolve("tiny-random"), bad)
    elif break_it != "no-folder":
        shutil.copytree(folder, bad)
        card = (bad / "tasklift.json").read_text()
        other = card.replace('"input"', '"verb"') if break_it == "other-task" else card[:40]
        (bad / "tasklift.json").write_text(other)
    capsys.readouterr()
    assert run(place, f"bad-{break_it}", str(bad)) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and str(bad) in said
    assert not list((place / f"runs/bad-{break_it}").glob("stages/*/rollouts.parquet"))


def test_a_killed_command_goes_on_and_another_one_begins_anew(place, tmp_path, monkeypatch, capsys):
    import reward_models.training as room

    real, out = room.train_reward, tmp_path / "out"

    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(room, "train_reward", killed)
    words = ("--draw", "2", "--max-tokens", "6", "--max-pairs", "20")
    assert train(place, out, *words) == 130
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "out.work/drawn").rglob("*.json")}
    assert kept and train(place, out, *words) == 130
    assert kept == {p: p.stat().st_mtime_ns for p in kept}
    assert train(place, out, *words, "--seed", "1") == 130
    assert kept != {p: p.stat().st_mtime_ns for p in kept}
    monkeypatch.setattr(room, "train_reward", real)
    assert train(place, out, *words) == 0
    assert not (tmp_path / "out.work").exists()


def test_what_other_weights_drew_is_drawn_anew(place, tmp_path, monkeypatch):
    import reward_models.training as room
    from lm.tiny import write_tiny_model

    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(room, "train_reward", killed)
    words = ("--model", str(tmp_path / "lm"), "--draw", "2", "--max-tokens", "6")
    drawn = []
    for seed in (0, 1):
        write_tiny_model(tmp_path / "lm", seed=seed)
        assert train(place, tmp_path / "out", *words) == 130
        parts = sorted((tmp_path / "out.work/drawn").rglob("*.json"))
        drawn.append([part.read_text() for part in parts])
    assert drawn[0] and drawn[0] != drawn[1]


def test_answers_of_a_task_that_has_changed_are_scored_anew(
    place, folder, tmp_path, capsys, kinds_task
):
    changed = tmp_path / "letters.py"
    changed.write_text(kinds_task.replace("c.isalpha()", "c.islower()"))
    assert not Origin.of(str(place / "runs/letters")).is_scored_by(load_task(str(changed)))
    words = ["--model", "tiny-random", "--device", "cpu", "--out", str(tmp_path / "out")]
    given = ["--from", str(place / "runs/letters"), "--max-pairs", "20"]
    code = main(["reward-train", str(changed), *words, *given])
    said = capsys.readouterr()
    assert "has changed; scoring anew" in said.out
    assert code == 0
    before = read_card(folder).told["pairs"]["mean_score"]
    assert read_card(tmp_path / "out").told["pairs"]["mean_score"] < before
