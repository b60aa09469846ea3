"""What a run ran on: versions, commit, device. Written to run.json and shown by `doctor`."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "trl", "peft", "dspy", "datasets", "pandas", "tasklift")
ROOMS = (
    "tasks",
    "lm",
    "evaluation",
    "reward_models",
    "rl",
    "prompt_opt",
    "reports",
    "experiments",
)


def versions() -> dict[str, str]:
    """Version of Python and of each package the results hang on ("missing" when not installed)."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def git_commit() -> str | None:
    """Commit of this code, with "+" when the tree has uncommitted changes; None outside git."""
    folder = Path(__file__).resolve().parent.parent
    try:
        if Path(_git(folder, "rev-parse", "--show-toplevel")).resolve() != folder:
            return None  # installed somewhere inside another project's repository
        commit = _git(folder, "rev-parse", "HEAD")
        return commit + ("+" if _git(folder, "status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def surroundings(device: str, dtype: str) -> dict[str, Any]:
    """What results hang on besides the spec: device, dtype, threads, versions, commit.

    `device` and `dtype` as in a spec; raises ModelError when they are not to be had. Loads torch.
    """
    import torch

    from lm.hf import pick_device, pick_dtype
    from lm.ranks import world

    where = pick_device(device)
    cuda = where.type == "cuda"
    cpu = f"cpu ({platform.machine()}, {os.cpu_count()} cores)"
    return {
        "device": torch.cuda.get_device_name(where) if cuda else cpu,
        "device_type": where.type,
        "dtype": str(pick_dtype(dtype, where)).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "processes": world(),
        "versions": versions(),
        "git_commit": git_commit(),
    }


def stray_packages() -> list[str]:
    """A line for each package of ours that another one of the same name hides."""
    home = Path(__file__).resolve().parent.parent
    lines = []
    for room in ROOMS:
        spec = find_spec(room)
        folders = (spec.submodule_search_locations if spec else None) or []
        places = [Path(folder).resolve() for folder in folders]
        if home / room not in places:
            found = places[0] if places else "nothing"
            lines.append(f"package {room!r} is {found}, not {home / room}; rename or move it away")
    return lines


def pin_threads() -> None:
    """One thread a core: more make two cores slower, and another number changes the last bits."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))
