"""Arms with sft, rft and dpo on the tiny model: a whole run, and one killed in each of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from experiments.cli import main
from rl.drawn import Draws
from rl.trl_supervised import PreferenceTrainer, SupervisedTrainer
from tests.experiments.test_run import TASK, results
from tests.rl.supervised_stage import Killed, kill_at

SMALL = {"steps": 4, "eval_every": 2, "checkpoint_every": 1, "audits": False, "lora": {"r": 4}}
DRAWN = {"samples_per_prompt": 32, "prompts_per_round": 8, "learning_rate": 1e-2, **SMALL}
SPEC: dict[str, Any] = {
    "name": "supervised",
    "task": "letters.py",
    "model": "tiny-random",
    "splits": {"train": 24, "dev": 8, "test": 12},
    "sampling": {"max_tokens": 6},
    "methods": {
        "bootstrap": {"candidates": 1, "dev_examples": 4, "train_examples": 8},
        "sft": {**SMALL, "rows_per_step": 8, "learning_rate": 1e-2},
        "rft": {**DRAWN, "rows_per_step": 4, "accept": 0.1},
        "dpo": {**DRAWN, "pairs_per_step": 4, "audits": True},
        "grpo": {**SMALL, "prompts_per_step": 2, "group_size": 4},
    },
    "arms": {
        "prompt+sft": ["bootstrap", "sft"],
        "prompt+rft": ["bootstrap", "rft"],
        "sft+grpo": ["sft", "grpo"],
        "dpo": ["dpo"],
    },
}


def write_spec(folder: Path) -> str:
    (folder / "letters.py").write_text(TASK)
    (folder / "spec.yaml").write_text(yaml.safe_dump(SPEC, sort_keys=False))
    return str(folder / "spec.yaml")


def stages(run: Path) -> dict[str, Path]:
    """The folders of the stages that are the first of their kind in the run, by kind."""
    every = sorted(run.glob("stages/*/stage.json"))
    return {json.loads(path.read_text())["kind"]: path.parent for path in every}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert main(["run", write_spec(folder), "--out", str(folder / "runs")]) == 0
    return folder / "runs/supervised"


def test_a_whole_run(undisturbed: Path) -> None:
    assert json.loads((undisturbed / "run.json").read_text())["complete"]
    for kind, folder in stages(undisturbed).items():
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        ledger = json.loads((folder / "ledger.json").read_text())
        if kind in ("rft", "dpo"):
            drawn = pd.read_parquet(folder / "rollouts.parquet")
            assert len(drawn) == ledger["usage"]["rollout"]["completions"]
        if kind != "bootstrap":
            trained = [row["step"] for row in rows if row["phase"] == "train"]
            assert len(trained) == ledger["optimizer_steps"] == (8 if kind == "rft" else 4)
    assert main(["report", str(undisturbed)]) == 0


def test_killed_in_every_method_it_ends_the_same(undisturbed: Path, tmp_path: Path) -> None:
    spec = write_spec(tmp_path)
    kills: list[tuple[type, str, int]] = [
        (SupervisedTrainer, "compute_loss", 3),  # in sft
        (Draws, "_score", 2),  # rft draws
        (SupervisedTrainer, "compute_loss", 6),  # rft's second round
        (PreferenceTrainer, "compute_loss", 3),  # dpo
    ]
    for owner, name, call in kills:
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, owner, name, call)
            with pytest.raises(Killed):
                main(["run", spec, "--out", str(tmp_path / "runs")])
    assert main(["run", spec, "--out", str(tmp_path / "runs")]) == 0
    assert results(tmp_path / "runs/supervised") == results(undisturbed)


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ({"sft": {"rows_per_step": 99, "steps": 1}}, ["sft", "24 train examples", "24 or less"]),
        ({"rft": {"steps": 5, "eval_every": 2}}, ["rft", "eval_every", "divisor of 5"]),
        ({"rft": {"reward": "tsak"}}, ["tsak", "task"]),
        ({"dpo": {"samples_per_prompt": 1}}, ["dpo", "samples_per_prompt"]),
        ({"dpo": {"loss_type": "hinges"}}, ["dpo", "loss_type", "hinge"]),
        ({"dpo": {"loss_type": "exo_pair"}}, ["dpo", "label_smoothing", "0.001"]),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], method: dict[str, Any], words: list[str]
) -> None:
    write_spec(tmp_path)
    spec = {**SPEC, "methods": method, "arms": {"a": list(method)}}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
    assert main(["run", str(tmp_path / "spec.yaml"), "--out", str(tmp_path)]) == 2
    line = capsys.readouterr().err.strip()
    assert "\n" not in line and all(word in line for word in words), line
