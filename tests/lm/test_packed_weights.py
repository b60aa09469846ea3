"""Multiplying from packed copies gives the same products, of the weights as they are now."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP

import lm.packed_weights
from lm.packed_weights import packed_weights


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(200, 150), nn.Linear(150, 180, bias=False), nn.Linear(180, 7))


@pytest.fixture
def packed(monkeypatch):
    """How often a layer multiplied from a packed copy."""
    seen: list[torch.Size] = []
    multiply = lm.packed_weights._linear
    monkeypatch.setattr(
        lm.packed_weights,
        "_linear",
        lambda layer, packed, x: seen.append(x.shape) or multiply(layer, packed, x),
    )
    return seen


@torch.no_grad()
def both(model, inputs):
    """What the model gives with packed copies, and without."""
    with packed_weights(model):
        found = model(inputs)
    return found, model(inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(200,), (1, 200), (5, 200), (1, 300, 200)])
def test_products_are_the_same(model, packed, dtype, shape):
    model.to(dtype)
    found, plain = both(model, torch.randn(shape, dtype=dtype))
    torch.testing.assert_close(found, plain, atol=1e-5 if dtype == torch.float32 else 0.02, rtol=0)
    assert len(packed) == 2  # the last layer is too small to gain


@pytest.mark.parametrize("change", ["in place", "data", "optimizer", "new tensor", "load"])
def test_changed_weights_are_packed_anew(model, change):
    inputs = torch.randn(3, 200)
    before, _ = both(model, inputs)
    weight = model[1].weight
    if change == "in place":
        with torch.no_grad():
            weight.mul_(2.0)
    elif change == "data":  # as peft merges an adapter
        weight.data += torch.randn(180, 2) @ torch.randn(2, 150)
    elif change == "optimizer":
        model(inputs).sum().backward()
        torch.optim.AdamW(model.parameters(), lr=0.1).step()
    elif change == "new tensor":
        model[1].weight = nn.Parameter(weight.detach() * 2.0)
    else:
        model.load_state_dict({name: 2.0 * tensor for name, tensor in model.state_dict().items()})
    found, plain = both(model, inputs)
    torch.testing.assert_close(found, plain, atol=1e-4, rtol=1e-5)
    assert (found - before).abs().max() > 0.01


def test_copies_are_kept_while_weights_stand(model, monkeypatch):
    made = []
    pack = torch.ops.mkldnn._reorder_linear_weight
    monkeypatch.setattr(lm.packed_weights, "_pack", lambda w: made.append(w.shape) or pack(w, 64))
    for _ in range(3):
        both(model, torch.randn(2, 200))
    assert len(made) == 2


def test_layers_are_themselves_again_whatever_happens(model):
    with pytest.raises(RuntimeError), packed_weights(model):
        model(torch.randn(2, 3))
    with packed_weights(model), packed_weights(model):
        pass
    assert not any("forward" in layer.__dict__ for layer in model)
    model(torch.randn(2, 200)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_gradients_flow_all_the_same(model):
    with packed_weights(model):
        model(torch.randn(2, 200)).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_large_models_are_left_alone(model, packed, monkeypatch):
    monkeypatch.setattr(lm.packed_weights, "BYTES_AT_MOST", 1000)
    found, plain = both(model, torch.randn(2, 200))
    assert torch.equal(found, plain) and not packed


def gated(kind=LlamaMLP, **config):
    torch.manual_seed(0)
    return nn.Sequential(kind(LlamaConfig(hidden_size=192, intermediate_size=320, **config)))


class Mixed(LlamaMLP):
    """Its parts are a gated MLP's; what it does with them is not."""

    def forward(self, x):
        return self.down_proj(self.act_fn(self.up_proj(x)) * self.gate_proj(x))


class Clamped(LlamaMLP):
    """Shows on large numbers only."""

    def forward(self, x):
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x).clamp(-4, 4))


class Named(LlamaMLP):
    """Llama's own, but for what the input is called."""

    def forward(self, hidden):
        down_proj = self.down_proj(self.act_fn(self.gate_proj(hidden)) * self.up_proj(hidden))
        return down_proj


class Doubled(nn.SiLU):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.fixture
def fused(monkeypatch):
    """How often an MLP ran fused."""
    calls: list[int] = []
    run = lm.packed_weights._gated_mlp
    monkeypatch.setattr(
        lm.packed_weights,
        "_gated_mlp",
        lambda *args, **named: calls.append(1) or run(*args, **named),
    )
    return calls


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("biases", [False, True])
def test_gated_mlps_are_the_same(fused, dtype, biases):
    model = gated(mlp_bias=biases).to(dtype)
    for change in (1.0, 1.5):
        with torch.no_grad():
            model[0].up_proj.weight.mul_(change)
        found, plain = both(model, 5 * torch.randn(1, 7, 192, dtype=dtype))
        tolerance = 1e-6 if dtype == torch.float32 else 0.02
        assert (found - plain).abs().max() < tolerance * plain.abs().max()
    assert len(fused) == 2
    with packed_weights(model):
        model(torch.randn(2, 192, dtype=dtype)).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())
    assert "forward" not in model[0].__dict__


@pytest.mark.parametrize("change", ["gelu", "mixed", "clamped", "activation", "gate", "act_fn"])
def test_other_mlps_and_watched_ones_run_as_they_are(fused, change):
    kind = {"mixed": Mixed, "clamped": Clamped}.get(change, LlamaMLP)
    model = gated(kind, hidden_act="gelu" if change == "gelu" else "silu")
    mlp = model[0]
    if change == "activation":
        mlp.act_fn = Doubled()
    if change == "gate":
        mlp.gate_proj.register_forward_pre_hook(lambda module, args: (2 * args[0],))
    if change == "act_fn":
        mlp.act_fn.register_forward_hook(lambda module, args, output: 2 * output)
    found, plain = both(model, 50 * torch.randn(1, 7, 192))
    torch.testing.assert_close(found, plain, atol=1e-3, rtol=1e-5)
    assert not fused


def test_the_input_may_be_named(fused):
    mlp, x = gated(Named)[0], torch.randn(1, 7, 192)
    with torch.no_grad(), packed_weights(mlp):
        found = mlp(hidden=x)
    torch.testing.assert_close(found, mlp(x), atol=1e-6, rtol=1e-5)
    assert fused


def test_an_mlp_under_adapters_keeps_its_own_forward(fused):
    config = LoraConfig(r=4, target_modules=["up_proj"], init_lora_weights=False)
    found, plain = both(get_peft_model(gated(), config), torch.randn(1, 7, 192))
    torch.testing.assert_close(found, plain, atol=1e-6, rtol=1e-6)
    assert not fused


def test_an_interrupt_while_packing_leaves_no_trace(model, monkeypatch):
    pack, made = lm.packed_weights._pack, []

    def interrupted(weight):
        if made:
            raise KeyboardInterrupt
        made.append(1)
        return pack(weight)

    monkeypatch.setattr(lm.packed_weights, "_pack", interrupted)
    with pytest.raises(KeyboardInterrupt):
        both(model, torch.randn(2, 200))
    assert made and not any("forward" in layer.__dict__ for layer in model)
