"""The low-rank adapter a weight method trains: put on, taken up again, and saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
from transformers import set_seed

from lm.types import ModelError
from rl.config import LoraConfig

ADAPTER = "default"  # TRL and PEFT both expect the trained adapter under this name


def with_adapter(model: Any, lora: LoraConfig, seed: int) -> peft.PeftModel:
    """`model` ready to train its adapter: the one it came with, else a new one made from `seed`.

    A model that came with an adapter keeps that adapter's shape; `lora` is for a new one. A new
    adapter changes nothing yet: its B matrices are zero. The base model is wrapped in place.
    Raises ModelError when `lora` does not fit the model, or asks for another shape than it has.
    """
    if isinstance(model, peft.PeftModel):
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


def save_adapter(model: peft.PeftModel, folder: Path) -> None:
    """Write the adapter's safetensors and config, the same bytes for the same weights."""
    model.save_pretrained(str(folder), selected_adapters=[ADAPTER], save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()  # PEFT keeps a set, whose order changes between processes
    path.write_text(json.dumps(config, indent=1, sort_keys=True))
