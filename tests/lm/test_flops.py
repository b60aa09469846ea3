"""The size of a model and what its tokens take, against figures worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lm.flops import count_parameters, forward_flops, training_flops
from lm.tiny import write_tiny_model
from lm.types import ModelError

# per layer: q 32x32, k and v 16x32, o 32x32; gate, up, down 64x32; two norms of 32
LAYER = 2 * 32 * 32 + 2 * 16 * 32 + 3 * 64 * 32 + 2 * 32
VOCABULARY = 3 + 256


def test_a_tied_embedding_counts_once_as_the_output(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "tiny")
    assert count_parameters(folder) == VOCABULARY * 32 + 2 * LAYER + 32


def test_an_embedding_beside_a_head_is_only_looked_up(tmp_path: Path) -> None:
    first = {"model.embed_tokens.weight": torch.zeros(10, 4), "model.w": torch.zeros(4, 4)}
    save_file(first, tmp_path / "a.safetensors", metadata={"format": "pt"})
    assert count_parameters(tmp_path) == 40 + 16
    save_file({"lm_head.weight": torch.zeros(10, 4)}, tmp_path / "b.safetensors")
    assert count_parameters(tmp_path) == 16 + 40


def test_a_classifier_has_no_use_for_an_output_matrix(tmp_path: Path) -> None:
    held = {"model.embed_tokens.weight": torch.zeros(10, 4), "score.weight": torch.zeros(1, 4)}
    save_file(held, tmp_path / "a.safetensors", metadata={"format": "pt"})
    assert count_parameters(tmp_path) == 4


def test_two_for_a_token_six_for_a_trained_one() -> None:
    assert forward_flops(1000, 7) == 14_000
    assert training_flops(1000, 7) == 42_000


@pytest.mark.parametrize("text", [b"", b"\x05\0\0\0\0\0\0\0{", json.dumps([1]).encode()])
def test_a_damaged_file_is_named(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(text)
    with pytest.raises(ModelError, match=r"model\.safetensors' is damaged"):
        count_parameters(tmp_path)
