"""The benchmarks run, on the tiny model and in small: every case ends with its ratio."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks import (
    evaluator,
    gpu,
    grpo_step,
    ppo_gain,
    ppo_step,
    prompt_methods,
    prompt_search,
    rollout,
    tables,
)
from reports import TABLES
from tests.test_readme import TINY


def ratios(printed: str) -> dict[str, float]:
    found = re.findall(r"^ratio (\S+) (\d+\.\d\d)$", printed, re.M)
    return {case: float(value) for case, value in found}


def test_rollout(capsys: pytest.CaptureFixture[str]) -> None:
    cases = ["answers_64x8", "groups_8x8", "sampled_64x48", "mixed_256", "curves"]
    rollout.main(["--quick", "--only", *cases])
    found = ratios(capsys.readouterr().out)
    assert set(cases[:4]) < set(found) and len(found) == 6
    assert all(value > 0 for value in found.values())


def test_grpo_step_has_the_gradient_of_stock_trl(capsys: pytest.CaptureFixture[str]) -> None:
    grpo_step.main(["--quick", "--only", "zero_shot", "--repeats", "1", "--peer-repeats", "1"])
    printed = capsys.readouterr().out
    assert set(ratios(printed)) == {"grpo_zero_shot", "grpo_zero_shot_all_live"}
    (cosine, error), = re.findall(r"cosine (\S+), relative norm error (\S+)", printed)  # fmt: skip
    assert float(cosine) >= 0.9999 and float(error) <= 1e-4


def test_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        gpu.main(["--quick", "--only", "greedy", "logprobs", "graph"])
    printed = capsys.readouterr().out
    assert left.value.code == 0, printed
    assert "of 8 answers 8 equal generate's asked alone, 8 in a batch" in printed
    assert "bar 0.0001" in printed and "64 greedy rows equal" in printed


def test_gpu_checks_that_miss_their_bar_are_told_and_counted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "GAP", 0.0)
    with pytest.raises(SystemExit) as left:
        gpu.main(["--quick", "--only", "logprobs"])
    assert left.value.code == 1 and "NOT MET" in capsys.readouterr().out


def test_ppo_step(capsys: pytest.CaptureFixture[str]) -> None:
    ppo_step.main(["--quick", "--only", "task", "--repeats", "1"])
    assert set(ratios(capsys.readouterr().out)) == {"grpo_over_ppo_task", "ppo_over_grpo_task"}


def test_ppo_gain(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    ppo_gain.main(["--quick", "--out", str(tmp_path)])
    assert len(re.findall(r"^gain \S+ -?\d+\.\d points", capsys.readouterr().out, re.M)) == 3
    rows = [{"step": 0, "dev_score": 0.5}, {"step": 2, "dev_score": 0.75}]
    rows += [{"step": 4, "dev_score": 0.75}, {"step": 6, "dev_score": 0.7}]
    text = "".join(json.dumps({"phase": "dev", **row}) + "\n" for row in rows)
    (tmp_path / "metrics.jsonl").write_text('{"phase": "train", "step": 1}\n' + text)
    assert ppo_gain.dev_gain(tmp_path) == (0.5, 0.75, 2)


def test_prompt_search(capsys: pytest.CaptureFixture[str]) -> None:
    prompt_search.main(["--quick", "--repeats", "1", "--peer-repeats", "1"])
    printed = capsys.readouterr().out
    assert set(ratios(printed)) == {"metric_calls_64"} and "bootstrap_server: left out" in printed


def test_prompt_methods(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    changes = [word for change in TINY for word in ("--set", change)]
    prompt_methods.main(["--out", str(tmp_path), *changes])
    rows = re.findall(r"^\| (\S+) \| \d+\.\d % \|(.*)$", capsys.readouterr().out, re.M)
    assert [name for name, _ in rows].count("zero-shot") == 4 and len(rows) == 3 * 10 + 7
    ended = r" \| \d+ \| \d+ \| (done|cap%s) \|$"
    for name, rest in rows:
        # DSPy's own requests do not fit into the window of a tiny model
        too_long = r"|the proposing model failed \(PromptTooLong\).*" * name.endswith("-dspy")
        assert name == "zero-shot" or re.search(ended % too_long, rest), (name, rest)


def test_tables(capsys: pytest.CaptureFixture[str]) -> None:
    tables.main(["--quick"])
    printed = capsys.readouterr().out
    found = re.findall(r"^tables (\S+) \d+\.\d\d s, \d+\.\d\d s of CPU, \d+ MB$", printed, re.M)
    assert found == list(tables.CASES)
    for part in (*TABLES, "load", "report.md"):
        assert len(re.findall(rf"^  {re.escape(part)} +\d+\.\d\d s$", printed, re.M)) == len(found)


def test_evaluator(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("lm_eval", reason="needs the bench extra")
    evaluator.main(["--quick", "--repeats", "1", "--peer-repeats", "1"])
    printed = capsys.readouterr().out
    assert "12 of 12 answers are the same" in printed and "evaluator_300" in ratios(printed)
