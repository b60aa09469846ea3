"""The weights a method trains, all of them or a low-rank adapter: made ready, and saved."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peft
from peft import PeftModel
from safetensors.torch import load_file
from transformers import set_seed

from lm.hf import HFModel
from lm.merging import merged
from lm.packed_forward import allow_checkpointing
from lm.types import ModelError
from rl.config import LoraConfig, WeightsConfig

ADAPTER = "default"  # TRL and PEFT both expect the trained adapter under this name
REFERENCE = "ref"


def trainable(opened: HFModel, config: WeightsConfig, seed: int) -> HFModel:
    """`opened` with the weights that `config` trains, ready for a trainer.

    Full training takes in the adapter the policy came with, and holds weights in fp32, since steps
    as small as its learning rate are lost in bf16. Raises ModelError where the two do not go
    together.
    """
    full = config.weights == "full"
    model = with_all_weights(opened.model) if full else with_adapter(
        opened.model, config.lora, seed
    )  # fmt: skip
    if config.gradient_checkpointing:
        allow_checkpointing(model)
    return HFModel(model, opened.tokenizer, name=opened.name, ledger=opened.ledger)


def with_all_weights(model: Any) -> Any:
    """`model` with every weight trainable; an adapter it came with is merged in."""
    if getattr(model, "is_quantized", False) or hasattr(model.config, "quantization_config"):
        raise ModelError(
            "weights: full cannot train weights held in 4 bits, as the stage before left them; "
            "write weights: qlora"
        )
    if isinstance(model, PeftModel):
        model = merged(model)
    return model.float().requires_grad_(True)


def with_adapter(model: Any, lora: LoraConfig, seed: int) -> PeftModel:
    """`model` ready to train its adapter: the one it came with, else a new one made from `seed`.

    A model that came with an adapter keeps that adapter's shape; `lora` is for a new one. A new
    adapter changes nothing yet: its B matrices are zero. The base model is wrapped in place.
    Raises ModelError when `lora` does not fit the model, or asks for another shape than it has.
    """
    if isinstance(model, PeftModel):
        _check_shape(model.peft_config[ADAPTER], lora)
        model.set_adapter(ADAPTER)  # loaded frozen; this makes it trainable
        model.peft_config[ADAPTER].inference_mode = False
        return model
    set_seed(seed)  # of the A matrices
    try:
        config = peft.LoraConfig(
            r=lora.r,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=lora.target_modules,
            task_type="CAUSAL_LM",
        )
        return peft.get_peft_model(model, config)  # type: ignore[return-value]
    except Exception as error:  # among them re.error: a text is a pattern
        line = (str(error).splitlines() or [""])[0]
        raise ModelError(
            f"lora: cannot adapt this model ({line[:200]}); write target_modules: all-linear"
        ) from error


def _check_shape(has: Any, lora: LoraConfig) -> None:
    """Refuse a shape that was asked for on purpose and would be passed over in silence."""
    wanted = {"r": lora.r, "lora_alpha": lora.alpha, "lora_dropout": lora.dropout}
    found = {name: getattr(has, name) for name in wanted}
    if lora.target_modules != "all-linear":  # which PEFT has replaced by the layers' names
        wanted["target_modules"] = _sorted(lora.target_modules)
        found["target_modules"] = _sorted(has.target_modules)
    odd = [name for name in wanted if wanted[name] != found[name]]
    if lora != LoraConfig() and odd:
        raise ModelError(
            f"lora: {odd[0].removeprefix('lora_')} is {wanted[odd[0]]!r}, the adapter this stage "
            f"goes on training has {found[odd[0]]!r}; write that, or no lora at all"
        )


def _sorted(modules: Any) -> Any:
    return modules if isinstance(modules, str) else sorted(modules)


@contextmanager
def as_precise(model: Any) -> Iterator[None]:
    """Undo what TRL does to an adapter on 4-bit weights while it makes a trainer: round it to bf16.

    It would begin otherwise than the policy it continues, move in steps of bf16, and go on from a
    checkpoint in fp32.
    """
    before = [(weight, weight.data) for weight in model.parameters()]
    yield
    for weight, data in before:
        if weight.dtype != data.dtype:
            weight.data = data


class Reference:
    """The policy as a stage began, to measure how far training has taken it.

    A new adapter is switched off for that, one that is gone on with is kept a second time beside
    itself, and weights that are all trained are copied. Make it before the first step.
    """

    def __init__(self, model: Any):
        self._live = model
        self._copy = None
        self._fresh = isinstance(model, PeftModel) and _is_new(model)
        if not isinstance(model, PeftModel):
            self._copy = copy.deepcopy(model).requires_grad_(False).eval()
        elif not self._fresh:
            model.add_adapter(REFERENCE, model.peft_config[ADAPTER])
            for name, weight in model.named_parameters():
                if f".{ADAPTER}." in name:
                    twin = model.get_parameter(name.replace(f".{ADAPTER}.", f".{REFERENCE}."))
                    twin.data.copy_(weight.data)
            model.set_adapter(ADAPTER)

    @contextmanager
    def standing_in(self) -> Iterator[Any]:
        """Yields the model that answers as the reference while the block lasts."""
        if self._copy is not None:
            yield self._copy
        elif self._fresh:
            with self._live.disable_adapter():
                yield self._live
        else:
            self._live.set_adapter(REFERENCE)
            try:
                yield self._live
            finally:
                self._live.set_adapter(ADAPTER)


def _is_new(model: PeftModel) -> bool:
    """Whether the adapter changes nothing yet."""
    return not any(
        weight.any()
        for name, weight in model.named_parameters()
        if "lora_B" in name or "lora_embedding_B" in name
    )


def save_weights(live: HFModel, folder: Path) -> None:
    """Write what was trained into `folder`: a PEFT adapter, or a whole model with tokenizer."""
    if isinstance(live.model, PeftModel):
        return save_adapter(live.model, folder)
    live.model.save_pretrained(str(folder))
    live.tokenizer.save_pretrained(str(folder))


def load_weights(live: HFModel, folder: Path) -> None:
    """Set the trained weights to those that `save_weights` wrote into `folder`."""
    saved: dict[str, Any] = {}
    for path in sorted(folder.glob("*.safetensors")):
        saved |= load_file(path)
    if isinstance(live.model, PeftModel):
        peft.set_peft_model_state_dict(live.model, saved, adapter_name=ADAPTER)
    else:
        live.model.load_state_dict(saved, strict=False)  # tied weights are saved once


def save_adapter(model: PeftModel, folder: Path) -> None:
    """Write the adapter's safetensors and config, the same bytes for the same weights."""
    model.save_pretrained(str(folder), selected_adapters=[ADAPTER], save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()  # PEFT keeps a set, whose order changes between processes
    path.write_text(json.dumps(config, indent=1, sort_keys=True))
