"""What the documentation tells a user to type is typed here, with the tiny model and few rows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from experiments.cli import main, parser

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("examples/*/README.md"))]
TINY = ["model=tiny-random", "splits={train: 8, dev: 4, test: 6}", "sampling.max_tokens=3"]
SEARCH = "rollouts: 14, dev_examples: 4, train_examples: 6"
TINY += [f"methods.bootstrap={{candidates: 1, {SEARCH}}}"]
TINY += [f"methods.{m}={{{SEARCH}}}" for m in ("labeled", "knn", "copro", "gepa", "infer_rules")]
TINY += [f"methods.bootstrap_optuna={{candidates: 1, {SEARCH}}}"]
TINY += [f"methods.mipro={{candidates: 2, trials: 1, {SEARCH}}}"]
TINY += [f"methods.simba={{batch_size: 4, steps: 1, {SEARCH}}}"]
ROLLOUTS = "steps: 1, prompts_per_step: 2, group_size: 2"
SAMPLED = "steps: 1, eval_every: 1, prompts_per_round: 4, samples_per_prompt: 2"
TINY += [f"methods.{name}={{{ROLLOUTS}}}" for name in ("grpo", "ppo")]
TINY += [f"methods.ppo-full={{method: ppo, weights: full, {ROLLOUTS}}}"]
TINY += ["methods.sft={steps: 1, rows_per_step: 2}"]
TINY += [f"methods.{name}={{{SAMPLED}}}" for name in ("rft", "dpo")]


def typed() -> list[str]:
    """Every `$ tasklift …` line of a console block, once."""
    blocks = [b for p in PAGES for b in re.findall(r"```console\n(.*?)```", p.read_text(), re.S)]
    lines = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    return list(dict.fromkeys(line for line in lines if line.startswith("tasklift ")))


@pytest.mark.parametrize("line", typed())
def test_commands_in_console_blocks_work(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    words = shlex.split(line)[1:]
    if words[0] == "run":
        words += [word for change in TINY for word in ("--set", change)]
    assert main(words) == 0


def test_commands_that_build_on_each_other_can_be_typed() -> None:
    """Those of a page that needs the real model: at least they are what the parser takes."""
    text = (ROOT / "examples/reward-model/README.md").read_text()
    lines = [
        line for block in re.findall(r"```sh\n(.*?)```", text, re.S) for line in block.splitlines()
    ]
    assert len(lines) == 4
    for line in lines:
        parser().parse_args(shlex.split(line.removeprefix("$ "))[1:])


def test_verbs_in_the_table_exist() -> None:
    rows = re.findall(r"^\| (`tasklift .*?) \|", (ROOT / "README.md").read_text(), re.M)
    commands = [command for row in rows for command in re.findall(r"`tasklift ([^`]*)`", row)]
    assert len(commands) >= 8
    for command in commands:
        parser().parse_args(shlex.split(command))


def test_make_targets_exist() -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    for name in re.findall(r"`?make (\w+)`?", (ROOT / "README.md").read_text()):
        assert name in targets
