"""What a stage is told of the work before it in its chain."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evaluation.types import Context, PassRate
from experiments.history import pass_rates
from experiments.run import run
from experiments.spec import parse_spec
from rl.grpo import GRPO

SMALL = {"steps": 2, "prompts_per_step": 2, "group_size": 2, "eval_every": 9, "audits": False}
SPEC = {
    "name": "chain",
    "task": "inflection",
    "model": "tiny-random",
    "splits": {"train": 8, "dev": 4, "test": 4},
    "sampling": {"max_tokens": 4},
    "methods": {
        "bootstrap": {"candidates": 1, "train_examples": 4, "dev_examples": 4},
        "grpo": SMALL,
        "more": {"method": "grpo", **SMALL, "curriculum": "pass_rate"},
    },
    "arms": {"alone": ["more"], "chain": ["bootstrap", "grpo", "more"]},
}


def test_a_stage_knows_its_ancestors_rollouts_and_no_others(tmp_path: Path, monkeypatch):
    seen: list[Context] = []
    improve = GRPO.improve

    def noted(self, policy, train, dev, context):
        seen.append(context)
        return improve(self, policy, train, dev, context)

    monkeypatch.setattr(GRPO, "improve", noted)
    run(parse_spec(SPEC, "here"), tmp_path, tmp_path / "runs")
    alone, grpo, more = (context.pass_rates for context in seen)
    assert not alone
    assert 0 < sum(rate.answers for rate in grpo.values()) <= 4 * 3  # bootstrap saw 4 of train
    drawn = sum(rate.answers for rate in more.values()) - sum(r.answers for r in grpo.values())
    assert drawn == SMALL["steps"] * 2 * 2


def test_rates_are_summed_over_stages(tmp_path: Path):
    for name, rates in (("a", {"x": [2, 1.0]}), ("b", {"x": [1, 1.0], "y": [3, 0.0]})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pass_rates.json").write_text(json.dumps(rates))
    (tmp_path / "c").mkdir()
    found = pass_rates([tmp_path / name for name in "abc"])
    assert found == {"x": PassRate(3, 2.0), "y": PassRate(3, 0.0)}
    assert pass_rates([]) == pytest.approx({})
