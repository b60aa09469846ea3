"""Bootstrap on the real 135M model: demos must lift it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evaluation.types import Context, Policy
from lm.ledger import Ledger
from lm.types import Sampling
from prompt_opt.bootstrap import Bootstrap
from prompt_opt.config import BootstrapConfig
from tasks.types import Prompt


@pytest.mark.slow
def test_demos_lift_the_real_model(tmp_path: Path) -> None:
    from lm.hf import load_model
    from tasks.load import load_task

    task, ledger = load_task("inflection"), Ledger()
    context = Context(
        score=task.score,
        open=lambda policy: load_model(policy.model, ledger=ledger),
        ledger=ledger,
        folder=tmp_path,
        sampling=Sampling(max_tokens=12),
        seed=0,
        progress=lambda *_, **__: None,
    )
    config = BootstrapConfig(candidates=1, dev_examples=32, train_examples=16)
    policy = Policy("smollm2-135m", Prompt.of(task))
    better = Bootstrap(config).improve(policy, task.split("train"), task.split("dev"), context)
    rows = json.loads((tmp_path / "candidates.json").read_text())
    assert better.prompt.demos
    assert max(row["dev_score"] for row in rows) >= rows[0]["dev_score"] + 0.2
    assert ledger.rollouts <= 4 * 32 + 16
