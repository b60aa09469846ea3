"""A GGUF that is damaged is refused before anything is converted; a whole one is converted once."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from gguf import GGUFWriter, TokenType
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm import ModelError
from lm.gguf_file import convert_gguf
from lm.source import resolve

HEADS, WIDTH, INNER, VOCABULARY = 2, 32, 64, 260


def _write(path):
    """A whole Llama of one layer over bytes, as llama.cpp would write it."""
    draw = np.random.default_rng(0)
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("gpt2")
    tokens = ["<end>", "t", "0", "t0", *(f"x{i}" for i in range(VOCABULARY - 4))]
    writer.add_token_list(tokens)
    kinds = [TokenType.CONTROL] + [TokenType.NORMAL] * (VOCABULARY - 1)
    writer.add_token_types(kinds)
    writer.add_token_merges(["t 0"])
    writer.add_eos_token_id(0)
    shapes = {
        "token_embd.weight": (VOCABULARY, WIDTH),
        "output_norm.weight": (WIDTH,),
        "blk.0.attn_norm.weight": (WIDTH,),
        "blk.0.ffn_norm.weight": (WIDTH,),
        **{f"blk.0.attn_{p}.weight": (WIDTH, WIDTH) for p in ("q", "k", "v", "output")},
        "blk.0.ffn_gate.weight": (INNER, WIDTH),
        "blk.0.ffn_up.weight": (INNER, WIDTH),
        "blk.0.ffn_down.weight": (WIDTH, INNER),
    }
    for name, shape in shapes.items():
        writer.add_tensor(name, draw.standard_normal(shape, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return _write(tmp_path_factory.mktemp("gguf") / "small.gguf")


def _refused(path, cache):
    with pytest.raises(ModelError) as caught:
        convert_gguf(path, cache)
    assert "\n" not in str(caught.value)
    assert not cache.exists() or not list(cache.iterdir())
    return str(caught.value)


def test_a_whole_file_is_converted_once(whole, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TASKLIFT_CACHE", str(tmp_path))
    folder = resolve(str(whole))
    assert folder.parent == tmp_path
    assert [p.name for p in tmp_path.iterdir()] == [folder.name]  # no draft is left
    assert "dequantizing" in capsys.readouterr().out
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model(torch.tensor([[1, 2, 3]])).logits.isfinite().all()
    assert AutoTokenizer.from_pretrained(folder).convert_ids_to_tokens([1, 259]) == ["t", "x255"]
    assert resolve(str(whole)) == folder
    assert capsys.readouterr().out == ""


def test_truncated_files_are_refused(whole, tmp_path):
    data, path = whole.read_bytes(), tmp_path / "cut.gguf"
    for size in [*range(0, 2000, 97), len(data) // 2, len(data) - 64]:
        path.write_bytes(data[:size])
        assert "is not a readable GGUF file" in _refused(path, tmp_path / "cache")


def test_garbage_is_refused(tmp_path):
    draw, path = random.Random(0), tmp_path / "garbage.gguf"
    for _ in range(50):
        path.write_bytes(b"GGUF" + draw.randbytes(300))
        assert "is not a readable GGUF file" in _refused(path, tmp_path / "cache")
    path.write_bytes(b"PK\x03\x04" + draw.randbytes(300))
    assert "does not start with the letters GGUF" in _refused(path, tmp_path / "cache")
    path.write_bytes(b"")
    assert "does not start with the letters GGUF" in _refused(path, tmp_path / "cache")


def test_files_that_are_not_there(tmp_path):
    assert "no file" in _refused(tmp_path / "nowhere.gguf", tmp_path / "cache")
    (tmp_path / "folder.gguf").mkdir()
    assert "no file" in _refused(tmp_path / "folder.gguf", tmp_path / "cache")


def test_an_unknown_architecture_is_refused(tmp_path):
    path = tmp_path / "odd.gguf"
    writer = GGUFWriter(path, "no-such-architecture")
    writer.add_tensor("token_embd.weight", np.ones((4, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert "transformers cannot read 'odd.gguf'" in _refused(path, tmp_path / "cache")
