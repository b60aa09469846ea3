"""Timing two sides in turn, and saying what came out."""

from __future__ import annotations

import argparse
import ctypes
import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

OURS = "ours"


@dataclass(frozen=True)
class Timed:
    """Seconds of every repeat, and the highest memory of the process (or GPU) in MB."""

    seconds: list[float]
    peak_mb: float

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def __str__(self) -> str:
        every = ", ".join(f"{s:.2f}" for s in self.seconds)
        return f"median {self.median:8.2f} s  peak {self.peak_mb:6.0f} MB  (all: {every})"


def race(
    case: str,
    sides: Mapping[str, Callable[[], Any]],
    device: str,
    repeats: int,
    peer_repeats: int,
    tokens: int | None = None,
) -> None:
    """Run the sides in turn until each has had its repeats; print all and the ratio.

    `tokens` are those one run of any side produces.
    """
    found: dict[str, list[float]] = {name: [] for name in sides}
    peaks = dict.fromkeys(sides, 0.0)
    for turn in range(max(repeats, peer_repeats)):
        for name, side in sides.items():
            if turn < (repeats if name == OURS else peer_repeats):
                seconds, peak = timed(side, device)
                found[name].append(seconds)
                peaks[name] = max(peaks[name], peak)
                say(f"{case}: {name} took {seconds:.2f} s")
    conclude(case, {name: Timed(found[name], peaks[name]) for name in sides}, tokens)


def conclude(case: str, results: Mapping[str, Timed], tokens: int | None = None) -> None:
    """Print every side, then the ratio: the median of the fastest peer over ours."""
    print(f"\n{case}")
    for name, result in results.items():
        rate = f"  {tokens / result.median:7.1f} tok/s" if tokens else ""
        print(f"  {name:<22}{result}{rate}")
    best = min(result.median for name, result in results.items() if name != OURS)
    print(f"ratio {case} {best / results[OURS].median:.2f}", flush=True)


def timed(side: Callable[[], Any], device: str) -> tuple[float, float]:
    """Seconds and peak memory in MB of one call.

    A side of which only a part counts returns the seconds of that part, as a float.
    """
    reset_peak(device)
    start = time.perf_counter()
    found = side()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    return found if isinstance(found, float) else seconds, peak_mb(device)


def reset_peak(device: str) -> None:
    """Let go of what earlier runs left, so that a peak is the next run's own."""
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    else:  # Linux with glibc
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts over


def peak_mb(device: str) -> float:
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def options(
    description: str,
    cases: Sequence[str],
    argv: Sequence[str] | None,
    hidden: Sequence[str] = (),
) -> Any:
    """What the command line says. Cases in `hidden` are run when named, and not otherwise."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument(
        "--only", nargs="+", choices=[*cases, *hidden], default=list(cases), metavar="CASE",
        help=", ".join(cases),
    )  # fmt: skip
    parser.add_argument("--repeats", type=int, default=3, help="of our side")
    parser.add_argument("--peer-repeats", type=int, default=2)
    parser.add_argument("--vllm", metavar="PYTHON", help="an interpreter that has vLLM")
    parser.add_argument("--llama", metavar="PYTHON", help="one with llama-cpp-python[server]")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all?")
    return parser.parse_args(argv)


def print_setting(chosen: Any) -> None:
    """One line that says what ran where."""
    packages = []
    for name in ("torch", "transformers", "trl", "lm_eval", "vllm"):
        try:
            packages.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    device = torch.cuda.get_device_name() if chosen.device.startswith("cuda") else "cpu"
    print(
        f"# {device}, {torch.get_num_threads()} threads, {chosen.model}, {chosen.dtype}, "
        f"{', '.join(packages)}, commit {commit or 'unknown'}",
        flush=True,
    )


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
