"""An objective from a user's file: what is wrong with it is said in one line."""

from __future__ import annotations

import pytest
import torch

from rl.objective_file import load_objective
from rl.objectives import Batch, group_normalized
from tasks.types import TaskError


def batch() -> Batch:
    logps = torch.full((2, 3), -1.0).requires_grad_()
    ones = torch.ones(2, 3)
    return Batch(logps, logps.detach(), None, ones, ones[:, :1], rows=2, tokens=6, longest=3)


def load(tmp_path, text, name="loss"):
    (tmp_path / "mine.py").write_text(text)
    return load_objective(f"{tmp_path}/mine.py:{name}")


def test_loss_metrics_and_advantage_come_from_the_file(tmp_path):
    objective = load(
        tmp_path,
        "def loss(batch):\n"
        "    return -batch.logps_BT.sum(), {'mine': 3, 'of': batch.mask_BT.mean()}\n"
        "def advantage(rewards_GN):\n    return rewards_GN * 2\n",
    )
    loss, metrics = objective.loss(batch())
    assert loss.item() == 6.0 and {k: v.item() for k, v in metrics.items()} == {"mine": 3, "of": 1}
    assert objective.advantage(torch.ones(1, 2)).tolist() == [[2.0, 2.0]]
    assert not objective.skips  # who knows what it does with a row of advantage 0


def test_without_an_advantage_it_is_that_of_grpo(tmp_path):
    text = "def loss(batch):\n    return batch.logps_BT.sum(), {}\n"
    assert load(tmp_path, text).advantage is group_normalized


@pytest.mark.parametrize(
    "body, said",
    [
        (
            "return batch.logps_BT.sum()",
            r"returned a tensor of shape \(\).*return \(loss, metrics\)",
        ),
        ("return batch.logps_BT, {}", r"the loss is a tensor of shape \(2, 3\); return one number"),
        ("return batch.mask_BT.sum(), {}", r"shape \(\) without a gradient"),
        ("return 1.0, {}", "the loss is a float"),
        ("return batch.logps_BT.sum() * float('nan'), {}", "its loss is not finite"),
        ("return (batch.logps_BT + 1).abs().sqrt().sum(), {}", "its gradient is not finite"),
        ("r = batch.logps_BT.exp(); r.clamp_(0, 1); return r.sum(), {}", "raised RuntimeError"),
        ("raise SystemExit(3)", "raised SystemExit: 3"),
        ("return batch.logps_BT.sum(), {'x': [1, 2]}", "metric 'x' is a list; give one number"),
        ("return batch.logp.sum(), {}", "raised AttributeError: 'Batch' object has no attribute"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, body, said):
    objective = load(tmp_path, f"def loss(batch):\n    {body}\n")
    with pytest.raises(TaskError, match=said) as caught:
        objective.loss(batch())
    assert "\n" not in str(caught.value) and "mine.py:loss" in str(caught.value)


def test_an_advantage_of_the_wrong_shape(tmp_path):
    text = "def loss(b):\n    pass\ndef advantage(r):\n    return r.mean(1)\n"
    with pytest.raises(TaskError, match=r"advantage: returned .*\(2,\).* of shape \(2, 3\)"):
        load(tmp_path, text).advantage(torch.ones(2, 3))


@pytest.mark.parametrize(
    "name, said",
    [
        ("nowhere.py:loss", "nowhere.py: no such file"),
        ("dapoo", r'unknown .dapoo. \(did you mean "dapo"'),
    ],
)
def test_names_that_stand_for_nothing(name, said):
    with pytest.raises(TaskError, match=said):
        load_objective(name)


def test_a_function_that_is_not_there(tmp_path):
    with pytest.raises(TaskError, match=r"defines no function 'los' \(did you mean \"loss\"\?\)"):
        load(tmp_path, "def loss(batch):\n    return 0, {}\n", name="los")


def test_an_advantage_that_is_no_function_or_no_number(tmp_path):
    with pytest.raises(TaskError, match="advantage is a int, not a function"):
        load(tmp_path, "def loss(b):\n    pass\nadvantage = 3\n")
    text = "def loss(b):\n    pass\ndef advantage(r):\n    return r / 0\n"
    with pytest.raises(TaskError, match="infinite"):
        load(tmp_path, text, "loss").advantage(torch.ones(2, 3))
    (tmp_path / "other").mkdir()
    truth = load(
        tmp_path / "other", "def loss(b):\n    pass\ndef advantage(r):\n    return r > 0\n"
    )
    assert truth.advantage(torch.ones(2, 3)).dtype == torch.float32


def test_a_metric_without_a_number_is_left_out_of_the_log(tmp_path):
    objective = load(tmp_path, "def loss(b):\n    return b.logps_BT.sum(), {'x': float('inf')}\n")
    assert objective.loss(batch())[1]["x"].isnan()


def test_the_gradient_is_that_of_the_file(tmp_path):
    text = "def loss(b):\n    return (b.logps_BT ** 2 * b.mask_BT).sum(), {}\n"
    rows = batch()
    loss, _ = load(tmp_path, text).loss(rows)
    loss.backward()
    assert loss.item() == 6.0
    torch.testing.assert_close(rows.logps_BT.grad, torch.full((2, 3), -2.0))
