"""The benchmarks run, on the tiny model and in small: every case ends with its ratio."""

from __future__ import annotations

import re

import pytest

from benchmarks import evaluator, grpo_step, rollout


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


def test_evaluator(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("lm_eval", reason="needs the bench extra")
    evaluator.main(["--quick", "--repeats", "1", "--peer-repeats", "1"])
    printed = capsys.readouterr().out
    assert "12 of 12 answers are the same" in printed and "evaluator_300" in ratios(printed)
