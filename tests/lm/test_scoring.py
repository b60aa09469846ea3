"""Log-probabilities, entropies and gradients do not change when the prefix is computed once."""

from __future__ import annotations

import random

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

import lm.scoring
from lm.packed_forward import shares_prefixes
from lm.scoring import completion_logprobs
from lm.tiny import write_tiny_model
from lm.types import ModelError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


def _full(folder):
    return AutoModelForCausalLM.from_pretrained(folder)


def _lora(folder):
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    return get_peft_model(_full(folder), config)


def _rows(shared):
    draw = random.Random(1)

    def ids(low, high):
        return [draw.randrange(3, 250) for _ in range(draw.randint(low, high))]

    start = ids(20, 20) if shared else []
    prompts = [start + ids(1, 9) for _ in range(5)]
    return [*prompts, prompts[0]], [*(ids(1, 8) for _ in prompts), [7]]


def _plain(model, prompts, completions, temperature):
    """Row by row, no cache, no padding: log-probabilities and entropies."""
    rows = []
    for prompt, completion in zip(prompts, completions, strict=True):
        ids = torch.tensor([[*prompt, *completion]])
        logits = model(ids).logits[0, len(prompt) - 1 : -1] / temperature
        table = logits.log_softmax(-1)
        chosen = table.gather(1, torch.tensor(completion)[:, None])[:, 0]
        rows.append((chosen, -(table.exp() * table).sum(-1)))
    return rows


def _gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("build", [_full, _lora])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("at_once", [1 << 24, 1000])  # all logits, those of three places
def test_values_and_gradients_equal_a_plain_forward(folder, monkeypatch, build, shared, at_once):
    monkeypatch.setattr(lm.scoring, "LOGITS_AT_ONCE", at_once)
    model = build(folder)
    prompts, completions = _rows(shared)
    logprobs, entropy, _ = completion_logprobs(
        model, prompts, completions, temperature=0.8, with_entropy=True
    )
    assert entropy is not None and logprobs.dtype == torch.float32
    plain = _plain(model, prompts, completions, 0.8)
    weights = torch.randn(logprobs.shape)
    for i, (chosen, spread) in enumerate(plain):
        torch.testing.assert_close(logprobs[i, : len(chosen)], chosen, atol=1e-4, rtol=0)
        torch.testing.assert_close(entropy[i, : len(chosen)], spread, atol=1e-4, rtol=0)
        assert not logprobs[i, len(chosen) :].any() and not entropy[i, len(chosen) :].any()
    ours = _gradients(model, (logprobs * weights).sum())
    loss = sum((c * weights[i, : len(c)]).sum() for i, (c, _) in enumerate(plain))
    theirs = _gradients(model, loss)
    assert ours.keys() == theirs.keys() and len(ours) > 4
    for name, gradient in theirs.items():
        assert gradient.abs().max() > 0
        scale = gradient.abs().max().item()
        torch.testing.assert_close(ours[name], gradient, atol=1e-4 * scale + 1e-5, rtol=0)


def test_gradient_checkpointing_takes_the_plain_path(folder):
    prompts, completions = _rows(shared=True)
    model = _full(folder).train()
    expected = _gradients(model, completion_logprobs(model, prompts, completions)[0].sum())
    model.activation_checkpointing_enable()
    assert not shares_prefixes(model)
    found = _gradients(model, completion_logprobs(model, prompts, completions)[0].sum())
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-3, rtol=1e-3)
    assert shares_prefixes(model.eval())  # sampling may share all the same


def test_no_rows(folder):
    assert completion_logprobs(_full(folder), [], [])[0].shape == (0, 0)


def test_attention_dropout_of_any_name_takes_the_plain_path():
    config = GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4, attn_pdrop=0.5)
    model = GPT2LMHeadModel(config)
    assert shares_prefixes(model.eval()) and not shares_prefixes(model.train())


def test_adapters_that_are_tokens_are_refused(folder):
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    model = get_peft_model(_full(folder), config)
    with pytest.raises(ModelError, match="use LoRA"):
        completion_logprobs(model, [[5, 6]], [[7]])
