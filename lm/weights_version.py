"""What stands for the weights as they are now, so that nothing computed from older ones is used."""

from __future__ import annotations

from typing import Any

from torch import Tensor

SAMPLED = 32  # entries of a tensor


def weights_version(model: Any) -> tuple[Any, ...]:
    """Changes with every change of a parameter or buffer and every switch of an adapter."""
    switches = [
        (
            layer.disable_adapters,
            tuple(layer.active_adapters),
            layer.merged,
            repr(getattr(layer, "scaling", None)),
        )
        for layer in model.modules()
        if hasattr(layer, "disable_adapters") and hasattr(layer, "merged")
    ]
    tensors = [*model.parameters(), *model.buffers()]
    return tuple(map(tensor_version, tensors)), tuple(switches)


def tensor_version(tensor: Tensor) -> tuple[Any, ...]:
    """Changes with every in-place change that autograd counts.

    One through `tensor.data`, as peft merges an adapter, escapes that count; a few entries are read
    for its sake, so a change of other entries alone goes unnoticed.
    """
    count = 0 if tensor.is_inference() else tensor._version
    flat = tensor.detach().reshape(-1)
    sample = flat[:: max(1, len(flat) // SAMPLED)].tolist()
    return id(tensor), tensor.data_ptr(), count, tuple(sample)
