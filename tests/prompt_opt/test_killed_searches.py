"""`kill -9` in the middle of a search on real weights: nothing asked twice, the same end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAGE = """
import json, os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from evaluation.types import Context, Policy
from experiments.methods import KINDS
from lm.hf import HFModel, load_model
from lm.ledger import Ledger
from lm.types import Sampling
from tasks.types import Example, Prompt, Score

folder, name, options, kill_at = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
generate, calls = HFModel.generate, []

def counted(self, chats, sampling, purpose):
    calls.append(1)
    if len(calls) == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    rows = generate(self, chats, sampling, purpose)
    with (folder / "asked").open("a") as file:
        for chat, draw in zip(chats, sampling.draws or [0] * len(chats)):
            file.write(json.dumps([chat, draw]) + "\\n")
    return rows

HFModel.generate = counted
folder.mkdir(exist_ok=True)
score = lambda e, t: Score(min(1.0, sum(c.isalpha() for c in t) / 8), sum(map(str.isalpha, t)) > 5)
examples = [Example(f"e{i}", {"input": f"word {i}"}, f"answer {i}") for i in range(40)]
ledger, kind = Ledger(), KINDS[name]
context = Context(score, lambda p: load_model(p.model, ledger=ledger), ledger, folder / "stage",
                  Sampling(max_tokens=8), 3, lambda *_, **__: None)
method = kind.build(kind.config.model_validate(json.loads(options)))
after = method.improve(
    Policy("tiny-random", Prompt("Answer in letters.")), examples[:24], examples[24:], context
)
(folder / "result.json").write_text(after.prompt.to_json())
(folder / "calls").write_text(str(len(calls)))
usage = {p: [u.calls, u.completions, u.completion_tokens] for p, u in ledger.usage.items()}
(folder / "usage.json").write_text(json.dumps(usage, sort_keys=True))
"""
SMALL = {"dev_examples": 12, "train_examples": 16}
OPTIONS = {
    "mipro": {**SMALL, "candidates": 5, "trials": 8, "minibatch_size": 6},
    "gepa": {**SMALL, "metric_calls": 120},
}


def run(folder: Path, name: str, kill_at: int = 0) -> int:
    words = [str(folder), name, json.dumps(OPTIONS[name]), str(kill_at)]
    done = subprocess.run(
        [sys.executable, "-c", STAGE, *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr[-3000:]
    return done.returncode


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_killed_and_gone_on_with(tmp_path: Path, name: str) -> None:
    assert run(tmp_path / "calm", name) == 0
    calls = int((tmp_path / "calm/calls").read_text())
    assert calls > 12
    killed = tmp_path / "killed"
    for kill_at in (calls // 2, calls // 4):  # the second process has less left to ask
        assert run(killed, name, kill_at) == -signal.SIGKILL
    assert run(killed, name) == 0
    results = [(tmp_path / which / "result.json").read_text() for which in ("calm", "killed")]
    assert results[0] == results[1]
    calm, again = ((tmp_path / w / "asked").read_text().splitlines() for w in ("calm", "killed"))
    assert len(set(again)) == len(again)  # no call is repeated
    assert sorted(again) == sorted(calm)
    usage = [(tmp_path / which / "usage.json").read_text() for which in ("calm", "killed")]
    assert usage[0] == usage[1]
    prompt = json.loads(results[0])
    assert prompt["demos"] or prompt["instruction"] != "Answer in letters."
