"""The most memory this process has held, read at the end of a stage; what is free, given back.
Loads no torch."""

from __future__ import annotations

import ctypes
import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peaks() -> None:
    """Begin anew: what was held before does not count. Where the system cannot forget (only Linux
    can, proc(5)), `peak_bytes` stays the peak of the whole process."""
    with suppress(OSError):
        RESET.write_text("5")
    if (torch := _torch_on_cuda()) is not None:
        torch.cuda.reset_peak_memory_stats()


def peak_bytes() -> int:
    """The largest resident set since `reset_peaks`, in bytes."""
    try:
        lines = STATUS.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def peak_gpu_bytes() -> int:
    """The most that torch has allocated on the current CUDA device, 0 without one, in bytes."""
    torch = _torch_on_cuda()
    return 0 if torch is None else torch.cuda.max_memory_allocated()


def give_back() -> None:
    """Hand freed memory back to the system, before a model is loaded: glibc keeps what a model that
    is gone held in the heap of each thread, 0.6 GB a stage at 135M parameters."""
    with suppress(OSError, AttributeError):  # other systems' C libraries do so by themselves
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _torch_on_cuda() -> Any:
    """torch, where somebody has loaded it and uses a GPU with it."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_initialized() else None
