"""A GGUF file becomes a safetensors folder once; after that it loads in under two seconds."""

from __future__ import annotations

import hashlib
from pathlib import Path

from lm.staging import staged_folder
from lm.types import ModelError


def convert_gguf(path: Path, cache: Path, target: Path | None = None) -> Path:
    """Dequantize `path` to fp32 into `target` (default: named by its hash in `cache`).

    Raises ModelError when the file is missing, is no GGUF, is damaged or of an unknown kind.
    """
    if not path.is_file():
        raise ModelError(f"model: no file {str(path)!r}; name an existing .gguf file")
    if target is None:
        with path.open("rb") as file:
            target = cache / f"gguf-{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"
    if (target / "model.safetensors").exists():
        return target
    _check(path)
    print(f"model: dequantizing {path.name} (once, about half a minute)", flush=True)
    with staged_folder(target) as draft:
        _dequantize(path, draft)
    return target


def _check(path: Path) -> None:
    """Read the header and the tensor table; a truncated or foreign file ends here."""
    from gguf import GGUFReader

    try:
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise ValueError("it does not start with the letters GGUF")
        reader = GGUFReader(path)
        for tensor in reader.tensors:
            if tensor.data_offset + tensor.n_bytes > path.stat().st_size:
                raise ValueError(f"tensor {tensor.name} lies behind the end of the file")
    except (ValueError, KeyError, IndexError, OverflowError, OSError, MemoryError) as error:
        line = (str(error).splitlines() or [""])[0]
        raise ModelError(
            f"model: {str(path)!r} is not a readable GGUF file ({line}); download it again"
        ) from error


def _dequantize(path: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        model = AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
        )
    except Exception as error:  # the converters raise whatever their parts raise
        line = (str(error).splitlines() or [""])[0]
        raise ModelError(
            f"model: transformers cannot read {path.name!r} ({type(error).__name__}: {line}); "
            "name a Hugging Face folder of this model"
        ) from error
    model.config._name_or_path = ""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
