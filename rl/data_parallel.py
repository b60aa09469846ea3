"""What a trainer does when several processes train one model, each on its part of a step.

Every process holds the whole model and takes the same steps. DistributedDataParallel averages
gradients from inside its own forward, and ours goes past it, straight to the decoder; so the model
stays unwrapped, and gradients are averaged once, when the last way back of an update is done.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lm.ranks import average_gradients, summed, world


class DataParallel:
    """Stands before a trainer of transformers' kind in a list of bases."""

    accelerator: Any
    model: Any

    def __init__(self, *arguments: Any, **named: Any):
        super().__init__(*arguments, **named)
        if world() > 1:  # to leave a model unwrapped is what accelerate calls `evaluation_mode`
            prepare = self.accelerator.prepare_model
            self.accelerator.prepare_model = partial(prepare, evaluation_mode=True)

    def averaged(self) -> Iterable[nn.Parameter]:
        """The parameters whose gradients are averaged."""
        return self.model.parameters()

    def _clip_grad_norm(self, model: Any) -> Any:
        """transformers calls it once an update, when all its gradients are there."""
        average_gradients(self.averaged())
        return super()._clip_grad_norm(model)  # type: ignore[misc]


def mean_entropy(entropies_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """The mean over all processes' tokens; NaN where no row ran forward."""
    known_BT = mask_BT * entropies_BT.isfinite()
    sums = (entropies_BT.nan_to_num() * known_BT).sum(), known_BT.sum()
    total, tokens = summed(torch.stack(sums))
    return total / tokens


def token_means(counted: list[tuple[float, dict[str, float]]]) -> dict[str, float]:
    """The processes' figures, each weighted by its tokens; one that is NaN is left out."""
    if len(counted) == 1:
        return counted[0][1]
    means = {}
    for name in counted[0][1]:
        known = [(n, each[name]) for n, each in counted if not math.isnan(each[name])]
        total = sum(n for n, _ in known)
        means[name] = sum(n * value for n, value in known) / total if total else math.nan
    return means
