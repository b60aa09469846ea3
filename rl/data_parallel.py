"""What a trainer does when several processes train one model, each on its part of a step.

Every process holds the whole model and takes the same steps. DistributedDataParallel averages
gradients from inside its own forward, and ours goes past it, straight to the decoder; so the model
stays unwrapped, and gradients are averaged once, when the last way back of an update is done.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from torch import nn

from lm.ranks import average_gradients, world


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
