"""The off-task panel: the same for the same weights, worse for broken ones, and it says so."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from lm.hf import HFModel, load_model
from lm.tiny import write_tiny_model
from rl.forgetting import QUESTIONS, SENTENCES, Panel, ask_panel, forgetting


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> HFModel:
    return load_model(str(write_tiny_model(tmp_path_factory.mktemp("tiny"))))


@pytest.fixture(scope="module")
def before(model: HFModel) -> Panel:
    return ask_panel(model)


def levels(before: Panel, after: Panel) -> list[str]:
    return [finding.level for finding in forgetting(before, after)]


def test_the_same_weights_give_the_same_panel(model: HFModel, before: Panel) -> None:
    again = ask_panel(model)
    assert again == before == Panel.from_json(before.to_json())
    assert levels(before, again) == ["ok", "ok"]
    assert len(before.replies) == len(QUESTIONS) == 24
    assert len(before.nats) == len(SENTENCES) == 12
    assert set(model.ledger.usage) == {"eval"}


def test_scrambled_weights_are_found(model: HFModel, before: Panel) -> None:
    kept = {name: tensor.clone() for name, tensor in model.model.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.model.parameters():
            order = torch.randperm(weight.numel(), generator=generator)
            weight.copy_(3 * weight.flatten()[order].view_as(weight))
        after = ask_panel(model)
    model.model.load_state_dict(kept)
    assert levels(before, after)[1] == "tripped"
    assert levels(before, ask_panel(model)) == ["ok", "ok"]


def knowing(right: int, nats: float = 3.0) -> Panel:
    return Panel(("",) * 24, tuple(i < right for i in range(24)), (nats,) * 12)


@pytest.mark.parametrize(
    ("after", "level"), [(13, "ok"), (10, "ok"), (20, "ok"), (6, "tripped"), (0, "tripped")]
)
def test_answers_that_are_no_longer_given_trip_beyond_chance(after: int, level: str) -> None:
    [found, _] = forgetting(knowing(13), knowing(after))
    assert found.level == level
    assert f"13 of 24 before, {after} after" in found.detail


def test_answers_won_make_up_for_answers_lost() -> None:
    swapped = replace(knowing(13), right=knowing(13).right[::-1])
    assert levels(knowing(13), swapped)[0] == "ok"


@pytest.mark.parametrize(
    ("rise", "noise", "level"),
    [
        (0.0, 0.2, "ok"),
        (0.05, 0.0, "ok"),
        (0.3, 0.1, "note"),
        (0.3, 3.0, "ok"),
        (1.0, 0.2, "tripped"),
        (-1.0, 0.2, "ok"),
    ],
)
def test_sentences_trip_on_a_rise_that_is_sure_and_large(rise, noise, level) -> None:
    rng = random.Random(0)
    after = replace(knowing(13), nats=tuple(3 + rise + rng.gauss(0, noise) for _ in SENTENCES))
    assert levels(knowing(13), after)[1] == level


@pytest.mark.slow
def test_the_real_model_knows_some_of_it() -> None:
    panel = ask_panel(load_model("smollm2-135m", dtype="float32"))
    assert 0.25 < panel.accuracy < 1
    assert 2 < panel.nats_per_token < 5
