"""Would a resume go on from where the run is? Asked each time it can be answered.

Once a checkpoint is written, what a resume would read is compared bit for bit with what is in
memory: whatever is missing or stale there would make another run of it without a word (PEFT leaves
out modules it does not know, a critic among them). And when a run that was killed does go on, the
step after the checkpoint is taken a second time, so its two rows can be compared.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor
from transformers.trainer_pt_utils import safe_globals

from lm.ranks import rank, world
from rl.findings import Finding

CLOCK = ("seconds",)  # columns that may differ


def checkpoint_matches(
    folder: Path,
    step: int,
    *,
    model: Any,
    optimizer: Any,
    scheduler: Any,
    critic: torch.nn.Module | None = None,
) -> Finding:
    """Whether `folder` holds the live weights, critic, optimizer, schedule and random state.

    Call it right after the checkpoint is written, before anything draws a random number. A whole
    model may be in several safetensors files. One finding, which names what differs first.
    """
    found = [
        *_compared(
            folder, _weights_files(folder, model), lambda saved: _weights(model, critic, saved)
        ),
        *_compared(folder, ["optimizer.pt"], lambda _: optimizer.state_dict()),
        *_compared(folder, ["scheduler.pt"], lambda _: scheduler.state_dict()),
        *_compared(folder, [_random_file()], lambda _: _random_state()),
    ]
    if critic is not None:
        found += _compared(folder, ["critic.safetensors"], lambda _: critic.state_dict())
    name = "checkpoint"
    if not found:
        return Finding(name, "ok", step, f"what a resume reads at step {step} is what is live")
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    said = f"a resume from step {step} would go astray: {found[0]}{more}"
    return Finding(name, "tripped", step, said)


def _random_file() -> str:
    return "rng_state.pth" if world() == 1 else f"rng_state_{rank()}.pth"


def logged_step(metrics: Path, step: int) -> dict[str, Any] | None:
    """The train row of `step` in metrics.jsonl, if a run got that far before it was killed.

    To be read before the stage goes back to its checkpoint, which drops the row.
    """
    lines = metrics.read_text("utf-8").splitlines(keepends=True) if metrics.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("\n")]  # the last may be torn
    return next((r for r in rows if (r["step"], r["phase"]) == (step, "train")), None)


def same_step(before: Mapping[str, Any], after: Mapping[str, Any], *, exact: bool) -> Finding:
    """Two rows of metrics.jsonl of one step, taken by the killed run and by the resumed one.

    `exact` where the same work gives the same bits, as on a CPU; elsewhere a difference is only
    noted.
    """
    step, name = after["step"], "resumed step"
    columns = sorted((before.keys() | after.keys()) - set(CLOCK))
    odd = [key for key in columns if not _same_figure(before.get(key), after.get(key))]
    if not odd:
        said = f"step {step}, taken again after a kill, came out the same"
        return Finding(name, "ok", step, said)
    shown = f"{odd[0]} was {before.get(odd[0])}, then {after.get(odd[0])}"
    more = f" ({len(odd)} columns differ)" if len(odd) > 1 else ""
    said = f"step {step}, taken again after a kill, came out otherwise: {shown}{more}"
    return Finding(name, "tripped" if exact else "note", step, said)


def _same_figure(a: Any, b: Any) -> bool:
    return a == b or (a != a and b != b)  # NaN is NaN


def _compared(
    folder: Path, files: Sequence[str], live: Callable[[dict[str, Any]], Mapping[str, Any]]
) -> Iterator[str]:
    """What is wrong with `files`; `live(saved)` is what together they should hold."""
    saved: dict[str, Any] = {}
    for file in files:
        if not (folder / file).is_file():
            yield f"{file} is missing"
            return
        saved |= _read(folder / file)
    yield from (f"{files[0]}: {what}" for what in differences(saved, live(saved)))


def _read(path: Path) -> dict[str, Any]:
    if path.suffix == ".safetensors":
        return load_file(path)
    with safe_globals():
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def _weights_files(folder: Path, model: Any) -> list[str]:
    if isinstance(model, PeftModel):
        return ["adapter_model.safetensors"]
    parts = sorted(path.name for path in folder.glob("model-*.safetensors"))
    return parts or ["model.safetensors"]


def _weights(
    model: Any, critic: torch.nn.Module | None, saved: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The live tensors a checkpoint of `model` holds, by name.

    Of tied weights the one counts that is saved; a critic inside the model has its own file.
    """
    if isinstance(model, PeftModel):
        # False: with "auto" peft would ask the Hub about the base model's vocabulary
        return get_peft_model_state_dict(model, save_embedding_layers=False)
    tensors = model.state_dict()
    held = {tensors[name].data_ptr() for name in saved if name in tensors}
    held |= {p.data_ptr() for p in critic.parameters()} if critic is not None else set()
    return {n: t for n, t in tensors.items() if n in saved or t.data_ptr() not in held}


def _random_state() -> dict[str, Any]:
    """As transformers' Trainer saves it; that of CUDA devices apart."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "cpu": torch.random.get_rng_state(),
    }


def differences(saved: Any, live: Any, where: str = "") -> Iterator[str]:
    """Where two nests of mappings, sequences, tensors and plain values are not bit-equal."""
    at = where or "it"
    if isinstance(live, Mapping) and isinstance(saved, Mapping):
        if where == "" and "cuda" in saved:  # draws on the device are seeded at each step
            saved = {key: value for key, value in saved.items() if key != "cuda"}
        for key in sorted(saved.keys() ^ live.keys(), key=str):
            yield f"{key} is only {'in the file' if key in saved else 'in memory'}"
        for key in (key for key in live if key in saved):
            yield from differences(saved[key], live[key], f"{where}.{key}" if where else str(key))
    elif isinstance(live, list | tuple) and isinstance(saved, list | tuple):
        if len(saved) != len(live):
            yield f"{at} has {len(saved)} entries, live {len(live)}"
        for i, (a, b) in enumerate(zip(saved, live, strict=False)):
            yield from differences(a, b, f"{at}[{i}]")
    elif isinstance(live, Tensor) and isinstance(saved, Tensor):
        if not _equal_bits(saved, live):
            yield f"{at} differs"
    elif isinstance(live, np.ndarray) and isinstance(saved, np.ndarray):
        if not np.array_equal(saved, live):
            yield f"{at} differs"
    elif not _same_figure(saved, live):
        yield f"{at} is {saved!r}, live {live!r}"


def _equal_bits(a: Tensor, b: Tensor) -> bool:
    """Bits rather than values: a NaN equals itself, and 0 is not -0."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    a, b = (t.detach().cpu().contiguous().view(-1).view(torch.uint8) for t in (a, b))
    return torch.equal(a, b)
