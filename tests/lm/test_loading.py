"""Loading: damaged folders end in one line, and the fingerprint follows the weights."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from lm import ModelError, Sampling
from lm.hf import load_model, pick_device, pick_dtype
from lm.source import weights_fingerprint
from lm.tiny import write_tiny_model

CHAT = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "model")


def _adapter(folder, target, **changes):
    """A LoRA adapter for the model in `folder`, perhaps of another shape than the original."""
    base = AutoModelForCausalLM.from_pretrained(folder)
    if changes:
        config = base.config
        config.update(changes)
        config.layer_types = None
        base = LlamaForCausalLM(config)
    torch.manual_seed(0)
    lora = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    get_peft_model(base, lora).save_pretrained(target)
    return target


def _refused(match, *args, **kwargs):
    with pytest.raises(ModelError, match=match) as caught:
        load_model(*args, **kwargs)
    assert "\n" not in str(caught.value)


def test_tiny_is_the_same_every_time(original, tmp_path):
    again = write_tiny_model(tmp_path / "a")
    assert weights_fingerprint(again) == weights_fingerprint(original)
    other = write_tiny_model(tmp_path / "b", seed=1)
    assert weights_fingerprint(other) != weights_fingerprint(original)


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]
)
def test_the_fingerprint_changes_with_what_makes_tokens_of_text(folder, tmp_path, name):
    copy = shutil.copytree(folder, tmp_path / "copy")
    before = weights_fingerprint(copy)
    text = (copy / name).read_text()
    (copy / name).write_text(text + "\n")
    assert weights_fingerprint(copy) != before
    (copy / name).write_text(text)
    assert weights_fingerprint(copy) == before
    (copy / "generation_config.json").unlink()
    assert weights_fingerprint(copy) != before


def test_the_fingerprint_changes_with_any_tensor(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    whole = weights_fingerprint(folder)
    seen = {whole}
    for name, tensor in tensors.items():
        for place in (0, -1):
            changed = tensor.clone()
            changed.view(-1)[place] += 1
            save_file({**tensors, name: changed}, path, {"format": "pt"})
            seen.add(weights_fingerprint(folder))
    assert len(seen) == 1 + 2 * len(tensors)
    save_file(tensors, path, {"format": "pt"})
    assert weights_fingerprint(folder) == whole
    (folder / "config.json").write_text("{}")
    assert weights_fingerprint(folder) != whole


def test_the_fingerprint_does_not_change_otherwise(original, folder):
    (folder / "tokenizer_config.json").touch()
    (folder / "README.md").write_text("moved")
    assert weights_fingerprint(folder) == weights_fingerprint(original)
    assert load_model(str(folder)).fingerprint() == weights_fingerprint(original)


@pytest.mark.parametrize("size", [0, 4, 8, 100, -1])
def test_truncated_weights(folder, size):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ModelError, match=r"model.safetensors' is damaged") as caught:
        weights_fingerprint(folder)
    assert "\n" not in str(caught.value)
    _refused("is damaged", str(folder))


@pytest.mark.parametrize("header", [b"[1]", b'{"a": 1}', b'{"a": {"data_offsets": [9]}}', b"\xff"])
def test_a_header_that_is_none(folder, header):
    data = len(header).to_bytes(8, "little") + header
    (folder / "model.safetensors").write_bytes(data)
    _refused("is damaged", str(folder))


def test_missing_tensors_are_not_made_up(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, path, {"format": "pt"})
    _refused(r"weights lack model.layers.1.mlp.up_proj.weight", str(folder))


def test_a_config_that_does_not_fit(folder):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "hidden_size": 64}))
    _refused("cannot load", str(folder))
    path.write_text(json.dumps({**config, "model_type": "unheard-of"}))
    _refused("cannot load", str(folder))
    path.write_text("{")
    _refused("cannot load", str(folder))


def test_a_folder_without_tokenizer(folder):
    for path in folder.glob("tokenizer*"):
        path.unlink()
    _refused("cannot load", str(folder))


def test_an_adapter_changes_answers_and_fingerprint(original, tmp_path):
    adapter = _adapter(original, tmp_path / "adapter")
    plain, adapted = load_model(str(original)), load_model(str(original), adapter=adapter)
    assert isinstance(adapted.model, PeftModel)
    assert adapted.fingerprint() not in ("", plain.fingerprint())
    sampling = Sampling(max_tokens=20)
    assert adapted.generate([CHAT], sampling, "eval") != plain.generate([CHAT], sampling, "eval")


@pytest.mark.parametrize(
    "shape", [{"hidden_size": 64}, {"num_hidden_layers": 1}, {"num_hidden_layers": 3}]
)
def test_an_adapter_of_another_model(original, tmp_path, shape):
    adapter = _adapter(original, tmp_path / "adapter", **shape)
    _refused("adapter: .* does not fit the model", str(original), adapter=adapter)


def test_a_damaged_adapter(original, tmp_path):
    _refused("no adapter_config.json", str(original), adapter=tmp_path / "nowhere")
    adapter = _adapter(original, tmp_path / "adapter")
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])
    _refused("is damaged", str(original), adapter=adapter)
    weights.unlink()
    _refused("does not fit|holds no", str(original), adapter=adapter)


def test_devices_and_dtypes():
    assert pick_dtype("auto", torch.device("cpu")) == torch.float32
    assert pick_dtype("auto", torch.device("cuda")) == torch.bfloat16
    with pytest.raises(ModelError, match="unknown dtype 'fp8'"):
        pick_dtype("fp8", torch.device("cpu"))
    with pytest.raises(ModelError, match="unknown device 'gpu'"):
        pick_device("gpu")
    assert pick_device("cpu") == torch.device("cpu")
