"""vLLM as the sampler of rollouts (`engine: vllm`), started by TRL and asked by us.

TRL makes the engine, on the GPU that trains, and knows how to hand weights over to it. Everything
around the draw is as with our own sampler: the prompts' bytes, stop strings, what is counted,
which process draws what. Only rollouts are drawn here; dev is asked as the evaluator asks.

What is different: log-probabilities are those of the sampling temperature, draws cannot be
repeated (a run that goes on after a kill draws anew), and vLLM rounds in its own way, which is not
corrected for: `logprob_gap` and the parity audit show how much it is.

Written against TRL 1.16 and vLLM's interface as TRL uses it; the tests hold all but vLLM itself.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from lm.hf import HFModel
from lm.together import TogetherModel
from lm.types import ModelError, Row, Sampling
from rl.config import RolloutConfig

DEVICE = "cuda"  # where vLLM runs


def check_engine(method: str, config: RolloutConfig) -> None:
    """Raises ModelError when the engine a spec asks for cannot run here."""
    if config.engine == "ours":
        return
    if not torch.cuda.is_available():
        raise ModelError(
            f"{method}: engine: vllm needs a CUDA GPU, and there is none here; write engine: ours"
        )
    if importlib.util.find_spec("vllm") is None:
        raise ModelError(
            f"{method}: engine: vllm needs vllm, which is not installed; pip install 'trl[vllm]' "
            "or write engine: ours"
        )


def engine_settings(config: RolloutConfig, device: torch.device) -> dict[str, Any]:
    """What TRL must be told to start the engine. Raises ModelError for a model elsewhere.

    TRL's importance correction is off: it belongs to TRL's loss, which is not used.
    """
    if config.engine == "ours":
        return {}
    if device.type != DEVICE:
        raise ModelError(
            f"engine: vllm needs the model on a CUDA GPU, it is on {device.type!r}; write "
            "model: {device: cuda} or engine: ours"
        )
    return {
        "use_vllm": True,
        "vllm_mode": "colocate",
        "vllm_importance_sampling_correction": False,
    }


def asked_through(trainer: Any, live: HFModel) -> EngineModel:
    """`live`, whose answers `trainer`'s engine draws."""
    model = EngineModel(live.model, live.tokenizer, name=live.name, ledger=live.ledger)
    model.trainer = trainer
    return model


class EngineModel(TogetherModel):
    """The live model as vLLM samples it; each process asks an engine of its own."""

    trainer: Any
    loaded: int | None = None  # the optimizer update whose weights the engine has

    def _draw(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        limits: Sequence[int] | None = None,
    ) -> list[Row]:
        if limits is not None:
            raise ModelError("engine: vllm draws no answers with tools; write engine: ours")
        engine, update = self.trainer.vllm_generation, self.trainer.state.global_step
        if update != self.loaded:
            with left_as_they_are(self.model):
                engine.sync_weights()
            self.loaded = update
        engine.generation_kwargs = {
            "stop_token_ids": sorted(self.ends),
            **({"stop": list(sampling.stop)} if sampling.stop else {}),
        }
        asked = [list(prompt) for prompt in prompts for _ in range(sampling.n)]
        _, tokens, logprobs, _ = engine.generate(
            prompts=asked, images=None, num_generations=sampling.n
        )
        if not all(tokens):
            raise ModelError(f"model: {self.name} drew an answer without a single token")
        told = [[_number(best[0]) for best in answer] for answer in logprobs]
        return [
            Row(i, i // sampling.n, list(ids), known)
            for i, (ids, known) in enumerate(zip(tokens, told, strict=True))
        ]


def _number(logprob: float | None) -> float:
    return math.nan if logprob is None else logprob  # as TRL has it from a NaN of vLLM's


@contextmanager
def left_as_they_are(model: Any) -> Iterator[None]:
    """Puts back the weights that an adapter is added to and taken off again, which rounds.

    TRL hands an adapter over that way, before every step.
    """
    held = [
        (weight, weight.detach().clone())
        for name, weight in model.named_parameters()
        if ".base_layer." in name
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, before in held:
                weight.copy_(before)
