"""The adapter a stage trains: its shape is the one asked for, or the spec hears of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lm.hf import load_model
from lm.tiny import write_tiny_model
from lm.types import ModelError
from rl.config import LoraConfig
from rl.weights import save_adapter, with_adapter


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize("modules", [["foo"], "foo", "["])
def test_layers_the_model_lacks_are_said_in_one_line(
    folder: Path, modules: str | list[str]
) -> None:
    model = load_model(str(folder)).model
    with pytest.raises(ModelError, match=r"lora: cannot adapt .*write target_modules") as refused:
        with_adapter(model, LoraConfig(target_modules=modules), seed=0)
    assert "\n" not in str(refused.value)


MADE = LoraConfig(r=4, alpha=8, target_modules=["v_proj", "q_proj"])


@pytest.fixture(scope="module")
def adapter(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("adapter")
    save_adapter(with_adapter(load_model(str(folder)).model, MADE, seed=0), path)
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r": 8}, "lora: r is 8, the adapter .* has 4"),
        ({"alpha": 9}, "lora: alpha is 9, .* has 8"),
        ({"dropout": 0.1}, "lora: dropout is 0.1, .* has 0.0"),
        ({"target_modules": ["q_proj"]}, "lora: target_modules is .'q_proj'., .*'v_proj'"),
    ],
)
def test_another_shape_than_the_loaded_adapters_is_refused(
    folder: Path, adapter: Path, changes: dict, message: str
) -> None:
    model = load_model(str(folder), adapter=adapter).model
    with pytest.raises(ModelError, match=message):
        with_adapter(model, MADE.model_copy(update=changes), seed=0)


@pytest.mark.parametrize("lora", [MADE, LoraConfig()])
def test_the_same_shape_and_none_at_all_go_on(
    folder: Path, adapter: Path, lora: LoraConfig
) -> None:
    model = with_adapter(load_model(str(folder), adapter=adapter).model, lora, seed=0)
    assert model.peft_config["default"].r == 4  # type: ignore[union-attr]
    assert any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("seed", [0, 2**31 - 1])
def test_every_seed_a_spec_may_name_makes_an_adapter(folder: Path, seed: int) -> None:
    with_adapter(load_model(str(folder)).model, LoraConfig(r=4), seed)
