"""Following a run reads files and nothing else, whatever state the run is in."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from experiments.cli import main
from experiments.following import RunState, state_of
from experiments.progress import Lines, clock
from experiments.watch import bars, closing, ended, news, screen
from lm.ledger import Caps, Ledger

GRPO = {"steps": 10, "prompts_per_step": 4, "group_size": 2}
SHOTS = {"name": "shots", "kind": "labeled", "config": {}}
RL = {"name": "rl", "kind": "grpo", "config": GRPO}


def train(step: int, reward: float) -> dict:
    return {"step": step, "phase": "train", "reward": reward, "rollouts": 8 * step}


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Path]:
    """A run at work: one stage done, one in its third step, two not begun."""
    path = tmp_path / "verbs"
    arms = [
        {"arm": name, "seed": seed, "stages": keys, "eval": None, "test_reads": 0, "exam": "x"}
        for seed, keys in ((0, ["A", "B"]), (1, ["C", "D"]))
        for name, keys in (("shots", keys[:1]), ("shots+rl", keys))
    ]
    spec = {"name": "verbs", "arms": {"shots": [SHOTS], "shots+rl": [SHOTS, RL]}}
    told = {"name": "verbs", "task": "t", "model": "m", "budget": {"rollouts": 100}}
    write(path / "spec.yaml", yaml.safe_dump(spec))
    write(path / "run.json", json.dumps({**told, "complete": False}))
    write(path / "arms.json", json.dumps(arms))
    write(path / ".lock", "")
    ledger = Ledger(wall_seconds=5.0)
    ledger.add("metric", completions=12, prompt_tokens=1, completion_tokens=1, seconds=1)
    stage(path / "stages/A", SHOTS, [{"step": 0, "phase": "dev", "dev_score": 0.25}])
    write(path / "stages/A/ledger.json", ledger.to_json())
    write(path / "stages/A/DONE", "")
    dev = {"step": 2, "phase": "dev", "dev_score": 0.5, "rollouts": 16}
    stage(path / "stages/B", RL, [train(1, 0.25), train(2, 0.375), dev, train(3, 0.75)])
    write(path / "stages/B/wall_seconds", "30.0")
    with (path / "stages/B/metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "phase": "tra')  # being written now
    with (path / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield path


def stage(place: Path, step: dict, rows: list[dict]) -> None:
    told = {"method": step["name"], "kind": step["kind"], "config": step["config"], "seed": 0}
    write(place / "stage.json", json.dumps(told))
    write(place / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def drawn(state: RunState, width: int = 120, height: int = 40) -> str:
    console = Console(width=width, force_terminal=False)
    with console.capture() as shown:
        console.print(screen(state, width, height))
    return shown.get()


def test_screen_tells_where_each_stage_stands(run: Path):
    shown = drawn(state_of(run))
    [rl] = [line for line in shown.splitlines() if line.startswith("shots+rl") and "3/10" in line]
    for word in ("rl", "0.75", "0.5", "36/100", "0:30", "1:10"):  # 12 before it + 24 of its own
        assert word in rl.split(), (word, rl)
    [shots] = [
        line for line in shown.splitlines() if line.startswith("shots +1") and "done" in line
    ]
    assert "12/100" in shots
    assert sum("waits" in line and "%" not in line for line in shown.splitlines()) >= 2


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_row_is_wider_than_the_terminal_and_no_figure_is_cut(run: Path, width: int):
    rows = drawn(state_of(run), width).splitlines()
    assert max(map(len, rows)) <= width
    if width >= 80:
        assert any("36/100" in row and "1:10" in row for row in rows)


def test_a_low_terminal_still_shows_the_stage_at_work(run: Path):
    rows = drawn(state_of(run), height=1).splitlines()
    assert any("3/10" in row for row in rows) and any("1 more" in row for row in rows)


def test_lines_come_once_each_and_go_on_where_they_stood(run: Path):
    told: dict[str, int] = {}
    first = list(news(state_of(run), told))
    assert first == [
        "[1/4 shots · shots, seed 0] done in 0:05  best dev 0.25  rollouts 12/100",
        "[2/4 shots+rl · rl, seed 0] 3/10  reward 0.75  rollouts 36/100  ETA 1:10",
    ]
    assert list(news(state_of(run), told)) == []
    with (run / "stages/B/metrics.jsonl").open("a") as file:
        file.write('in", "reward": 1.0, "rollouts": 32}\n')
    assert [text.split("  ")[0] for text in news(state_of(run), told)] == [
        "[2/4 shots+rl · rl, seed 0] 4/10"
    ]
    (run / "stages/B/DONE").touch()
    assert [text.split("  ")[0] for text in news(state_of(run), told)] == [
        "[2/4 shots+rl · rl, seed 0] done in 0:30"
    ]


def test_waits_for_a_run_at_work_and_for_no_other(run: Path):
    assert state_of(run).held is not False
    left = run.with_name("left")  # as a killed run leaves it
    shutil.copytree(run, left)
    assert ended(state_of(left)) is None  # it may just be starting
    for file in left.rglob("*"):
        os.utime(file, (1e9, 1e9))
    assert "nobody works on it" in (ended(state_of(left)) or "")
    told = json.loads((run / "run.json").read_text())
    write(run / "run.json", json.dumps({**told, "complete": True}))
    assert ended(state_of(run)) == "complete"


def test_looking_writes_nothing(run: Path, capsys: pytest.CaptureFixture[str]):
    def stamps() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in [run, *run.rglob("*")]}

    before = stamps()
    assert main(["watch", str(run), "--once"]) == 0
    assert stamps() == before
    assert "[2/4 shots+rl · rl, seed 0] 3/10" in capsys.readouterr().out


def test_nothing_from_the_folder_reaches_the_terminal_as_a_code(run: Path):
    told = json.loads((run / "run.json").read_text())
    write(run / "run.json", json.dumps({**told, "task": "\x1b[31m[red]x[/red]"}))
    shown = drawn(state_of(run))
    assert "\x1b" not in shown and "[red]" in shown


def test_what_is_no_run_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["watch", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"tasklift: {tmp_path}: is no run folder; name one, such as runs/<name>\n"
    )


def test_a_run_that_has_only_begun(tmp_path: Path):
    write(tmp_path / "spec.yaml", "name: fresh\n")
    state = state_of(tmp_path)
    assert state.stages == () and "0/0 stages done" in closing(state)
    assert "fresh" in drawn(state)


def test_progress_shows_what_is_used_of_the_budget(capsys: pytest.CaptureFixture[str]):
    ledger = Ledger(Caps(rollouts=5000, tokens=None, seconds=60.0))
    progress = Lines("1/1 a · grpo", ledger)
    progress(0, 4)
    ledger.add("rollout", completions=768, prompt_tokens=1, completion_tokens=1, seconds=2.0)
    progress(1, 4, reward=0.5)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("[1/1 a · grpo] 1/4  reward 0.5  rollouts 768/5,000  seconds 2/60  ETA ")
    assert [clock(s) for s in (5, 65, 3665)] == ["0:05", "1:05", "1:01:05"]


def test_bars():
    assert bars([0.0, 0.5, 1.0]) == "▁▅█" and len(bars([0.1] * 50)) == 12
