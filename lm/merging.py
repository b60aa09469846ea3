"""One plain model out of weights, an adapter and 4-bit rounding, as others can load it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from lm.hf import HFModel, load_model, put_adapter


def load_merged(
    source: str, *, adapter: Path | None = None, quantization: str | None = None
) -> HFModel:
    """Load as `lm.hf.load_model` does, on the CPU and in float32, with the adapter taken in.

    Weights that `quantization` rounds are held as the numbers it rounds them to, so the model
    answers as the quantized one does. Raises ModelError.
    """
    opened = load_model(source, device="cpu", dtype="float32", quantization=quantization)
    model = opened.model
    if quantization is not None:
        model = model.dequantize()
    if adapter is not None:
        model = merged(put_adapter(model, adapter))
    return HFModel(model.eval(), opened.tokenizer, name=source)


def merged(adapted: Any) -> Any:
    """The transformers model inside a PeftModel, its adapter added to the weights.

    Where one of two tied matrices has an adapter they part first: PEFT would add it to both.
    """
    causal = adapted.get_base_model()
    ends = causal.get_input_embeddings(), causal.get_output_embeddings()
    if causal.config.tie_word_embeddings and any(hasattr(end, "base_layer") for end in ends):
        _untie(causal, *ends)
    return adapted.merge_and_unload()


def _untie(causal: Any, table: Any, head: Any) -> None:
    holder = getattr(head, "base_layer", head)
    holder.weight = nn.Parameter(holder.weight.detach().clone(), requires_grad=False)
    assert holder.weight is not getattr(table, "base_layer", table).weight
    causal.config.tie_word_embeddings = False


@torch.no_grad()
def logits(model: HFModel, ids: list[int]) -> torch.Tensor:
    """(T, V) float32 logits of one row of tokens, through the model's own forward."""
    row = torch.tensor([ids], device=model.device)
    return model.model(input_ids=row, use_cache=False).logits[0].float()
