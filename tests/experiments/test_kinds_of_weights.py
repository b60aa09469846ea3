"""Full, LoRA and nf4 stages through a whole run: chained, killed, taken up again, read back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from evaluation.types import Policy
from experiments.saved import policy_of_arm
from lm.hf import load_model


def policy(run: Path, arm: str) -> Policy:
    return policy_of_arm(run, arm).policy


def test_each_arm_ends_with_its_kind_of_weights(kinds: Path) -> None:
    """Otherwise nothing below would show anything: a step that helps on dev was taken in each."""
    untouched, lora, full = (policy(kinds, arm) for arm in ("untouched", "lora", "full"))
    assert untouched.adapter is None and untouched.weights is None
    assert lora.adapter is not None and lora.weights is None
    assert full.adapter is None and full.weights is not None
    quantized = policy(kinds, "qlora+prompt")
    assert quantized.quantization == "nf4" and quantized.adapter is not None
    assert quantized.prompt.demos, "the bootstrap stage kept no demos"


def test_an_adapter_lies_on_the_weights_it_was_trained_on(kinds: Path) -> None:
    both, full = policy(kinds, "full+lora"), policy(kinds, "full")
    assert both.weights == full.weights and both.adapter is not None


def test_full_training_takes_the_adapter_in(kinds: Path) -> None:
    after = policy(kinds, "lora+full")
    assert after.adapter is None and after.weights is not None
    assert after.quantization is None


def test_a_stage_starts_where_the_one_before_ended(kinds: Path) -> None:
    """Its dev score at step 0 is the best of its parent's, whatever kind of weights either has."""
    for arm in ("full+lora", "lora+full"):
        entries = json.loads((kinds / "arms.json").read_text())
        stages = next(entry["stages"] for entry in entries if entry["arm"] == arm)
        first, second = (dev_scores(kinds / "stages" / key) for key in stages)
        assert second[0] == pytest.approx(max(first), abs=1e-9)


def dev_scores(stage: Path) -> list[float]:
    rows = map(json.loads, (stage / "metrics.jsonl").read_text().splitlines())
    return [row["dev_score"] for row in rows if row["phase"] == "dev"]


def test_nothing_private_is_written(kinds: Path) -> None:
    home, folder = str(Path.home()).encode(), str(kinds.parent.parent).encode()
    for path in kinds.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert home + b"/" not in content and folder not in content, path
            assert path.suffix not in {".pkl", ".pt", ".bin", ".pth"}, path


def test_nothing_that_only_resuming_needs_is_left(kinds: Path) -> None:
    for name in ("checkpoints", "best", "rollouts", "result.json", "wall_seconds"):
        assert not list(kinds.glob(f"stages/*/{name}")), name


@pytest.mark.parametrize("arm", ["lora", "full", "full+lora", "lora+full", "qlora+prompt"])
def test_a_policy_answers_as_it_was_recorded(kinds: Path, arm: str) -> None:
    """Read back from the run folder alone, it gives the answers of its records, byte for byte."""
    saved = policy_of_arm(kinds, arm)
    entries = json.loads((kinds / "arms.json").read_text())
    key = next(entry["eval"] for entry in entries if entry["arm"] == arm)
    records = pd.read_parquet(kinds / "evals" / key / "records.parquet")
    model = load_model(
        saved.policy.source,
        adapter=saved.policy.adapter,
        quantization=saved.policy.quantization,
    )
    chats = [saved.policy.prompt.messages(json.loads(text)) for text in records["inputs"]]
    answers = model.generate(chats, saved.sampling, "eval")
    assert [group[0].text for group in answers] == list(records["text"])


def results(run: Path) -> dict[str, Any]:
    """What must be the same after an undisturbed run."""
    found: dict[str, Any] = {}
    for path in sorted(run.rglob("*.parquet")):
        frame = pd.read_parquet(path).drop(columns="seconds", errors="ignore")
        found[str(path.relative_to(run))] = frame.to_json()
    for path in sorted(run.glob("stages/*/policy/**/*")):
        if path.is_file():
            found[str(path.relative_to(run))] = path.read_bytes()
    for entry in json.loads((run / "arms.json").read_text()):
        found[entry["arm"]] = entry["stages"], entry["eval"]
    return found


@pytest.mark.slow
def test_killed_in_the_middle_of_every_stage_it_ends_the_same(
    kinds: Path, tmp_path: Path, kinds_spec: Callable[[Path], Path]
) -> None:
    """kill -9 whenever a stage has sealed its first checkpoint, then run to the end."""
    spec, run, log = kinds_spec(tmp_path), tmp_path / "runs/kinds", tmp_path / "log"
    command = [sys.executable, "-m", "experiments.cli", "run", str(spec)]
    kills: set[str] = set()
    for _ in range(9):
        with log.open("ab") as file:
            process = subprocess.Popen(
                [*command, "--out", str(run.parent)],
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        while process.poll() is None:
            sealed = {path.parts[-5] for path in run.glob("stages/*/checkpoints/*/stage/mark.json")}
            if sealed - kills:
                os.killpg(process.pid, signal.SIGKILL)
                kills |= sealed
                break
            time.sleep(0.005)
        if process.wait() == 0:
            break
    assert len(kills) >= 4, log.read_text()
    assert results(run) == results(kinds)
