"""Several processes: alone everything is itself, two of them agree to the bit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lm import ranks
from lm.hf import load_model
from lm.ledger import Ledger
from lm.together import TogetherModel
from lm.types import ModelError, Sampling

# Run by both processes; what a process finds wrong ends it.
PAIR = """
import sys
import torch
from lm import ranks
from lm.hf import load_model
from lm.ledger import Caps, BudgetExhausted, Ledger
from lm.together import TogetherModel
from lm.types import Sampling

with ranks.joined():
    me = ranks.rank()
    assert (ranks.world(), ranks.is_first()) == (2, me == 0)
    assert ranks.gathered(f"of {me}") == ["of 0", "of 1"]
    assert ranks.from_first(lambda: me + 7) == 7
    asked = []
    work = lambda some: asked.extend(some) or [2 * i for i in some]
    assert ranks.shared(range(5), work) == [0, 2, 4, 6, 8]
    assert asked == ([0, 1] if me == 0 else [2, 3, 4])
    assert ranks.shared([], work) == []
    assert ranks.summed(torch.tensor([1.0 + me])).item() == 3.0

    ranks.BUCKET = 4
    weights = [torch.nn.Parameter(torch.zeros(3)) for _ in range(4)]
    weights[3].requires_grad_(False)
    weights[0].grad = torch.tensor([1.0, 2.0, 3.0]) * (me + 1)
    if me == 1:
        weights[1].grad = torch.ones(3)
    ranks.average_gradients(weights)
    assert weights[0].grad.tolist() == [1.5, 3.0, 4.5]
    assert weights[1].grad.tolist() == [0.5, 0.5, 0.5]
    assert weights[2].grad is None and weights[3].grad is None

    chats = [[{"role": "user", "content": "w" * i}] for i in range(1, 6)]
    sampling = Sampling(max_tokens=5, temperature=1.0, n=3, seed=4)
    plain = load_model("tiny-random", ledger=Ledger())
    tokens = lambda groups: [[answer.token_ids for answer in group] for group in groups]
    alone = tokens(plain.generate(chats, sampling, "rollout"))
    ledger = Ledger()
    model = TogetherModel(plain.model, plain.tokenizer, name="t", ledger=ledger)
    for _ in range(2):
        model.forget()
        assert tokens(model.generate(chats, sampling, "rollout")) == alone
    one, usage = plain.ledger.usage["rollout"], ledger.usage["rollout"]
    assert usage.completions == 2 * one.completions == 30
    assert usage.prompt_tokens == 2 * one.prompt_tokens
    assert usage.completion_tokens == 2 * one.completion_tokens
    assert len(set(ranks.gathered(ledger.to_json()))) == 1
    few = model.generate(chats[:1], sampling, "eval")  # less than a prompt for each
    assert len(few) == 1 and len(few[0]) == 3
    model.ledger = Ledger(caps=Caps(rollouts=1), usage=ledger.usage)
    try:
        model.generate(chats[:1], sampling, "rollout")
        raise SystemExit("the cap was not seen")
    except BudgetExhausted:
        pass
print("fine")
"""


def test_one_process_is_all_of_them() -> None:
    assert (ranks.world(), ranks.rank(), ranks.local_rank()) == (1, 0, 0)
    assert ranks.is_first() and ranks.is_first_to_fail()
    assert ranks.gathered("x") == ["x"] and ranks.from_first(lambda: 3) == 3
    assert ranks.shared([1, 2, 3], lambda some: [-i for i in some]) == [-1, -2, -3]
    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.ones(2)
    ranks.average_gradients([weight])
    assert weight.grad.tolist() == [1.0, 1.0]
    total = torch.ones(2)
    assert ranks.summed(total) is total
    with ranks.joined():
        ranks.barrier()


def test_parts_are_all_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    for count in range(8):
        items: list[int] = []
        for rank in "012":
            monkeypatch.setenv("RANK", rank)
            items += list(range(count))[ranks.own_part(count)]
        assert items == list(range(count))


def test_the_rows_of_a_later_part_draw_as_in_the_whole() -> None:
    model = load_model("tiny-random")
    chats = [[{"role": "user", "content": "w" * i}] for i in range(1, 5)]
    sampling = Sampling(max_tokens=5, temperature=1.0, n=2, seed=1)
    whole = model.generate(chats, sampling, "rollout")
    later = Sampling(max_tokens=5, temperature=1.0, n=2, seed=1, first_row=4)
    assert [g[0].token_ids for g in model.generate(chats[2:], later, "rollout")] == [
        g[0].token_ids for g in whole[2:]
    ]


def test_alone_a_model_asked_together_is_the_model() -> None:
    opened = load_model("tiny-random")
    ledger = Ledger()
    model = TogetherModel(opened.model, opened.tokenizer, name="t", ledger=ledger)
    sampling = Sampling(max_tokens=4, temperature=1.0, n=2)
    chats = [[{"role": "user", "content": "a"}]]
    assert model.generate(chats, sampling, "eval") == opened.generate(chats, sampling, "eval")
    assert ledger.usage["eval"].calls == 1 and ledger.usage["eval"].completions == 2


@pytest.mark.parametrize("name", ["FSDP", "DEEPSPEED"])
def test_a_launcher_that_splits_models_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    with pytest.raises(ModelError, match="--multi_gpu"), ranks.joined():
        pass


@pytest.mark.slow
def test_two_processes_agree(tmp_path: Path, root: Path) -> None:
    (tmp_path / "pair.py").write_text(PAIR)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *launch, str(tmp_path / "pair.py")],
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("fine") == 2
